// SPDX-License-Identifier: GPL-2.0

//! Policies, parameters, sessions, leases and counters.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

use gvahint_core::addr::{Gfn, Gpa, Level};
use gvahint_core::counters::{Copies, Counter, Counters};
use gvahint_core::log::{Done, Drained, Escalation};
use gvahint_core::plan::Reason;
use gvahint_core::policy::*;
use gvahint_core::session::{Lease, LeaseState, Rate, SessionState};
use gvahint_core::wire::{Errno, Fault, WireError};
use std::collections::BTreeSet;

#[test]
fn names_are_read_as_they_are_written() {
    assert_eq!(Flush::ALL.len(), 5);
    for flush in Flush::ALL {
        assert_eq!(Flush::parse(flush.name().as_bytes()), Some(*flush));
        assert_eq!(Flush::from_u8(flush.to_u8()), Some(*flush));
    }
    for text in ["", "Hint", "hint ", "hints", "hin", "default\n"] {
        assert_eq!(Flush::parse(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(Flush::from_u8(5), None);
    assert_eq!(Timing::parse(b"batched"), Some(Timing::Batched));
    assert_eq!(Uncovered::parse(b"none"), Some(Uncovered::None));
    assert_eq!(LinearAlias::parse(b"always"), Some(LinearAlias::Always));
    assert_eq!(
        Calibration::parse(b"failed-context"),
        Some(Calibration::FailedContext)
    );
}

#[test]
fn what_a_vm_does_not_set_it_inherits() {
    let global = Policy::CLEAR_YOUNG;
    let cell = PolicyCell::inherit();
    assert_eq!(cell.load(), Override::INHERIT);
    assert_eq!(cell.load().over(global), global);
    for flush in Flush::ALL {
        for timing in [None, Some(Timing::Now)] {
            let set = Override {
                flush: Some(*flush),
                uncovered: None,
                timing,
            };
            cell.store(set);
            assert_eq!(cell.load(), set);
            let policy = cell.load().over(global);
            assert_eq!(policy.flush, *flush);
            assert_eq!(policy.uncovered, global.uncovered);
            assert_eq!(policy.timing, timing.unwrap_or(global.timing));
        }
    }
    let cell = PolicyCell::new(Policy::CLEAR_FLUSH_YOUNG);
    assert_eq!(cell.load().over(global), Policy::CLEAR_FLUSH_YOUNG);
}

#[test]
fn each_parameter_takes_its_range_and_nothing_else() {
    let cell = TunablesCell::new();
    assert_eq!(cell.load(), Tunables::DEFAULT);
    for (which, good, bad) in [
        (Tunable::BatchPages, &[1, 64, 4096][..], &[0, 4097][..]),
        (Tunable::MaxDelayMs, &[0, 1, 1000], &[1001]),
        (Tunable::HintMaxAgeMs, &[100, 600_000], &[0, 99, 600_001]),
        (Tunable::LeaseMs, &[100, 600_000], &[0, 99, 600_001]),
        (Tunable::MaxGvasPerEntry, &[1, 65_536], &[0, 65_537]),
        (
            Tunable::LogEntries,
            &[256, 512, 65_536],
            &[0, 128, 300, 131_072],
        ),
        (Tunable::MaxBytesPerVm, &[0, 65_536, 1 << 40], &[1, 65_535]),
    ] {
        let mut tunables = Tunables::DEFAULT;
        for value in good {
            cell.set(which, *value).unwrap();
            tunables.set(which, *value).unwrap();
            assert_eq!(cell.load(), tunables);
            assert_eq!(tunables.get(which), *value);
        }
        let wide = [u64::MAX, 1 << 32 | 256];
        let wide = if which == Tunable::MaxBytesPerVm {
            &[]
        } else {
            &wide[..]
        };
        for value in bad.iter().chain(wide) {
            assert_eq!(
                cell.set(which, *value),
                Err(OutOfRange),
                "{which:?} {value}"
            );
            assert_eq!(tunables.set(which, *value), Err(OutOfRange));
            assert_eq!(cell.load(), tunables);
        }
        cell.set(which, Tunables::DEFAULT.get(which)).unwrap();
    }
    cell.set_linear_alias(LinearAlias::Never);
    assert_eq!(cell.load().linear_alias, LinearAlias::Never);
    cell.set_calibration(Calibration::FailedContext);
    assert_eq!(cell.load().calibration, Calibration::FailedContext);
    assert_eq!(cell.load().linear_alias, LinearAlias::Never);
}

#[test]
fn memory_is_limited_in_proportion_or_as_set() {
    let mut tunables = Tunables::DEFAULT;
    let gib = |n: u64| n << 18;
    assert_eq!(tunables.byte_limit(gib(4)), (4 << 30) / 400 + (1 << 20));
    tunables.max_bytes_per_vm = 65_536;
    assert_eq!(tunables.byte_limit(gib(4)), 65_536);
    let _ = Tunables::DEFAULT.byte_limit(u64::MAX);
}

#[test]
fn a_session_admits_rising_numbers_of_its_own() {
    let mut counter = 6;
    assert_eq!(SessionState::NONE.admit_all(&[0, 1, u64::MAX]), [false; 3]);
    let mut s = SessionState::hello(&mut counter);
    assert_eq!((s.id, s.sealed), (7, false));
    let call = |id: u64, seq: u64| id << 32 | seq;
    for (a1, good) in [
        (call(7, 0), false),
        (call(7, 1), true),
        (call(7, 1), false),
        (call(8, 2), false),
        (call(6, 2), false),
        (call(0, 2), false),
        (call(7, 5), true),
        (call(7, 4), false),
        (call(7, 0xffff_ffff), true),
        (call(7, 0xffff_ffff), false),
        (call(7, 0), false),
    ] {
        let result = s.admit(a1);
        assert_eq!(result.is_ok(), good, "{a1:x}");
        if let Err(error) = result {
            assert_eq!((error.fault, error.errno()), (Fault::Stale, Errno::Stale));
        }
    }
    // Another HELLO makes the session before stale.
    let next = SessionState::hello(&mut counter);
    assert_eq!(next.admit_all(&[call(7, 9), call(8, 1)]), [false, true]);
    // No session is 0, also when the counter wraps.
    let mut counter = u32::MAX;
    assert_eq!(SessionState::hello(&mut counter).id, 1);
}

trait AdmitAll {
    fn admit_all(self, calls: &[u64]) -> Vec<bool>;
}

impl AdmitAll for SessionState {
    fn admit_all(mut self, calls: &[u64]) -> Vec<bool> {
        calls.iter().map(|a1| self.admit(*a1).is_ok()).collect()
    }
}

#[test]
fn a_lease_lapses_and_is_renewed() {
    let lease = Lease::new();
    assert_eq!(lease.state(5, 100), LeaseState::Silent);
    assert_eq!(lease.check(5, 100), Err(Reason::NoSession));
    // Nothing to seal or renew.
    let _ = lease.seal(5);
    let _ = lease.renew(5);
    assert_eq!(lease.state(5, 100), LeaseState::Silent);

    lease.start(1000);
    assert_eq!(lease.state(1000, 100), LeaseState::NoLinear);
    assert_eq!(lease.check(1000, 100), Err(Reason::NoLinear));
    let _ = lease.renew(1050);
    assert_eq!(lease.state(1150, 100), LeaseState::NoLinear);
    assert_eq!(lease.state(1151, 100), LeaseState::Lapsed);
    assert!(!lease.alive(1100, 100));

    let _ = lease.seal(2000);
    assert_eq!(lease.check(2000, 100), Ok(()));
    assert!(lease.alive(2100, 100));
    assert_eq!(lease.state(2101, 100), LeaseState::Lapsed);
    assert_eq!(lease.check(2101, 100), Err(Reason::NoSession));
    // Read on a CPU whose clock reading is a little older.
    assert!(lease.alive(1990, 100));
    // What it was until it was renewed.
    let before = lease.renew(5000);
    assert_eq!(before.state(2100, 100), LeaseState::Live);
    assert_eq!(before.state(5000, 100), LeaseState::Lapsed);
    assert!(lease.alive(5100, 100));
    // A new session has to say LINEAR again.
    lease.start(6000);
    assert_eq!(lease.state(6000, 100), LeaseState::NoLinear);
    lease.end();
    assert_eq!(lease.state(6000, 100), LeaseState::Silent);
}

#[test]
fn a_rate_holds_for_each_second() {
    let mut rate = Rate::new(3);
    let refused = Err(WireError::call(Fault::Rate));
    for start in [0, 5_000, 6_000] {
        for at in [0, 1, 999] {
            assert_eq!(rate.admit(start + at), Ok(()));
        }
        assert_eq!(rate.admit(start + 999), refused);
    }
    assert_eq!(Rate::new(0).admit(0), refused);
}

#[test]
fn counters_have_names_of_their_own_and_count() {
    let names: BTreeSet<_> = Counter::ALL.iter().map(|c| c.name()).collect();
    assert_eq!(names.len(), Counter::ALL.len());
    let reasons: BTreeSet<_> = Reason::ALL.iter().map(|r| r.counter().to_u8()).collect();
    assert_eq!(reasons.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        let name = format!("uncovered_{}", reason.name());
        assert_eq!(reason.counter().name(), name);
    }
    let counters = Counters::new();
    for (n, counter) in (1..).zip(Counter::ALL) {
        counters.add(*counter, n);
    }
    for (n, counter) in (1..).zip(Counter::ALL) {
        assert_eq!(counters.get(*counter), n);
    }
}

#[test]
fn copies_add_up_and_cpus_share_them() {
    let copies = Copies::new();
    for cpu in 0..40 {
        copies.on(cpu).add(Counter::Drains, u64::from(cpu));
    }
    assert_eq!(copies.get(Counter::Drains), 780);
    assert!(core::ptr::eq(copies.on(3), copies.on(19)));
    assert!(!core::ptr::eq(copies.on(3), copies.on(4)));
    copies.on(u32::MAX).add(Counter::Aged, 1);
    copies.set(Counter::Hints, 5);
    copies.set(Counter::Hints, 4);
    let levels = (copies.get(Counter::Aged), copies.get(Counter::Hints));
    assert_eq!(levels, (1, 4));
}

#[test]
fn coverage_is_of_the_pages_that_were_looked_up() {
    let counters = Copies::new();
    counters.on(1).add(Counter::Aged, 100);
    assert_eq!(counters.coverage(), None);
    counters.on(1).add(Counter::Covered, 2);
    assert_eq!(counters.coverage(), Some(10_000));
    counters.on(2).add(Counter::Uncovered, 1);
    assert_eq!(counters.coverage(), Some(6_666));
    let counters = Copies::new();
    counters.set(Counter::Covered, 1 << 62);
    counters.set(Counter::Uncovered, 3 << 62);
    assert_eq!(counters.coverage(), Some(2_500));
}

#[test]
fn drains_are_counted_by_what_they_did() {
    let counters = Counters::new();
    let drain = |gvas, done, why, unpublished| {
        counters.drained(&Drained {
            gvas,
            done,
            why,
            unpublished,
        });
    };
    drain(3, Done::Gvas, None, false);
    drain(0, Done::Nothing, None, true);
    drain(0, Done::Full, None, false);
    drain(0, Done::Context, None, false);
    drain(2, Done::Context, Some(Escalation::Refused), false);
    drain(0, Done::Context, Some(Escalation::Lag), false);
    drain(0, Done::Context, Some(Escalation::TooMany), false);
    drain(1, Done::Context, Some(Escalation::Overwritten), false);
    for (counter, n) in [
        (Counter::Drains, 8),
        (Counter::DrainedGva, 6),
        (Counter::DrainedNothing, 1),
        (Counter::DrainedContext, 5),
        (Counter::DrainedFull, 1),
        (Counter::Unpublished, 1),
        (Counter::Refused, 1),
        (Counter::Lagged, 1),
        (Counter::TooMany, 1),
        (Counter::Overwritten, 1),
    ] {
        assert_eq!(counters.get(counter), n, "{counter:?}");
    }
}

#[test]
fn addresses_and_levels() {
    assert!(Gpa::new(1 << 52).is_none());
    let gpa = Gpa::new((1 << 52) - 1).unwrap();
    assert_eq!(gpa.gfn(), Gfn::new((1 << 40) - 1).unwrap());
    assert_eq!(gpa.gfn().gpa().raw(), (1 << 52) - 4096);
    let levels: Vec<_> = (0..5).map(Level::from_kvm).collect();
    let pages = |level: Option<Level>| level.map(Level::pages);
    assert_eq!(
        levels.into_iter().map(pages).collect::<Vec<_>>(),
        [None, Some(1), Some(512), Some(1 << 18), None]
    );
}
