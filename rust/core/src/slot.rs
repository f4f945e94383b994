// SPDX-License-Identifier: GPL-2.0

//! The words that nodes of the table hold: hints, and links to nodes.
//!
//! | bits | |
//! |---|---|
//! | 0..3 | tag; 0 in a word that is not 0: a child |
//! | 3..19 | a hint: when it was written, in units of 32 ms, modulo 2^16 (35 minutes) |
//! | 19..64 | tag `One*`: bits 12..57 of the gVA of the first frame, the rest is their sign |
//! | 19 | tag 5: `KernelOnly` or, if set, `Anywhere` |
//! | 19 | tag `PageTable`: whether its frames are kept young |
//! | 19..49, 49..64 | tag `Cell`: the cell's number, and a version of it |
//! | 3..27 | a child: the node's number |
//! | 27..37 | a child: how many of its slots are in use |
//! | 37..64 | a child: when it was last cleaned, in units of 2^14 ms |
//!
//! A node that waits to be taken back holds, in its first slot, the number of
//! the next one in a word with the tag `Retired`: who still reads it declines.

use crate::addr::{Gva, MapSize};
use crate::cast;

const STAMP_SHIFT: u32 = 3;
const STAMP_MASK: u64 = 0xffff;
const TICK_SHIFT: u32 = 5;
const PAYLOAD_SHIFT: u32 = 19;
const PAYLOAD_MASK: u64 = u64::MAX << PAYLOAD_SHIFT;
/// From a gVA's bit 12 to the payload.
const GVA_SHIFT: u32 = 7;
const CELL_BITS: u32 = 30;
const CELL_MASK: u64 = (1 << CELL_BITS) - 1;
/// A clock on another CPU may be that much ahead.
const SKEW_TICKS: u64 = 32;

/// Longest `hint_max_age_ms`: a hint of that age is dead under any setting.
pub(crate) const OLDEST_MS: u32 = 600_000;

/// What a hint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Empty,
    Child(Child),
    One(Gva, MapSize),
    Cell {
        id: u32,
        version: u32,
    },
    KernelOnly,
    /// Under gVAs that nobody listed: the context drops them all.
    Anywhere,
    PageTable {
        kept: bool,
    },
    /// No hint: the node is out of use.
    Retired,
}

/// A slot's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u64);

impl Slot {
    pub(crate) const EMPTY: Self = Self(0);

    /// The word for that content, written `now_ms`.
    #[inline]
    pub(crate) fn new(content: Content, now_ms: u64) -> Self {
        let (tag, payload) = match content {
            Content::Empty => return Self::EMPTY,
            Content::Child(child) => return Self(child.0),
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
            Content::Anywhere => (5, 1 << PAYLOAD_SHIFT),
            Content::PageTable { kept } => (6, u64::from(kept) << PAYLOAD_SHIFT),
            Content::Retired => (7, 0),
        };
        Self(payload | tick(now_ms) << STAMP_SHIFT | tag)
    }

    /// The same hint for a piece of its range that starts `pages` later.
    #[inline]
    pub(crate) fn piece(self, pages: u64) -> Self {
        match self.content() {
            // Bits 12 and up of a gVA count pages; the sum was checked.
            Content::One(..) => Self(self.0.wrapping_add(pages << PAYLOAD_SHIFT)),
            _ => self,
        }
    }

    /// Whether it is no link and not empty.
    #[inline]
    pub(crate) fn is_hint(self) -> bool {
        self.0 & 7 != 0
    }

    /// Whether what was seen of a frame's gVAs says that it is no page table; so not of a node.
    #[inline]
    pub(crate) fn is_data(self) -> bool {
        matches!(self.0 & 7, 1..=5)
    }

    /// Whether two words differ in nothing but when they were written.
    #[inline]
    pub(crate) fn says_as(self, other: Self) -> bool {
        (self.0 ^ other.0) & !(STAMP_MASK << STAMP_SHIFT) == 0
    }

    /// The same word, of a page table that is kept young or not.
    pub(crate) fn with_kept(self, kept: bool) -> Self {
        Self(self.0 & !(1 << PAYLOAD_SHIFT) | u64::from(kept) << PAYLOAD_SHIFT)
    }

    /// Whether its frames are kept young.
    #[inline]
    pub(crate) fn is_kept(self) -> bool {
        let kept = 6 | 1 << PAYLOAD_SHIFT;
        self.0 & (7 | 1 << PAYLOAD_SHIFT) == kept
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
            5 if self.0 >> PAYLOAD_SHIFT & 1 != 0 => Content::Anywhere,
            5 => Content::KernelOnly,
            6 => Content::PageTable {
                kept: self.0 >> PAYLOAD_SHIFT & 1 != 0,
            },
            7 => Content::Retired,
            _ if self.0 == 0 => Content::Empty,
            _ => Content::Child(Child(self.0)),
        }
    }

    /// Whether the hint may have been written `max_age_ms` ago or earlier,
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

    /// The first word of a node that waits to be taken back, before `next`.
    pub(crate) fn retired(next: u32) -> Self {
        Self(u64::from(next) << PAYLOAD_SHIFT | 7)
    }

    /// The node after one that waits to be taken back.
    pub(crate) fn next_retired(self) -> u32 {
        cast::low_u32(self.0 >> PAYLOAD_SHIFT)
    }
}

#[inline]
fn tick(now_ms: u64) -> u64 {
    now_ms >> TICK_SHIFT & STAMP_MASK
}

/// A link to a node, with what is known of it.
///
/// # Invariants
///
/// A hint in the node was written at most 10 minutes before the node was last
/// cleaned, or at most `CLEAN` units after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child(pub(crate) u64);

impl Child {
    const ID_SHIFT: u32 = 3;
    const ID_MASK: u64 = 0xff_ffff;
    const USED_SHIFT: u32 = 27;
    const USED_MASK: u64 = 0x3ff;
    const CLEANED_SHIFT: u32 = 37;
    const CLEANED_UNIT: u32 = 14;
    /// A node is cleaned when it is written to and was not for so long (4 minutes).
    const CLEAN: u64 = 16;
    /// No hint of a node that was not cleaned for so long is alive (17 minutes).
    const HORIZON: u64 = 64;

    #[inline]
    pub(crate) fn new(id: u32, used: u64, now_ms: u64) -> Self {
        let id = (u64::from(id) & Self::ID_MASK) << Self::ID_SHIFT;
        let cleaned = now_ms >> Self::CLEANED_UNIT << Self::CLEANED_SHIFT;
        Self(id | (used & Self::USED_MASK) << Self::USED_SHIFT | cleaned)
    }

    #[inline]
    pub(crate) fn id(self) -> u32 {
        cast::low_u32(self.0 >> Self::ID_SHIFT & Self::ID_MASK)
    }

    #[inline]
    pub(crate) fn used(self) -> u64 {
        self.0 >> Self::USED_SHIFT & Self::USED_MASK
    }

    /// The link to another node that is as clean as this one.
    #[inline]
    pub(crate) fn with(self, id: u32, used: u64) -> Self {
        let fresh = Self::new(id, used, 0);
        Self(fresh.0 | self.0 >> Self::CLEANED_SHIFT << Self::CLEANED_SHIFT)
    }

    #[inline]
    fn units(self, now_ms: u64) -> u64 {
        let cleaned = self.0 >> Self::CLEANED_SHIFT;
        (now_ms >> Self::CLEANED_UNIT).saturating_sub(cleaned)
    }

    /// Whether no hint in the node is alive.
    #[inline]
    pub(crate) fn is_dead(self, now_ms: u64) -> bool {
        self.units(now_ms) >= Self::HORIZON
    }

    /// Whether it has to be cleaned before it is written to.
    #[inline]
    pub(crate) fn is_dirty(self, now_ms: u64) -> bool {
        self.units(now_ms) >= Self::CLEAN
    }
}
