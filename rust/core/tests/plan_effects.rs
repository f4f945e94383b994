// SPDX-License-Identifier: GPL-2.0

//! What is counted, wanted and kicked for aged leaves.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod common;
mod storage;
mod world;

use common::Op;
use gvahint_core::addr::Level;
use gvahint_core::counters::Counter;
use gvahint_core::plan::{finish, Kick, Pass, Reason, Verdict};
use gvahint_core::policy::{Flush, LinearAlias, Timing, Uncovered};
use gvahint_core::sync::Ordering::Relaxed;
use gvahint_core::wanted::Wanted;
use storage::{ANYWHERE, KERNEL_ONLY, MAPPED, PAGE_TABLE, TOO_MANY};
use world::{World, ONE, TWO, UNKNOWN};

#[test]
fn every_reason_is_counted() {
    let set = |kind| move |w: &mut World| w.table.set(UNKNOWN, 0, kind, &[]).unwrap();
    type Prepare<'a> = &'a dyn Fn(&mut World);
    let cases: [(Reason, Prepare<'_>); 5] = [
        (Reason::NoHint, &|_| {}),
        (Reason::Aged, &|w| {
            w.table.set(UNKNOWN, 0, MAPPED, &[0x1000]).unwrap();
            w.table.now_ms += 60_000;
        }),
        (Reason::KernelOnly, &set(KERNEL_ONLY)),
        (Reason::PageTable, &set(PAGE_TABLE)),
        (Reason::NoRoom, &|w| w.vm.slots.clear()),
    ];
    for (reason, prepare) in cases {
        let mut w = World::hint();
        prepare(&mut w);
        assert_eq!(
            w.call(&[UNKNOWN], 0).verdict,
            Verdict::Handled,
            "{reason:?}"
        );
        assert_eq!(w.flushes(), [Op::Full], "{reason:?}");
        for other in Reason::ALL {
            let n = u64::from(*other == reason);
            assert_eq!(w.counters.get(other.counter()), n, "{reason:?} {other:?}");
        }
        assert_eq!(w.counters.get(Counter::Aged), 1);
        assert_eq!(w.counters.get(Counter::Covered), 0);
        assert_eq!(w.counters.get(Counter::AppendedFull), 1);
    }
    for level in [Level::L2M, Level::L1G] {
        let w = World::hint();
        let mut pass = Pass::default();
        w.aged(&mut pass, ONE, level);
        let _ = finish(&mut pass, &w.env(), 0, &w.pending);
        assert_eq!(w.counters.get(Counter::UncoveredLargeLeaf), 1);
        assert_eq!(w.flushes(), [Op::Full]);
    }
}

#[test]
fn pages_whose_gvas_are_not_listed_take_one_context_flush() {
    for kind in [TOO_MANY, ANYWHERE] {
        let mut w = World::hint();
        for gfn in [UNKNOWN, UNKNOWN + 1] {
            w.table.set(gfn, 0, kind, &[]).unwrap();
        }
        assert_eq!(
            w.call(&[UNKNOWN, ONE, UNKNOWN + 1], 0).verdict,
            Verdict::Handled
        );
        assert_eq!(w.flushes(), [Op::Context]);
        assert_eq!(w.counters.get(Counter::Covered), 3);
        assert_eq!(w.counters.get(Counter::CoveredContext), 2);
        assert_eq!(w.counters.get(Counter::AppendedContext), 1);
        assert_eq!(w.counters.get(Counter::Uncovered), 0);
    }
}

#[test]
fn what_a_report_would_cover_is_wanted() {
    let set = |kind| move |w: &mut World| w.table.set(UNKNOWN, 0, kind, &[]).unwrap();
    type Prepare<'a> = &'a dyn Fn(&mut World);
    let cases: [(u64, Prepare<'_>); 7] = [
        (1, &|_| {}),
        (1, &|w| {
            w.table.set(UNKNOWN, 0, MAPPED, &[0x1000]).unwrap();
            w.table.now_ms += 60_000;
        }),
        (0, &|w| w.table.set(UNKNOWN, 0, MAPPED, &[0x1000]).unwrap()),
        (0, &set(PAGE_TABLE)),
        (1, &set(TOO_MANY)),
        (1, &set(ANYWHERE)),
        (0, &|w| w.session = Err(Reason::NoSession)),
    ];
    for (wanted, prepare) in cases {
        let mut w = World::hint();
        prepare(&mut w);
        let _ = w.call(&[UNKNOWN], 0);
        let mut out = [7; 2];
        let list = Wanted::new(&w.records, &w.wanted);
        assert_eq!(list.take(&mut out) as u64, wanted);
        assert_eq!(out, [wanted * UNKNOWN, 0]);
    }
    let w = World::hint();
    w.aged(&mut Pass::default(), ONE, Level::L2M);
    let mut out = [0; 2];
    assert_eq!(Wanted::new(&w.records, &w.wanted).take(&mut out), 1);
    assert_eq!(out, [9 << 40, 0]);
    // Under another policy nobody asks for hints.
    let w = World::new(Flush::Context, Uncovered::Full, Timing::Now);
    let _ = w.call(&[UNKNOWN], 0);
    assert_eq!(Wanted::new(&w.records, &w.wanted).take(&mut out), 0);
}

#[test]
fn parameters_reach_the_lookup() {
    let mut w = World::hint();
    let linear = [0, 0xffff_8880_0000_0000, 1 << 20, 4096];
    w.table.set_linear(&linear);
    w.table.set(ONE, 0, MAPPED, &[0x1000]).unwrap();
    w.tunables.linear_alias = LinearAlias::Always;
    let _ = w.call(&[ONE], 0);
    let alias = Op::Gva((0xffff_8880_0000_0000 >> 12) + ONE);
    assert_eq!(w.flushes(), [Op::Gva(1), alias]);
    w.tunables.hint_max_age_ms = 100;
    w.table.now_ms += 100;
    let _ = w.call(&[ONE], 0);
    assert_eq!(w.counters.get(Counter::UncoveredAged), 1);
}

// Fails if a page whose hint is too old is left idle for good where uncovered pages are: reported
// as what it is, it owes nothing, and as it is never found young no later call drops it.
#[test]
fn what_is_too_old_does_not_stay_idle() {
    for (uncovered, full, context) in [(Uncovered::Full, 1, 0), (Uncovered::None, 0, 1)] {
        let mut w = World::new(Flush::Hint, uncovered, Timing::Now);
        w.table.now_ms += u64::from(w.tunables.hint_max_age_ms);
        let outcome = w.call(&[ONE, TWO], 0);
        assert_eq!((outcome.kick, outcome.covered), (Kick::Now, 0));
        assert_eq!(w.counters.get(Counter::UncoveredAged), 2);
        assert_eq!(w.counters.get(Counter::AppendedFull), full);
        assert_eq!(w.counters.get(Counter::AppendedContext), context);
        // What is not known at all is.
        let _ = w.call(&[UNKNOWN], 0);
        assert_eq!(w.counters.get(Counter::AppendedContext), context);
    }
}

#[test]
fn kicks_follow_the_timing() {
    for (timing, max_delay_ms, expect) in [
        (Timing::Now, 10, Kick::Now),
        (Timing::Now, 0, Kick::Now),
        (Timing::Batched, 10, Kick::Within(10)),
        (Timing::Batched, 0, Kick::No),
        (Timing::Deferred, 7, Kick::Within(7)),
        (Timing::Deferred, 0, Kick::No),
    ] {
        for flush in [Flush::Hint, Flush::Context, Flush::Invept] {
            let mut w = World::new(flush, Uncovered::Full, timing);
            w.tunables.max_delay_ms = max_delay_ms;
            assert_eq!(w.call(&[ONE], 0).kick, expect, "{timing:?}");
        }
    }
}

#[test]
fn batched_kicks_once_per_batch() {
    let mut w = World::new(Flush::Hint, Uncovered::Full, Timing::Batched);
    w.tunables.batch_pages = 4;
    let kicks: Vec<bool> = (0..9)
        .map(|_| w.call(&[ONE], 0).kick == Kick::Now)
        .collect();
    assert_eq!(
        kicks,
        [false, false, false, true, false, false, false, true, false]
    );
    assert_eq!(w.pending.load(Relaxed), 1);
    // A large call is one kick, and so is a batch that was begun.
    assert_eq!(w.call(&[ONE; 3], 0).kick, Kick::Now);
    assert_eq!(w.call(&[ONE; 11], 0).kick, Kick::Now);
    assert_eq!(w.call(&[ONE], 0).kick, Kick::Within(10));
    // Calls that log nothing do not count.
    let before = w.pending.load(Relaxed);
    w.policy.flush = Flush::None;
    let _ = w.call(&[ONE], 0);
    assert_eq!(w.pending.load(Relaxed), before);
    // A counter near its end kicks and starts again.
    w.policy.flush = Flush::Hint;
    w.pending.store(u32::MAX, Relaxed);
    assert_eq!(w.call(&[ONE], 0).kick, Kick::Now);
    assert_eq!(w.pending.load(Relaxed), 0);
}
