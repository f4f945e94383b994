// SPDX-License-Identifier: GPL-2.0

//! A reporter's canaries: when they are asked, and what follows from the answers.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

use gvahint_core::canary::{CAME_BACK, INCONCLUSIVE, LOST};
use gvahint_core::reporter::answer::Meaning;
use gvahint_core::reporter::canary::{Canary, Verdict, HASTE_MS};
use gvahint_core::reporter::session::{Session, ASK_AGAIN_MS};
use gvahint_core::reporter::state::{State, Step};
use gvahint_core::reporter::stats::Stat;
use gvahint_core::wire::{Errno, Hello};

const INTERVAL_MS: u64 = 60_000;

fn taken(answer: i64) -> Meaning {
    Meaning::Taken(u64::try_from(answer).unwrap())
}

/// A canary whose first step was answered with 0.
fn ask(canary: &mut Canary, answer: i64, now_ms: u64) -> Verdict {
    canary.heard(taken(CAME_BACK), Some(taken(answer)), now_ms)
}

// Fails if anything but two answers of 0 is fine, or anything but a 1 to the second step is lost.
#[test]
fn what_answers_tell() {
    let refused = Meaning::Refused { too_big: true };
    let nothing = Verdict::Inconclusive;
    for (clear, test, expected) in [
        (taken(CAME_BACK), Some(taken(CAME_BACK)), Verdict::Ok),
        (taken(CAME_BACK), Some(taken(LOST)), Verdict::Lost),
        (taken(CAME_BACK), Some(taken(INCONCLUSIVE)), nothing),
        (taken(CAME_BACK), Some(Meaning::Taken(u64::MAX)), nothing),
        (taken(CAME_BACK), Some(refused), nothing),
        (taken(CAME_BACK), None, nothing),
        (taken(INCONCLUSIVE), None, nothing),
        (taken(LOST), None, nothing),
        (refused, None, nothing),
        (Meaning::Over, None, nothing),
    ] {
        let mut canary = Canary::new();
        assert_eq!(canary.heard(clear, test, 0), expected, "{clear:?} {test:?}");
        assert_eq!(canary.verdict(), expected);
    }
    assert_eq!(Verdict::Inconclusive.counter(), Stat::CanaryInconclusive);
    assert_eq!(Verdict::Ok.counter(), Stat::CanaryOk);
}

// Fails if what was told is forgotten for one that tells nothing, or an older one outlives a newer.
#[test]
fn the_last_one_that_told_anything() {
    let mut canary = Canary::new();
    ask(&mut canary, INCONCLUSIVE, 0);
    ask(&mut canary, CAME_BACK, 1);
    ask(&mut canary, INCONCLUSIVE, 2);
    assert_eq!(canary.verdict(), Verdict::Ok);
    ask(&mut canary, LOST, 3);
    ask(&mut canary, INCONCLUSIVE, 4);
    assert_eq!(canary.verdict(), Verdict::Lost);
}

// Fails if the first is not asked at once, if a host is asked more than once a second, if one that
// always tells nothing (large pages) is asked in haste for ever, or 0 does not switch it off.
#[test]
fn when_to_ask() {
    let mut canary = Canary::new();
    assert!(canary.is_due(INTERVAL_MS, 7) && !canary.is_due(0, 7));
    let mut now = 7;
    let mut gaps = Vec::new();
    for _ in 0..6 {
        ask(&mut canary, INCONCLUSIVE, now);
        let gap = (1..).find(|gap| canary.is_due(INTERVAL_MS, now + gap));
        gaps.push(gap.unwrap());
        now += gap.unwrap();
    }
    let slow = INTERVAL_MS;
    assert_eq!(gaps, [HASTE_MS, HASTE_MS, HASTE_MS, slow, slow, slow]);
    // No interval is shorter than what the host answers.
    ask(&mut canary, CAME_BACK, now);
    assert!(!canary.is_due(1, now + HASTE_MS - 1) && canary.is_due(1, now + HASTE_MS));
    // A change of the setting counts at once.
    assert!(!canary.is_due(INTERVAL_MS, now + 5_000) && canary.is_due(5_000, now + 5_000));
    // A clock that is behind makes it wait, no more.
    assert!(!canary.is_due(INTERVAL_MS, 0));
}

fn session() -> Session {
    let (lease_ms, max_gfn) = (10_000, 0x8000);
    let mut session = Session::new();
    session.hello(7, &Hello { lease_ms, max_gfn }.to_words(), 0);
    session.sealed(0);
    session
}

// Fails if a degraded VM goes on to report, lets its lease lapse, or gets out of it without HELLO.
#[test]
fn degraded_until_hello() {
    let mut session = session();
    session.canary_lost();
    assert_eq!(session.state(), State::Degraded);
    assert!(session.is_live() && !session.is_told());
    for now in [0, 10_000] {
        assert_eq!(session.next(true, now), Step::Renew);
        assert_eq!(session.answered(0, now).meaning, Meaning::Taken(0));
    }
    session.swept();
    session.sealed(0);
    session.linear_changed();
    assert_eq!(session.state(), State::Degraded);
    // The host was exchanged, or the guest: another try.
    session.answered(Errno::Stale.negative(), 0);
    assert_eq!(session.next(true, 0), Step::Hello);
    // Switched off and on: the same.
    let mut session = self::session();
    session.canary_lost();
    assert_eq!(session.next(false, 0), Step::Bye);
    session.left();
    session.off();
    assert_eq!(session.next(true, 0), Step::Hello);
}

// Fails if a host without INVVPID of one address, or without CANARY, is taken for one that does not
// answer, or the other way round.
#[test]
fn hosts_without() {
    for (errno, live) in [
        (Errno::OpNotSupp, true),
        (Errno::Inval, true),
        (Errno::TooBig, true),
        (Errno::Fault, true),
        (Errno::NoSys, false),
        (Errno::Stale, false),
    ] {
        let mut session = session();
        let answered = session.canary_answered(errno.negative(), 0);
        assert_eq!(answered.error, Some(Stat::of_error(Some(errno))));
        assert_eq!(answered.meaning != Meaning::Over, live, "{errno:?}");
        assert_eq!(session.is_live(), live, "{errno:?}");
    }
    let mut session = session();
    session.canary_answered(Errno::NoSys.negative(), 0);
    assert_eq!(session.next(true, 0), Step::Wait(ASK_AGAIN_MS));
    // What was lost in a session that is gone means nothing.
    session.canary_lost();
    assert_eq!(session.state(), State::Dormant);
}
