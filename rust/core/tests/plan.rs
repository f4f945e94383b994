// SPDX-License-Identifier: GPL-2.0

//! From aged leaves to entries and verdicts.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod common;
mod storage;
mod world;

use common::Op;
use gvahint_core::addr::Level;
use gvahint_core::counters::Counter;
use gvahint_core::plan::{finish, Kick, Mark, Pass, Reason, Verdict};
use gvahint_core::policy::{Flush, Timing, Uncovered};
use gvahint_core::sync::Ordering::Relaxed;
use world::{World, ONE, TWO, UNKNOWN};

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
    // It began in the middle: what was aged since is not covered by the flush that came with that.
    let mut w = World::hint();
    let mut pass = Pass::default();
    w.session = Err(Reason::NoSession);
    w.aged(&mut pass, ONE, Level::L4K);
    w.session = Ok(());
    w.aged(&mut pass, UNKNOWN, Level::L4K);
    assert_eq!(finish(&mut pass, &w.env(), 0, &w.pending).verdict, DEFAULT);
    assert_eq!(w.flushes(), [Op::Full]);
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

// From invept to anything else nothing is caught up with: the call itself has to drop it.
#[test]
fn a_policy_that_changes_in_the_middle_keeps_its_promise() {
    for (before, ops) in [(Flush::Context, Op::Context), (Flush::Invept, Op::Full)] {
        for after in [Flush::Default, Flush::None, Flush::Hint, before] {
            let mut w = World::new(before, Uncovered::None, Timing::Now);
            let mut pass = Pass::default();
            w.aged(&mut pass, ONE, Level::L4K);
            w.policy.flush = after;
            let outcome = finish(&mut pass, &w.env(), 0, &w.pending);
            assert_eq!(w.flushes(), [ops], "{before:?} to {after:?}");
            assert_eq!(outcome.kick, Kick::Now);
        }
    }
    let mut w = World::new(Flush::Invept, Uncovered::None, Timing::Now);
    let mut pass = Pass::default();
    w.aged(&mut pass, ONE, Level::L4K);
    w.policy.flush = Flush::Context;
    let _ = finish(&mut pass, &w.env(), 0, &w.pending);
    assert_eq!(w.flushes(), [Op::Full]);
}
