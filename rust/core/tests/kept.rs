// SPDX-License-Identifier: GPL-2.0

//! Large leaves that are kept young for a page table in them.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod common;
mod storage;

use common::Vm;
use gvahint_core::addr::{Gfn, Level};
use gvahint_core::counters::{Counter, Counters};
use gvahint_core::kept::Kept;
use gvahint_core::plan::{keep, Env};
use gvahint_core::policy::{Policy, Tunables};
use gvahint_core::sync::AtomicU64;
use proptest::prelude::*;
use std::collections::BTreeSet;
use storage::{Arena, Storage, ANYWHERE, PAGE_TABLE, REVOKED};

const MAX_GFN: u64 = 4096;
/// After which a leaf that was not kept makes room.
const MINUTE_MS: u64 = 60 << 10;

fn places(quota: usize) -> Vec<AtomicU64> {
    (0..quota).map(|_| AtomicU64::new(0)).collect()
}

fn leaf(number: u64) -> Gfn {
    Gfn::new(number * 512 + number % 512).unwrap()
}

proptest! {
    // Fails if more leaves than the quota are kept within a minute, if one that was kept within a
    // minute isn't once more, or if one is refused while less than the quota were.
    #[test]
    fn the_quota_holds_in_any_minute(
        quota in 0usize..6,
        steps in proptest::collection::vec((0u64..9, 0u64..20_000), 1..200),
    ) {
        let places = places(quota);
        let mut now_ms = 0;
        let mut last = [None; 9];
        for (number, wait_ms) in steps {
            now_ms += wait_ms;
            let admitted = Kept::new(&places).admit(leaf(number), now_ms);
            let within = |ms| last.iter().flatten().filter(|at| now_ms - **at < ms).count();
            let again = last[number as usize].is_some_and(|at| now_ms - at < MINUTE_MS);
            // Time is told by the second.
            let least = within(MINUTE_MS + 2_048) < quota;
            prop_assert!(admitted || !(again || least), "{last:?}");
            if admitted {
                last[number as usize] = Some(now_ms);
                let young = last.iter().flatten().filter(|at| now_ms - **at < MINUTE_MS);
                prop_assert!(young.count() <= quota);
            }
        }
    }
}

/// Leaves of 2M that are kept, of those in the table, `later_ms` after the hints were written.
fn kept(table: &Storage, places: &[AtomicU64], level: Level, later_ms: u64) -> BTreeSet<u64> {
    let (vm, counters) = (Vm::new(16), Counters::new());
    let env = Env::<Arena> {
        policy: Policy::CLEAR_YOUNG,
        tunables: Tunables::DEFAULT,
        log: vm.log(),
        hints: Ok(table.hints()),
        can_flush_gva: true,
        counters: &counters,
        wanted: None,
        kept: Some(Kept::new(places)),
    };
    let now_ms = table.now_ms + later_ms;
    let leaves = 0..MAX_GFN / 512;
    let kept: BTreeSet<u64> = leaves
        .filter(|number| keep(&env, leaf(*number), level, now_ms))
        .collect();
    assert_eq!(counters.get(Counter::Kept), kept.len() as u64);
    assert_eq!(counters.get(Counter::Aged), 0);
    kept
}

// Fails if a leaf is kept that has no page table with a live hint, if one that has isn't, or if a page
// table beyond the quota of single pages, or 512 in one set, don't count.
#[test]
fn leaves_with_page_tables_are_kept() {
    let mut table = Storage::new(MAX_GFN, 64);
    table.state.set_keep_quota(1);
    for (gfn, order, kind) in [
        (512, 9, ANYWHERE),
        (512 + 511, 0, PAGE_TABLE),
        (1024, 9, ANYWHERE),
        (1536, 0, PAGE_TABLE),
        (2048, 9, PAGE_TABLE),
    ] {
        table.set(gfn, order, kind, &[]).unwrap();
    }
    let all = BTreeSet::from([1, 3, 4]);
    assert_eq!(kept(&table, &places(4), Level::L2M, 0), all);
    assert_eq!(
        kept(&table, &places(2), Level::L2M, 0),
        BTreeSet::from([1, 3])
    );
    assert_eq!(kept(&table, &places(4), Level::L1G, 0), BTreeSet::new());
    let max_age = u64::from(Tunables::DEFAULT.hint_max_age_ms);
    assert_eq!(
        kept(&table, &places(4), Level::L2M, max_age),
        BTreeSet::new()
    );

    table.set(512 + 511, 0, REVOKED, &[]).unwrap();
    let rest = BTreeSet::from([3, 4]);
    assert_eq!(kept(&table, &places(4), Level::L2M, 0), rest);
    table.clear();
    assert_eq!(kept(&table, &places(4), Level::L2M, 0), BTreeSet::new());
}
