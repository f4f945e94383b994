// SPDX-License-Identifier: GPL-2.0

//! What one would use instead. Each map checks the same sets, keeps one gVA a frame and
//! when it was reported, and heeds the age in a lookup. None of them can be read beside
//! a writer, tell sizes or several gVAs, or give memory back by ranges: all of that
//! is left out in their favour.

pub mod btree;
pub mod fifo;
pub mod hash;
pub mod radix;

use crate::maps::{limits, query, NOW_MS};
use gvahint_core::report::{Kind, Sets};

/// Milliseconds in the unit of an entry's age, as log2.
const TICK_BITS: u32 = 5;
/// Bits of an entry's age.
const STAMP_BITS: u32 = 12;

/// An entry: the gVA's page, and below it when it was reported.
fn entry(gva: u64) -> u64 {
    gva | NOW_MS >> TICK_BITS & ((1 << STAMP_BITS) - 1)
}

/// The entry's gVA, if it is not too old.
#[inline]
fn gva(entry: u64) -> Option<u64> {
    let query = query();
    let stamp = (1 << STAMP_BITS) - 1;
    let ticks = (query.now_ms >> TICK_BITS).wrapping_sub(entry) & stamp;
    let young = ticks << TICK_BITS < u64::from(query.max_age_ms);
    young.then_some(entry & !stamp)
}

/// Checks a buffer's sets, and calls `set` with the frames and the entry of each.
#[inline]
fn each_set(words: &[u64], max_gfn: u64, mut set: impl FnMut(std::ops::Range<u64>, Option<u64>)) {
    let mut sets = Sets::new(words, limits(max_gfn));
    while let Some(checked) = sets.next(&mut |_, _| true) {
        let checked = checked.expect("the guest reports what is right");
        let first = checked.gfn().raw();
        let frames = first..first + checked.pages();
        let one = checked
            .gvas()
            .next()
            .filter(|_| checked.kind() == Kind::Mapped);
        set(frames, one.map(|(gva, _)| entry(gva.raw())));
    }
}
