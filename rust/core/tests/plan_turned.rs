// SPDX-License-Identifier: GPL-2.0

//! Pages that may have been page tables: of these the CPU may keep more than a gVA's flush drops.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing)]

mod common;
mod storage;
mod world;

use common::Op;
use gvahint_core::counters::Counter;
use gvahint_core::policy::{Flush, Timing, Uncovered};
use storage::{Storage, ANYWHERE, KERNEL_ONLY, MAPPED, PAGE_TABLE, REVOKED, TOO_MANY};
use world::{World, ONE, TWO, UNKNOWN};

/// A world whose table owes nothing, and flushes nothing for what is reported from here on.
fn settled(uncovered: Uncovered) -> World {
    let mut w = World::new(Flush::Hint, uncovered, Timing::Now);
    w.table.settles = false;
    w
}

/// Whether the frame owes a flush of everything after these reports of it.
fn owes(kinds: &[u64]) -> bool {
    let mut t = Storage::new(512, 64);
    t.settles = false;
    for kind in kinds {
        let gvas = [0x1000, 0x2000];
        let count = if *kind == MAPPED { 2 } else { 0 };
        t.set(5, 0, *kind, &gvas[..count]).unwrap();
    }
    t.hints().owes_full()
}

// Fails if the page is aged by a gVA's flush alone, for one that was a page table or nothing.
#[test]
fn what_turns_into_data_is_aged_by_one_flush_of_everything() {
    for uncovered in [Uncovered::Full, Uncovered::None] {
        for before in [PAGE_TABLE, REVOKED] {
            let mut w = settled(uncovered);
            w.table.set(ONE, 0, before, &[]).unwrap();
            let _ = w.call(&[TWO], 0);
            assert_eq!(w.flushes(), [Op::Gva(2), Op::Gva(3)]);
            w.table.set(ONE, 0, MAPPED, &[0x1000]).unwrap();
            // Whichever page is the next: what is flushed is everything.
            let _ = w.call(&[TWO], 0);
            assert_eq!(w.flushes(), [Op::Full]);
            assert_eq!(w.counters.get(Counter::Turned), 1);
            let entries = w.counters.get(Counter::AppendedGva);
            let _ = w.call(&[ONE], 0);
            assert_eq!(w.counters.get(Counter::AppendedGva), entries + 1);
            assert_eq!(w.counters.get(Counter::AppendedFull), 1);
        }
    }
}

// Fails if a flush of everything for another reason is followed by one more.
#[test]
fn a_flush_of_everything_serves_whatever_it_is_for() {
    let mut w = settled(Uncovered::Full);
    w.table.set(ONE, 0, PAGE_TABLE, &[]).unwrap();
    w.table.set(ONE, 0, MAPPED, &[0x1000]).unwrap();
    let _ = w.call(&[UNKNOWN], 0);
    let _ = w.call(&[ONE], 0);
    assert_eq!(w.counters.get(Counter::AppendedFull), 1);
    assert_eq!(w.counters.get(Counter::Turned), 0);
}

// Fails if a page whose ages no hint decides has everything flushed.
#[test]
fn nothing_is_flushed_for_what_no_hint_covers() {
    for (flush, gfns) in [
        (Flush::Hint, &[UNKNOWN][..]),
        (Flush::Context, &[ONE]),
        (Flush::None, &[ONE]),
        (Flush::Default, &[ONE]),
    ] {
        let mut w = settled(Uncovered::None);
        w.table.set(ONE, 0, REVOKED, &[]).unwrap();
        w.table.set(ONE, 0, MAPPED, &[0x1000]).unwrap();
        w.policy.flush = flush;
        let _ = w.call(gfns, 0);
        assert_eq!(w.counters.get(Counter::AppendedFull), 0, "{flush:?}");
        assert!(w.table.hints().owes_full());
    }
}

#[test]
fn only_what_may_have_been_a_page_table_owes() {
    let data = [MAPPED, KERNEL_ONLY, TOO_MANY, ANYWHERE];
    for new in data {
        assert!(owes(&[new]) && owes(&[PAGE_TABLE, new]), "{new}");
    }
    assert!(!owes(&[PAGE_TABLE]) && !owes(&[PAGE_TABLE, REVOKED, PAGE_TABLE]));
    for old in data {
        for new in data {
            let mut t = Storage::new(512, 64);
            t.set(5, 0, old, if old == MAPPED { &[0x1000] } else { &[] })
                .unwrap();
            t.settles = false;
            t.set(5, 0, new, if new == MAPPED { &[0x2000] } else { &[] })
                .unwrap();
            assert!(!t.hints().owes_full(), "{old} {new}");
        }
    }
}

// Fails if a piece of a larger hint is not looked at, or a larger hint over pieces.
#[test]
fn pieces_owe_as_the_whole_does() {
    let mut t = Storage::new(4096, 64);
    t.set(512, 9, PAGE_TABLE, &[]).unwrap();
    t.settles = false;
    t.set(600, 0, ANYWHERE, &[]).unwrap();
    assert!(t.hints().owes_full(), "a piece of a page table");
    t.settles = true;
    t.set(512, 9, MAPPED, &[0x4000_0000 | 9]).unwrap();
    t.settles = false;
    t.set(600, 0, ANYWHERE, &[]).unwrap();
    assert!(!t.hints().owes_full(), "a piece of data");
    t.set(512, 9, MAPPED, &[0x4000_0000 | 9]).unwrap();
    assert!(t.hints().owes_full(), "pieces are not looked at one by one");
}
