// SPDX-License-Identifier: GPL-2.0

//! From aged leaves to entries, verdicts and kicks.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod common;
mod storage;

use common::{Op, Recorder, Vm};
use gvahint_core::addr::{Gfn, Level};
use gvahint_core::counters::{Counter, Counters};
use gvahint_core::plan::{aged, finish, Env, Kick, Mark, Outcome, Pass, Reason, Verdict};
use gvahint_core::policy::{Flush, LinearAlias, Policy, Timing, Tunables, Uncovered};
use gvahint_core::sync::{AtomicU32, AtomicU64, Ordering::Relaxed};
use gvahint_core::wanted::Wanted;
use storage::{Arena, Storage, ANYWHERE, KERNEL_ONLY, MAPPED, PAGE_TABLE, TOO_MANY};

/// One gVA, two gVAs, none, and the kinds.
const ONE: u64 = 1;
const TWO: u64 = 2;
const UNKNOWN: u64 = 3;

struct World {
    vm: Vm,
    table: Storage,
    counters: Counters,
    pending: AtomicU32,
    policy: Policy,
    tunables: Tunables,
    can_flush_gva: bool,
    session: Result<(), Reason>,
    records: AtomicU64,
    wanted: [AtomicU64; 8],
}

impl World {
    fn new(flush: Flush, uncovered: Uncovered, timing: Timing) -> Self {
        let mut table = Storage::new(512, 64);
        table.set(ONE, 0, MAPPED, &[0x1000]).unwrap();
        table.set(TWO, 0, MAPPED, &[0x2000, 0x3000]).unwrap();
        Self {
            vm: Vm::new(16),
            table,
            counters: Counters::new(),
            pending: AtomicU32::new(0),
            policy: Policy {
                flush,
                uncovered,
                timing,
            },
            tunables: Tunables::DEFAULT,
            can_flush_gva: true,
            session: Ok(()),
            records: AtomicU64::new(0),
            wanted: [const { AtomicU64::new(0) }; 8],
        }
    }

    fn hint() -> Self {
        Self::new(Flush::Hint, Uncovered::Full, Timing::Now)
    }

    fn env(&self) -> Env<'_, Arena> {
        Env {
            policy: self.policy,
            tunables: self.tunables,
            log: self.vm.log(),
            hints: self.session.map(|()| self.table.hints()),
            can_flush_gva: self.can_flush_gva,
            counters: &self.counters,
            wanted: Some(Wanted::new(&self.records, &self.wanted)),
            kept: None,
        }
    }

    /// A notifier call that finds these frames young.
    fn call(&self, gfns: &[u64], other: u32) -> Outcome {
        let mut pass = Pass::default();
        for gfn in gfns {
            self.aged(&mut pass, *gfn, Level::L4K);
        }
        let outcome = finish(&mut pass, &self.env(), other, &self.pending);
        assert_eq!(pass, Pass::default());
        outcome
    }

    fn aged(&self, pass: &mut Pass, gfn: u64, level: Level) {
        let now = self.table.now_ms;
        aged(pass, &self.env(), Gfn::new(gfn).unwrap(), level, now);
    }

    /// What a vCPU that was here from the start flushes.
    fn flushes(&self) -> Vec<Op> {
        let cursor = gvahint_core::sync::AtomicU64::new(0);
        let mut r = Recorder::default();
        let _ = self.vm.log().drain(&cursor, u32::MAX, &mut r);
        r.ops
    }
}

const HANDLED: Verdict = Verdict::Handled;
const DEFAULT: Verdict = Verdict::Default;

#[test]
fn each_policy_logs_what_it_says() {
    let (one, two) = (Op::Gva(1), [Op::Gva(2), Op::Gva(3)]);
    let (covered, mixed) = ([ONE, TWO], [ONE, UNKNOWN, UNKNOWN]);
    let full = Uncovered::Full;
    let none = Uncovered::None;
    for (flush, uncovered, gfns, verdict, ops) in [
        (Flush::Default, full, &covered[..], DEFAULT, vec![]),
        (Flush::None, full, &mixed, HANDLED, vec![]),
        (Flush::Context, full, &covered, HANDLED, vec![Op::Context]),
        (Flush::Invept, full, &covered, HANDLED, vec![Op::Full]),
        (
            Flush::Hint,
            full,
            &covered,
            HANDLED,
            vec![one, two[0], two[1]],
        ),
        (
            Flush::Hint,
            none,
            &covered,
            HANDLED,
            vec![one, two[0], two[1]],
        ),
        (Flush::Hint, full, &mixed, HANDLED, vec![Op::Full]),
        (Flush::Hint, none, &mixed, HANDLED, vec![one]),
        (Flush::Hint, full, &[UNKNOWN], HANDLED, vec![Op::Full]),
        (Flush::Hint, none, &[UNKNOWN], HANDLED, vec![]),
    ] {
        for timing in Timing::ALL {
            let w = World::new(flush, uncovered, *timing);
            let outcome = w.call(gfns, 0);
            assert_eq!(outcome.verdict, verdict, "{flush:?} {uncovered:?}");
            assert_eq!(w.flushes(), ops, "{flush:?} {uncovered:?}");
            // Nothing logged, nobody kicked; one entry at most but for gVAs.
            assert_eq!(outcome.kick == Kick::No, ops.is_empty(), "{flush:?}");
            let entries = w.vm.head.load(Relaxed);
            let single = w.counters.get(Counter::AppendedGva);
            assert_eq!(
                entries - single,
                u64::from(ops.iter().any(|op| *op == Op::Context || *op == Op::Full))
            );
            // And the outcome says so.
            let covered = w.counters.get(Counter::Covered);
            let told = [outcome.aged, outcome.covered, outcome.gvas].map(u64::from);
            assert_eq!(told, [gfns.len() as u64, covered, single], "{flush:?}");
            let mark = match ops.last() {
                Some(Op::Context) => Some(Mark::Context),
                Some(Op::Full) => Some(Mark::Full),
                _ => None,
            };
            assert_eq!(outcome.mark, mark, "{flush:?} {uncovered:?}");
        }
    }
}

#[test]
fn an_empty_call_logs_nothing() {
    for flush in Flush::ALL {
        let w = World::new(*flush, Uncovered::Full, Timing::Now);
        for (other, verdict) in [(0, HANDLED), (3, DEFAULT)] {
            let outcome = w.call(&[], other);
            let verdict = if *flush == Flush::Default {
                DEFAULT
            } else {
                verdict
            };
            assert_eq!((outcome.verdict, outcome.kick), (verdict, Kick::No));
        }
        assert_eq!(w.flushes(), []);
    }
}

#[test]
fn what_kvm_cannot_name_stays_kvms() {
    for flush in Flush::ALL {
        let w = World::new(*flush, Uncovered::Full, Timing::Now);
        assert_eq!(w.call(&[ONE], 1).verdict, DEFAULT);
    }
    // And what we can name is in the log none the less.
    let w = World::hint();
    let outcome = w.call(&[ONE], 1);
    assert_eq!(outcome.kick, Kick::Now);
    assert_eq!(w.flushes(), [Op::Gva(1)]);
}

// Fails if a guest that is about to report is aged as one that never will.
#[test]
fn between_hello_and_linear_pages_are_uncovered() {
    for (uncovered, ops) in [(Uncovered::Full, vec![Op::Full]), (Uncovered::None, vec![])] {
        let mut w = World::hint();
        w.session = Err(Reason::NoLinear);
        w.policy.uncovered = uncovered;
        assert_eq!(w.call(&[ONE, UNKNOWN], 0).verdict, HANDLED);
        assert_eq!(w.flushes(), ops);
        assert_eq!(w.counters.get(Counter::UncoveredNoLinear), 2);
    }
}

#[test]
fn without_hints_for_the_whole_vm_kvm_does_as_ever() {
    for (session, can_flush_gva, reason) in [
        (Err(Reason::NoSession), true, Reason::NoSession),
        (Ok(()), false, Reason::NoGvaFlush),
    ] {
        for uncovered in Uncovered::ALL {
            let mut w = World::hint();
            (w.session, w.can_flush_gva) = (session, can_flush_gva);
            w.policy.uncovered = *uncovered;
            let outcome = w.call(&[ONE, UNKNOWN], 0);
            assert_eq!((outcome.verdict, outcome.kick), (DEFAULT, Kick::No));
            assert_eq!(w.flushes(), []);
            assert_eq!(w.counters.get(reason.counter()), 2);
            assert_eq!(w.counters.get(Counter::Uncovered), 2);
        }
        // The rivals need no guest.
        for (flush, op) in [(Flush::Context, Op::Context), (Flush::Invept, Op::Full)] {
            let mut w = World::new(flush, Uncovered::Full, Timing::Now);
            (w.session, w.can_flush_gva) = (session, can_flush_gva);
            w.vm.slots.clear();
            assert_eq!(w.call(&[ONE], 0).verdict, HANDLED);
            assert_eq!(w.flushes(), [op]);
        }
    }
    // The lease lapses in the middle of a call.
    let mut w = World::hint();
    let mut pass = Pass::default();
    w.session = Err(Reason::NoSession);
    w.aged(&mut pass, ONE, Level::L4K);
    w.session = Ok(());
    w.aged(&mut pass, TWO, Level::L4K);
    assert_eq!(finish(&mut pass, &w.env(), 0, &w.pending).verdict, DEFAULT);
}

#[test]
fn a_policy_that_changes_in_the_middle_uncovers() {
    let mut w = World::new(Flush::None, Uncovered::Full, Timing::Now);
    let mut pass = Pass::default();
    w.aged(&mut pass, ONE, Level::L4K);
    w.policy.flush = Flush::Hint;
    w.aged(&mut pass, ONE, Level::L4K);
    let _ = finish(&mut pass, &w.env(), 0, &w.pending);
    assert_eq!(w.flushes(), [Op::Full]);
}

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
        assert_eq!(w.call(&[UNKNOWN], 0).verdict, HANDLED, "{reason:?}");
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
        assert_eq!(w.call(&[UNKNOWN, ONE, UNKNOWN + 1], 0).verdict, HANDLED);
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
