// SPDX-License-Identifier: GPL-2.0

//! A guest that reports its memory: buffers of a page, as the hypercall takes them.

use clap::ValueEnum;
use gvahint_core::wire::{SET_COUNT_SHIFT, SET_KIND_SHIFT, SET_ORDER_SHIFT};

/// Words of a report's buffer.
const BUFFER: usize = 512;
/// Kind of a set with a gVA.
const MAPPED: u64 = 1;
/// 4 KiB pages in 1 GiB.
const GIB: u64 = 1 << 18;
/// Pages of the addresses at which it is mapped: half of a program's.
const ADDRESSES: u64 = 1 << 34;

/// In which order a guest reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Walk {
    /// By rising frame.
    InOrder,
    /// No frame near the one before.
    Scattered,
}

/// How a guest maps its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mapping {
    /// Pages of 4 KiB, each at an address of its own.
    Pages,
    /// Pages of 4 KiB, contiguous over 2 MiB, reported as one set.
    Runs,
    /// Pages of 2 MiB.
    Large,
}

/// A guest.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// Its memory in pages of 4 KiB, a power of two.
    pub pages: u64,
    /// How it maps them.
    pub mapping: Mapping,
    /// In which order it reports them.
    pub walk: Walk,
}

impl Guest {
    /// A guest of that many GiB, a power of two, that maps pages and reports in order.
    pub fn gib(gib: u64) -> Self {
        Self {
            pages: gib * GIB,
            mapping: Mapping::Pages,
            walk: Walk::InOrder,
        }
    }

    /// Calls `apply` with each report's buffer in turn.
    pub fn report(&self, mut apply: impl FnMut(&[u64])) {
        let mut buffer = Vec::with_capacity(BUFFER);
        for n in 0..self.sets() {
            buffer.extend(self.set(n));
            if buffer.len() == BUFFER {
                apply(&buffer);
                buffer.clear();
            }
        }
        if !buffer.is_empty() {
            apply(&buffer);
        }
    }

    fn order(&self) -> u32 {
        match self.mapping {
            Mapping::Pages => 0,
            Mapping::Runs | Mapping::Large => 9,
        }
    }

    fn sets(&self) -> u64 {
        self.pages >> self.order()
    }

    /// The words of the set that is reported as number `n`.
    fn set(&self, n: u64) -> [u64; 2] {
        let at = match self.walk {
            Walk::InOrder => n,
            Walk::Scattered => scatter(n, self.sets()),
        };
        let order = self.order();
        let map_order = match self.mapping {
            Mapping::Large => 9,
            _ => 0,
        };
        let gfn = at << order;
        let header = gfn
            | u64::from(order) << SET_ORDER_SHIFT
            | MAPPED << SET_KIND_SHIFT
            | 1 << SET_COUNT_SHIFT;
        [
            header,
            scatter(at, ADDRESSES >> order) << 12 << order | map_order,
        ]
    }
}

/// Another number below `range`, a power of two; a permutation of these.
pub fn scatter(n: u64, range: u64) -> u64 {
    let mask = range - 1;
    let half = range.trailing_zeros() / 2;
    let mut n = n & mask;
    for odd in [0x9e37_79b9_7f4a_7c15u64, 0xbf58_476d_1ce4_e5b9] {
        n ^= n >> half.max(1);
        n = n.wrapping_mul(odd) & mask;
    }
    n
}
