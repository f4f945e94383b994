// SPDX-License-Identifier: GPL-2.0

//! The word that the table holds for a page.
//!
//! | bits | |
//! |---|---|
//! | 0..3 | tag |
//! | 3..19 | when it was written, in units of 32 ms, modulo 2^16 (35 minutes) |
//! | 19..64 | tag `One*`: bits 12..57 of the gVA, the rest is their sign |
//! | 19..43, 43..64 | tag `Cell`: the cell's number, and a version of it |

use crate::addr::{Gva, MapSize};
use crate::cast;

const STAMP_SHIFT: u32 = 3;
const STAMP_MASK: u64 = 0xffff;
const TICK_SHIFT: u32 = 5;
const PAYLOAD_SHIFT: u32 = 19;
const PAYLOAD_MASK: u64 = u64::MAX << PAYLOAD_SHIFT;
/// From a gVA's bit 12 to the payload.
const GVA_SHIFT: u32 = 7;
const CELL_BITS: u32 = 24;
const CELL_MASK: u64 = (1 << CELL_BITS) - 1;

/// Cells that a slot can name.
pub(crate) const MAX_CELLS: u32 = 1 << CELL_BITS;
/// A clock on another CPU may be that much ahead.
const SKEW_TICKS: u64 = 32;

/// What a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Empty,
    One(Gva, MapSize),
    Cell { id: u32, version: u32 },
    KernelOnly,
    PageTable,
    TooMany,
}

/// A slot's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u64);

impl Slot {
    pub(crate) const EMPTY: Self = Self(0);

    /// The word for that content, written `now_ms`.
    pub(crate) fn new(content: Content, now_ms: u64) -> Self {
        let (tag, payload) = match content {
            Content::Empty => return Self::EMPTY,
            Content::One(gva, size) => {
                let tag = match size {
                    MapSize::M4K => 1,
                    MapSize::M2M => 2,
                    MapSize::M1G => 3,
                };
                (tag, gva.raw() << GVA_SHIFT & PAYLOAD_MASK)
            }
            Content::Cell { id, version } => {
                let both = u64::from(id) & CELL_MASK | u64::from(version) << CELL_BITS;
                (4, both << PAYLOAD_SHIFT)
            }
            Content::KernelOnly => (5, 0),
            Content::PageTable => (6, 0),
            Content::TooMany => (7, 0),
        };
        Self(payload | tick(now_ms) << STAMP_SHIFT | tag)
    }

    /// What the word says.
    #[inline]
    pub(crate) fn content(self) -> Content {
        let gva = || {
            let raw = cast::signed(self.0 & PAYLOAD_MASK) >> GVA_SHIFT;
            Gva::stored(cast::unsigned(raw))
        };
        match self.0 & 7 {
            1 => Content::One(gva(), MapSize::M4K),
            2 => Content::One(gva(), MapSize::M2M),
            3 => Content::One(gva(), MapSize::M1G),
            4 => {
                let both = self.0 >> PAYLOAD_SHIFT;
                Content::Cell {
                    id: cast::low_u32(both & CELL_MASK),
                    version: cast::low_u32(both >> CELL_BITS),
                }
            }
            5 => Content::KernelOnly,
            6 => Content::PageTable,
            7 => Content::TooMany,
            _ => Content::Empty,
        }
    }

    /// Whether the word may have been written `max_age_ms` ago or earlier,
    /// given that it was written at most 34 minutes ago.
    #[inline]
    pub(crate) fn is_older(self, now_ms: u64, max_age_ms: u32) -> bool {
        let stamp = self.0 >> STAMP_SHIFT & STAMP_MASK;
        let ticks = tick(now_ms).wrapping_sub(stamp) & STAMP_MASK;
        if ticks > STAMP_MASK - SKEW_TICKS {
            return false;
        }
        ticks.wrapping_add(1) << TICK_SHIFT > u64::from(max_age_ms)
    }
}

fn tick(now_ms: u64) -> u64 {
    now_ms >> TICK_SHIFT & STAMP_MASK
}
