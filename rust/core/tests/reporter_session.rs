// SPDX-License-Identifier: GPL-2.0

//! A reporter's session: which operation next, whatever the host answers; and how often.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

use gvahint_core::reporter::answer::{Answered, Meaning};
use gvahint_core::reporter::host::HostLimits;
use gvahint_core::reporter::pace::{Pace, Sweep, Timer, MAX_STEP};
use gvahint_core::reporter::session::{Session, ASK_AGAIN_MS};
use gvahint_core::reporter::state::{State, Step};
use gvahint_core::reporter::stats::{Stat, Stats};
use gvahint_core::wire::{Errno, Hello, LINEAR_KEPT};

const ERRORS: [(i64, Stat); 8] = [
    (-1, Stat::ErrorPerm),
    (-7, Stat::ErrorTooBig),
    (-14, Stat::ErrorFault),
    (-22, Stat::ErrorInval),
    (-95, Stat::ErrorOpNotSupp),
    (-116, Stat::ErrorStale),
    (-1000, Stat::ErrorNoSys),
    (-5, Stat::ErrorOther),
];

/// In which the host knows of the reporter.
const LIVE: [State; 4] = [
    State::Linear,
    State::Sweeping,
    State::Steady,
    State::Degraded,
];

fn hello_words() -> [u64; 4] {
    let (lease_ms, max_gfn) = (10_000, 0x8000);
    Hello { lease_ms, max_gfn }.to_words()
}

/// A session that the host knows of, in that state.
fn session_in(state: State) -> Session {
    let mut session = Session::new();
    assert_eq!(session.next(true, 0), Step::Hello);
    session.hello(7, &hello_words(), 0);
    if state != State::Linear {
        session.sealed(0);
    }
    if state == State::Steady {
        session.swept();
    }
    if state == State::Degraded {
        session.canary_lost();
    }
    assert_eq!(session.state(), state);
    session
}

// Fails if a step is left out, or the numbers of calls do not increase from HELLO on.
#[test]
fn from_hello_to_steady() {
    let mut session = Session::new();
    assert!(!session.is_live());
    assert_eq!(session.next(true, 0), Step::Hello);
    let answered = session.hello(7, &hello_words(), 0);
    assert_eq!(answered.meaning, Meaning::Taken(7));
    assert_eq!(session.next(true, 0), Step::Linear);
    assert_eq!(session.a1(), Some(7 << 32 | 1));
    assert_eq!(session.answered(0, 0).meaning, Meaning::Taken(0));
    session.sealed(0);
    assert_eq!(session.state(), State::Sweeping);
    assert_eq!(session.next(true, 0), Step::Work);
    assert_eq!(session.a1(), Some(7 << 32 | 2));
    session.swept();
    assert_eq!(session.state(), State::Steady);
    assert_eq!(session.next(true, 0), Step::Work);
    // Another list, in the same session.
    session.linear_changed();
    assert_eq!(session.next(true, 0), Step::Linear);
    // And once more before that is taken.
    session.linear_changed();
    assert_eq!(session.a1(), Some(7 << 32 | 3));
    assert!(session.is_live());
}

// Fails if the guest leaves a host that still believes it without BYE: after a session that another one
// was to follow, or a HELLO that did not arrive.
#[test]
fn no_host_is_left_without_bye() {
    for state in LIVE {
        let mut session = session_in(state);
        session.start_over();
        assert!(session.is_live());
        assert_eq!(session.next(true, 50), Step::Hello);
        let answered = session.hello(-7, &[], 50);
        assert_eq!(answered.meaning, Meaning::Over);
        assert!(session.is_live());
        assert_eq!(session.next(false, 50), Step::Bye);
        session.left();
        session.off();
        assert_eq!(session.state(), State::Off);
    }
}

// Fails if what the host takes is misread, or believed without bounds.
#[test]
fn limits_of_the_host() {
    let session = session_in(State::Linear);
    let expected = HostLimits {
        poll_ms: 2_000,
        max_linear: 64,
        max_gvas: 7,
        max_order: 18,
        max_gfn: 0x8000,
    };
    assert_eq!(*session.limits(), expected);
    let all = u64::from(u32::MAX) << 32;
    let limits = HostLimits::from_words(&[1, all, all | 0xffff_ffff, u64::MAX]).unwrap();
    assert_eq!((limits.poll_ms, limits.max_linear), (1, 64));
    assert_eq!((limits.max_gvas, limits.max_order), (16, 18));
    assert_eq!(limits.max_gfn, 1 << 40);
    assert_eq!(HostLimits::from_words(&[2, all, all, 0]), None);
    assert_eq!(HostLimits::from_words(&[1, all, all]), None);
}

// Fails if a host without the hypercall is asked all the time, not asked again, or complained of
// more than once.
#[test]
fn a_silent_host() {
    let mut session = Session::new();
    for (round, answer) in [-1000, -95, -1000, 0, 7].into_iter().enumerate() {
        let now = round as u64 * ASK_AGAIN_MS;
        assert_eq!(session.next(true, now), Step::Hello);
        // 0 is no session, and words of another version are no answer.
        let words = if answer == 7 { [2, 0, 0, 0] } else { [0; 4] };
        let answered = session.hello(answer, &words, now);
        assert_eq!(answered.meaning, Meaning::Over);
        assert_eq!(answered.silent, round == 0);
        assert_eq!(session.state(), State::Dormant);
        let early = now + ASK_AGAIN_MS - 1;
        assert_eq!(session.next(true, early), Step::Wait(1));
    }
    // It answers, stops, and that is worth another line.
    session.hello(8, &hello_words(), 0);
    assert!(session.answered(-1000, 100).silent);
    assert_eq!(session.next(true, 100), Step::Wait(ASK_AGAIN_MS));
    assert!(!session.hello(-1000, &[0; 4], 6_000).silent);
}

// Fails if an error ends a session that goes on, or the other way round, or counts as another.
#[test]
fn answers() {
    for state in LIVE {
        for (answer, stat) in ERRORS {
            let mut session = session_in(state);
            let Answered {
                meaning,
                error,
                silent,
            } = session.answered(answer, 50);
            assert_eq!(error, Some(stat));
            let (expected, step) = match answer {
                -7 | -14 | -22 => {
                    let too_big = answer == -7;
                    let step = match state {
                        State::Linear => Step::Linear,
                        State::Degraded => Step::Renew,
                        _ => Step::Work,
                    };
                    (Meaning::Refused { too_big }, step)
                }
                -116 => (Meaning::Over, Step::Hello),
                _ => (Meaning::Over, Step::Wait(ASK_AGAIN_MS)),
            };
            assert_eq!(meaning, expected, "{answer}");
            assert_eq!(silent, meaning == Meaning::Over && answer != -116);
            assert_eq!(session.next(true, 50), step, "{answer}");
            assert_eq!(session.is_live(), meaning != Meaning::Over);
        }
    }
}

// Fails if switching off says no BYE, or switching on waits.
#[test]
fn off_and_on() {
    for state in LIVE {
        let mut session = session_in(state);
        assert_eq!(session.next(false, 0), Step::Bye);
        session.left();
        session.off();
        assert_eq!(session.state(), State::Off);
        assert!(matches!(session.next(false, 0), Step::Wait(_)));
        assert_eq!(session.next(true, 0), Step::Hello);
    }
    // While the host does not answer there is nobody to take leave of.
    let mut session = Session::new();
    session.hello(-1000, &[0; 4], 0);
    assert!(matches!(session.next(false, 1), Step::Wait(_)));
    assert_eq!(session.state(), State::Off);
    assert_eq!(session.next(true, 2), Step::Hello);
}

// Fails if the reporter believes that the host holds what it has forgotten, or tells anew what
// it holds.
#[test]
fn another_list_begins_nothing_anew() {
    for state in [State::Sweeping, State::Steady] {
        let mut session = session_in(state);
        session.linear_changed();
        session.linear_changed();
        assert!(session.sealed(LINEAR_KEPT));
        assert_eq!(session.state(), state);
        // A host without room for both, or an earlier one.
        session.linear_changed();
        assert!(!session.sealed(0));
        assert_eq!(session.state(), State::Sweeping);
        // A new session: whatever it answers, it knows nothing.
        session.linear_changed();
        session.start_over();
        session.hello(9, &hello_words(), 0);
        assert!(!session.sealed(LINEAR_KEPT));
        assert_eq!(session.state(), State::Sweeping);
    }
}

// Fails if a host to which nothing can be said is asked all the time, or never again.
#[test]
fn giving_up_is_for_a_while() {
    let mut session = session_in(State::Linear);
    session.give_up(1_000);
    assert_eq!(session.next(true, 1_000), Step::Wait(ASK_AGAIN_MS));
    assert_eq!(session.next(true, 1_000 + ASK_AGAIN_MS), Step::Hello);
    // What comes too late changes nothing.
    session.sealed(0);
    session.swept();
    session.linear_changed();
    assert_eq!(session.state(), State::Dormant);
}

// Fails if the calls of a new session go on with the old numbers.
#[test]
fn numbers_start_again() {
    let mut session = session_in(State::Steady);
    session.a1();
    session.start_over();
    assert_eq!(session.next(true, 0), Step::Hello);
    session.hello(9, &hello_words(), 0);
    assert_eq!(session.a1(), Some(9 << 32 | 1));
}

// Fails if errors of the host's side are not those that the guest knows.
#[test]
fn errors_have_names() {
    for errno in [
        Errno::Perm,
        Errno::TooBig,
        Errno::Fault,
        Errno::Inval,
        Errno::OpNotSupp,
        Errno::Stale,
        Errno::NoSys,
    ] {
        assert_eq!(Errno::from_answer(errno.negative()), Some(errno));
        assert_eq!(Errno::from_answer(errno.value()), None);
    }
    let stats = Stats::new();
    for (answer, stat) in ERRORS {
        assert_eq!(Stat::of_error(Errno::from_answer(answer)), stat);
        stats.add(stat, 2);
        stats.set(Stat::SweepMs, 5);
        assert_eq!((stats.get(stat), stats.get(Stat::SweepMs)), (2, 5));
    }
}

// Fails if the sweep is faster than its rate, stands still at a low one, or makes up for a pause.
#[test]
fn the_sweep_has_a_rate() {
    let mut sweep = Sweep::start(1_000);
    assert_eq!(sweep.allowance(65_536, false, 1_000), 0);
    assert_eq!(sweep.allowance(65_536, false, 1_010), 655);
    assert_eq!(sweep.allowance(65_536, false, 1_010), 0);
    // What is less than a page adds up.
    assert_eq!(sweep.allowance(256, false, 1_012), 0);
    assert_eq!(sweep.allowance(256, false, 1_014), 1);
    // After a suspend there is no burst.
    assert_eq!(sweep.allowance(4_096, false, 3_600_000), 4_096);
    assert_eq!(sweep.allowance(1 << 30, false, 7_200_000), MAX_STEP);
    sweep.advance(700);
    sweep.advance(600);
    assert_eq!(sweep.at(), 700);
    assert_eq!(sweep.elapsed_ms(1_500), 500);
}

// Fails if a busy host is not asked oftener than an idle one, or the bounds are left.
#[test]
fn the_pace_follows_the_host() {
    let mut pace = Pace::new(10, 0);
    assert_eq!(pace.wait_ms(0), 0);
    let mut seen = Vec::new();
    for _ in 0..9 {
        pace.told(0, 10, 2_000);
        seen.push(pace.interval_ms());
    }
    assert_eq!(seen, [20, 40, 80, 160, 320, 640, 1_280, 2_000, 2_000]);
    pace.asked(500);
    assert_eq!((pace.wait_ms(500), pace.wait_ms(2_600)), (2_000, 0));
    // A few pages: twice as often. Many: at once.
    pace.told(1, 10, 2_000);
    assert_eq!(pace.interval_ms(), 1_000);
    pace.told(512, 10, 2_000);
    assert_eq!(pace.interval_ms(), 10);
    pace.told(1, 10, 2_000);
    assert_eq!(pace.interval_ms(), 10);
    // Too often.
    pace.refused(10, 2_000);
    assert_eq!(pace.interval_ms(), 20);
    // The host's bound is the stronger one.
    pace.told(0, 500, 100);
    assert_eq!(pace.interval_ms(), 100);
}

// Fails if a timer fires early, twice, or never again.
#[test]
fn timers_fire_once() {
    let mut timer = Timer::after(100, 1_000);
    assert!(!timer.fires(100, 1_099));
    assert!(timer.fires(100, 1_100));
    assert!(!timer.fires(100, 1_199));
    assert!(timer.fires(100, 5_000));
    assert!(!timer.fires(100, 5_099));
}
