// SPDX-License-Identifier: GPL-2.0

//! What `hint` stands for where hints do not work: by a canary's word in one VM, by
//! the host's own verdict in all.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod common;
mod storage;

use common::{Op, Recorder, Vm};
use gvahint_core::addr::{Gfn, Level};
use gvahint_core::counters::{Counter, Counters};
use gvahint_core::plan::{aged, finish, keep, Env, Kick, Pass, Reason, Verdict};
use gvahint_core::policy::{Calibration, Flush, Policy, Timing, Tunables, Uncovered};
use gvahint_core::sync::{AtomicU32, AtomicU64};
use storage::{Arena, Storage, MAPPED, PAGE_TABLE};

// Fails if `hint` in a degraded VM is not what `invept` is, whatever the host's own
// verdict is.
#[test]
fn degraded_is_invept() {
    for calibration in Calibration::ALL {
        stands_for(
            *calibration,
            Err(Reason::Degraded),
            Flush::Invept,
            Reason::Degraded,
        );
    }
}

// Fails if `hint` is not what the host's verdict names.
#[test]
fn a_failed_calibration_names_what_suffices() {
    for (calibration, flush) in [
        (Calibration::FailedContext, Flush::Context),
        (Calibration::FailedInvept, Flush::Invept),
    ] {
        stands_for(calibration, Ok(()), flush, Reason::Calibration);
    }
}

// Fails if a verdict changes anything for a VM whose hints are not used anyway, or if
// one that did not fail changes anything at all.
#[test]
fn a_calibration_leaves_others_alone() {
    let mut table = Storage::new(512, 64);
    table.set(1, 0, MAPPED, &[0x1000]).unwrap();
    for (session, can_flush_gva) in [
        (Ok(()), false),
        (Err(Reason::NoSession), true),
        (Err(Reason::NoLinear), true),
        (Ok(()), true),
    ] {
        let mut results = Vec::new();
        for calibration in Calibration::ALL {
            let used = session.is_ok() && can_flush_gva;
            if used && calibration.instead().is_some() {
                continue;
            }
            let (vm, counters, pending) = (Vm::new(16), Counters::new(), AtomicU32::new(0));
            let env = Env::<Arena> {
                policy: Policy::CLEAR_YOUNG,
                tunables: Tunables {
                    calibration: *calibration,
                    ..Tunables::DEFAULT
                },
                log: vm.log(),
                hints: session.map(|()| table.hints()),
                can_flush_gva,
                counters: &counters,
                wanted: None,
                kept: None,
            };
            let mut pass = Pass::default();
            aged(
                &mut pass,
                &env,
                Gfn::new(1).unwrap(),
                Level::L4K,
                table.now_ms,
            );
            let outcome = finish(&mut pass, &env, 0, &pending);
            let mut cpu = Recorder::default();
            let _ = vm.log().drain(&AtomicU64::new(0), 4, &mut cpu);
            // Between HELLO and LINEAR the page is uncovered.
            let flushed = used || session == Err(Reason::NoLinear);
            assert_eq!(outcome.verdict == Verdict::Handled, flushed);
            assert_eq!(cpu.ops.len(), usize::from(flushed), "{calibration:?}");
            assert_eq!(counters.get(Counter::UncoveredCalibration), 0);
            results.push((outcome, cpu.ops));
        }
        assert!(results.len() >= 2 && results.windows(2).all(|two| two[0] == two[1]));
    }
}

/// Fails if `hint`, while hints do not work for `reason`, is not what `flush` is, whatever
/// is said of uncovered pages; if the reason is not counted; or if a page table is not kept young where
/// a flush of the context is what it is, or is where everything is flushed.
fn stands_for(
    calibration: Calibration,
    session: Result<(), Reason>,
    instead: Flush,
    reason: Reason,
) {
    let mut table = Storage::new(512, 64);
    table.state.set_keep_quota(1);
    table.set(1, 0, MAPPED, &[0x1000]).unwrap();
    table.set(2, 0, PAGE_TABLE, &[]).unwrap();
    let tunables = Tunables {
        calibration,
        ..Tunables::DEFAULT
    };
    for uncovered in [Uncovered::Full, Uncovered::None] {
        for timing in [Timing::Now, Timing::Batched, Timing::Deferred] {
            let mut results = Vec::new();
            for flush in [Flush::Hint, instead] {
                let (vm, counters) = (Vm::new(16), Counters::new());
                let env = Env::<Arena> {
                    policy: Policy {
                        flush,
                        uncovered,
                        timing,
                    },
                    tunables,
                    log: vm.log(),
                    hints: session.map(|()| table.hints()),
                    can_flush_gva: true,
                    counters: &counters,
                    wanted: None,
                    kept: None,
                };
                let (mut pass, pending) = (Pass::default(), AtomicU32::new(0));
                let idle = finish(&mut pass, &env, 0, &pending);
                assert_eq!((idle.verdict, idle.kick), (Verdict::Handled, Kick::No));
                assert_eq!(vm.log().start(), 0);
                let now = table.now_ms;
                let two = Gfn::new(2).unwrap();
                let kept = flush == Flush::Hint && instead == Flush::Context;
                assert_eq!(keep(&env, two, Level::L4K, now), kept);
                for gfn in 0..4 {
                    aged(&mut pass, &env, Gfn::new(gfn).unwrap(), Level::L4K, now);
                }
                let outcome = finish(&mut pass, &env, 0, &pending);
                let cursor = AtomicU64::new(0);
                let mut cpu = Recorder::default();
                let _ = vm.log().drain(&cursor, 4, &mut cpu);
                let op = match instead {
                    Flush::Context => Op::Context,
                    _ => Op::Full,
                };
                assert_eq!(cpu.ops, [op]);
                if flush == Flush::Hint {
                    assert_eq!(counters.get(reason.counter()), 4);
                    assert_eq!(counters.get(Counter::Covered), 0);
                }
                results.push(outcome);
            }
            assert_eq!(results[0], results[1], "{uncovered:?} {timing:?}");
        }
    }
}
