// SPDX-License-Identifier: GPL-2.0

//! Page tables that are kept young: which, how many, how long.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod common;
mod storage;

use common::Vm;
use gvahint_core::addr::{Gfn, Level};
use gvahint_core::counters::{Counter, Counters};
use gvahint_core::plan::{keep, Env, Reason};
use gvahint_core::policy::{Flush, Policy, Tunables, Uncovered};
use gvahint_core::sync::AtomicU64;
use gvahint_core::wanted::Wanted;
use proptest::prelude::*;
use std::collections::BTreeSet;
use storage::{Arena, Storage, ANYWHERE, KERNEL_ONLY, MAPPED, PAGE_TABLE, REVOKED};

const MAX_GFN: u64 = 1536;
/// Frames of a hint in one slot.
const LARGE: u64 = 512;
/// More than a table of that size takes.
const PLENTY: usize = 64;
const SCARCE: usize = 5;

fn keeps(table: &Storage, gfn: u64) -> bool {
    table.hints().keeps(Gfn::new(gfn).unwrap(), &table.query())
}

fn all_kept(table: &Storage) -> BTreeSet<u64> {
    (0..MAX_GFN).filter(|gfn| keeps(table, *gfn)).collect()
}

/// The naive way: which frames are page tables, and which of them are kept.
#[derive(Default)]
struct Model {
    quota: u64,
    kept: BTreeSet<u64>,
    /// The 2M that are a hint in one slot.
    large: BTreeSet<u64>,
}

impl Model {
    /// A hint for a range; `kind` is none that is revoked.
    fn set(&mut self, gfn: u64, order: u64, kind: u64) {
        let step = if order < 9 { 1 } else { LARGE };
        if order < 9 {
            self.large.remove(&(gfn / LARGE * LARGE));
        } else {
            self.large.insert(gfn);
        }
        for at in (gfn..gfn + (1 << order)).step_by(step as usize) {
            self.kept.retain(|kept| !(at..at + step).contains(kept));
            if kind == PAGE_TABLE && self.kept.len() as u64 + step <= self.quota {
                self.kept.extend(at..at + step);
            }
        }
    }

    /// Forgets frames, and the whole of each 2M in one slot that has one of them.
    fn revoke(&mut self, gfn: u64, pages: u64) {
        let end = gfn + pages;
        let large: Vec<u64> = self.large.iter().copied().collect();
        for base in large {
            if pages > 0 && base < end && gfn < base + LARGE {
                self.large.remove(&base);
                self.kept.retain(|at| at / LARGE * LARGE != base);
            }
        }
        self.kept.retain(|at| !(gfn..end).contains(at));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(u64, u64, u64),
    Revoke(u64, u64),
    Clear,
    Quota(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let gfn = prop_oneof![2 => 0..MAX_GFN, 3 => 500u64..530];
    let order = prop_oneof![4 => Just(0u64), 2 => 0u64..=5, 2 => Just(9u64)];
    let range = (gfn, order).prop_map(|(gfn, order)| (gfn >> order << order, order));
    let kind = prop_oneof![
        6 => Just(PAGE_TABLE),
        1 => proptest::sample::select(vec![MAPPED, KERNEL_ONLY, ANYWHERE, REVOKED]),
    ];
    let quota = prop_oneof![2 => 0u64..40, 1 => 0u64..1200];
    prop_oneof![
        20 => (range, kind).prop_map(|((gfn, order), kind)| Step::Set(gfn, order, kind)),
        2 => (0..MAX_GFN, 0..600u64).prop_map(|(gfn, pages)| Step::Revoke(gfn, pages)),
        1 => Just(Step::Clear),
        2 => quota.prop_map(Step::Quota),
    ]
}

/// Plays steps and compares: how many after each, which at the end.
fn play(steps: &[Step], limit: usize) {
    let mut table = Storage::new(MAX_GFN, limit);
    let mut model = Model::default();
    let mut highest = 0;
    for step in steps {
        match *step {
            Step::Set(gfn, order, kind) => {
                let gvas: &[u64] = if kind == MAPPED { &[1 << 21] } else { &[] };
                let applied = table.set(gfn, order, kind, gvas);
                assert!(applied.is_ok() || limit == SCARCE);
                if kind == REVOKED {
                    model.revoke(gfn, 1 << order);
                } else {
                    model.set(gfn, order, kind);
                }
            }
            Step::Revoke(gfn, pages) => {
                table.writer().revoke(gfn, pages);
                model.revoke(gfn, pages);
            }
            Step::Clear => {
                table.clear();
                model.kept.clear();
                model.large.clear();
            }
            Step::Quota(quota) => {
                table.state.set_keep_quota(quota);
                model.quota = quota;
                highest = highest.max(quota);
            }
        }
        assert!(table.state.kept() <= highest);
        if limit == PLENTY {
            assert_eq!(table.state.kept(), model.kept.len() as u64);
        }
    }
    let kept = all_kept(&table);
    assert_eq!(table.state.kept(), kept.len() as u64);
    for gfn in &kept {
        assert_eq!(table.lookup(*gfn), Err(Reason::PageTable), "{gfn}");
    }
    if limit == PLENTY {
        assert_eq!(kept, model.kept);
    }
    table.clear();
    assert_eq!(table.state.kept(), 0);
}

/// As many cases as PROPTEST_CASES says, 256 by default.
fn cases() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    // Fails if a frame is counted twice or not at all, or kept beyond the quota.
    #[test]
    fn the_quota_is_exact(steps in proptest::collection::vec(step(), 1..80)) {
        play(&steps, PLENTY);
    }

    // The same where sets are refused and large ones given up for want of nodes.
    #[test]
    fn the_quota_is_exact_without_room(steps in proptest::collection::vec(step(), 1..80)) {
        play(&steps, SCARCE);
    }
}

// Fails if a guest that declares everything a page table gains more than the quota,
// whatever ranges it says it by and however often.
#[test]
fn all_page_tables_are_the_quota() {
    for order in [0, 3, 8, 9] {
        let mut table = Storage::new(MAX_GFN, PLENTY);
        table.state.set_keep_quota(MAX_GFN / 256);
        for _ in 0..3 {
            for gfn in (0..MAX_GFN).step_by(1 << order) {
                table.set(gfn, order, PAGE_TABLE, &[]).unwrap();
            }
            let expect = if order < 9 { MAX_GFN / 256 } else { 0 };
            assert_eq!(table.state.kept(), expect, "{order}");
        }
    }
}

// Fails if renewing a hint gives its place to another, or takes a second one.
#[test]
fn renewing_keeps_the_place() {
    let mut table = Storage::new(MAX_GFN, PLENTY);
    table.state.set_keep_quota(2);
    for gfn in [7, 8, 9] {
        table.set(gfn, 0, PAGE_TABLE, &[]).unwrap();
    }
    for gfn in [9, 8, 7] {
        table.set(gfn, 0, PAGE_TABLE, &[]).unwrap();
        assert_eq!(all_kept(&table), BTreeSet::from([7, 8]));
    }
    table.set(7, 0, REVOKED, &[]).unwrap();
    table.set(9, 0, PAGE_TABLE, &[]).unwrap();
    assert_eq!(all_kept(&table), BTreeSet::from([8, 9]));
}

// Fails if a smaller quota takes away what was given, or gives more.
#[test]
fn a_smaller_quota_gives_nothing_more() {
    let mut table = Storage::new(MAX_GFN, PLENTY);
    table.state.set_keep_quota(2);
    table.set(8, 1, PAGE_TABLE, &[]).unwrap();
    table.state.set_keep_quota(1);
    assert_eq!(table.state.kept(), 2);
    table.set(8, 0, PAGE_TABLE, &[]).unwrap();
    assert_eq!(all_kept(&table), BTreeSet::from([9]));
}

// Fails if a page is kept without a live hint of its own, or under another policy.
#[test]
fn what_ends_the_veto() {
    let mut table = Storage::new(MAX_GFN, PLENTY);
    table.state.set_keep_quota(4);
    table.set(5, 0, PAGE_TABLE, &[]).unwrap();
    table.set(6, 0, MAPPED, &[0x6000]).unwrap();
    let (vm, counters) = (Vm::new(16), Counters::new());
    let env = |flush| Env::<Arena> {
        policy: Policy {
            flush,
            ..Policy::CLEAR_YOUNG
        },
        tunables: Tunables::DEFAULT,
        log: vm.log(),
        hints: Ok(table.hints()),
        can_flush_gva: true,
        counters: &counters,
        wanted: None,
        kept: None,
    };
    let five = Gfn::new(5).unwrap();
    let now = table.now_ms;
    assert!(keep(&env(Flush::Hint), five, Level::L4K, now));
    assert_eq!(counters.get(Counter::Kept), 1);
    for other in [6, 7, MAX_GFN, 1 << 39] {
        assert!(!keep(
            &env(Flush::Hint),
            Gfn::new(other).unwrap(),
            Level::L4K,
            now
        ));
    }
    for flush in Flush::ALL.iter().filter(|flush| **flush != Flush::Hint) {
        assert!(!keep(&env(*flush), five, Level::L4K, now), "{flush:?}");
    }
    for reason in [Reason::NoSession, Reason::NoLinear] {
        let env = Env {
            hints: Err(reason),
            ..env(Flush::Hint)
        };
        assert!(!keep(&env, five, Level::L4K, now), "{reason:?}");
    }
    let env_without = Env {
        can_flush_gva: false,
        ..env(Flush::Hint)
    };
    assert!(!keep(&env_without, five, Level::L4K, now));
    let max_age = u64::from(Tunables::DEFAULT.hint_max_age_ms);
    assert!(keep(
        &env(Flush::Hint),
        five,
        Level::L4K,
        now + max_age - 64
    ));
    assert!(!keep(&env(Flush::Hint), five, Level::L4K, now + max_age));
    // Where nothing is done for uncovered pages it would look idle until something else flushes.
    let blind = Policy {
        uncovered: Uncovered::None,
        ..Policy::CLEAR_YOUNG
    };
    let env_blind = Env {
        policy: blind,
        ..env(Flush::Hint)
    };
    let (records, place) = (AtomicU64::new(0), [AtomicU64::new(0)]);
    let wanted = Some(Wanted::new(&records, &place));
    let env_blind = Env {
        wanted,
        ..env_blind
    };
    let mut asked = [0; 1];
    assert!(keep(&env_blind, five, Level::L4K, now));
    assert_eq!(Wanted::new(&records, &place).take(&mut asked), 0);
    assert!(keep(&env_blind, five, Level::L4K, now + max_age));
    // So that it never gets so old that the table forgets it.
    assert_eq!(Wanted::new(&records, &place).take(&mut asked), 1);
    assert_eq!(asked, [5]);
    // Nothing of that was aged: the call's verdict depends on other pages.
    assert_eq!(counters.get(Counter::Kept), 4);
    assert_eq!(counters.get(Counter::Aged), 0);
}

// Fails if a large leaf is taken for uncovered for another reason than before.
#[test]
fn a_kept_piece_leaves_a_large_leaf_uncovered() {
    let mut table = Storage::new(MAX_GFN, PLENTY);
    table.state.set_keep_quota(1);
    table.set(0, 9, KERNEL_ONLY, &[]).unwrap();
    table.set(5, 0, PAGE_TABLE, &[]).unwrap();
    let leaf = Gfn::new(0).unwrap();
    let cover = table.hints().cover(leaf, Level::L2M, &table.query());
    assert_eq!(cover.err(), Some(Reason::LargeLeaf));
    assert!(keeps(&table, 5) && !keeps(&table, 6));
}
