// SPDX-License-Identifier: GPL-2.0

//! Which operation next, and what its answer means.
//!
//! The states stand in [`super::state`].

use super::answer::{error_of, Answered, Meaning};
use super::host::HostLimits;
use super::state::{State, Step};
use crate::wire::{Errno, LINEAR_KEPT};

/// How long to wait before a host that does not answer is asked again.
pub const ASK_AGAIN_MS: u64 = 5_000;

/// A reporter's session.
///
/// ```
/// use gvahint_core::reporter::{session::*, state::*};
/// use gvahint_core::wire::Hello;
/// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
/// let mut session = Session::new();
/// session.hello(7, &words, 0);
/// assert_eq!(session.next(true, 0), Step::Linear);
/// session.sealed(0);
/// assert_eq!(session.next(true, 0), Step::Work);
/// ```
#[derive(Debug)]
pub struct Session {
    state: State,
    id: u32,
    seq: u32,
    limits: HostLimits,
    ask_at_ms: u64,
    silence_said: bool,
    /// The host took HELLO, and may believe what it was told since.
    live: bool,
    /// Where it stood before the linear ranges changed.
    stood: Option<State>,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// Nothing is known of the host yet.
    ///
    /// ```
    /// use gvahint_core::reporter::{session::*, state::*};
    /// assert_eq!(Session::new().state(), State::Dormant);
    /// ```
    pub const fn new() -> Self {
        Self {
            state: State::Dormant,
            id: 0,
            seq: 0,
            limits: HostLimits::NONE,
            ask_at_ms: 0,
            silence_said: false,
            live: false,
            stood: None,
        }
    }

    /// Where it stands.
    ///
    /// ```
    /// use gvahint_core::reporter::{session::*, state::*};
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// assert_eq!(session.state(), State::Linear);
    /// ```
    pub const fn state(&self) -> State {
        self.state
    }

    /// What the host takes.
    ///
    /// ```
    /// use gvahint_core::reporter::session::*;
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// assert_eq!(session.limits().max_linear, 64);
    /// ```
    pub const fn limits(&self) -> &HostLimits {
        &self.limits
    }

    /// Whether the host may know of us, and believe what it was told: also
    /// before HELLO, if a session is to follow another one.
    ///
    /// ```
    /// use gvahint_core::reporter::{session::*, state::*};
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// session.start_over();
    /// assert!(session.is_live());
    /// assert_eq!(session.next(false, 0), Step::Bye);
    /// assert!(!Session::new().is_live());
    /// ```
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// Whether the host is told of pages, or soon will be.
    ///
    /// ```
    /// use gvahint_core::reporter::session::*;
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// session.sealed(0);
    /// assert!(session.is_told());
    /// session.canary_lost();
    /// assert!(session.is_live() && !session.is_told());
    /// ```
    pub const fn is_told(&self) -> bool {
        matches!(self.state, State::Linear | State::Sweeping | State::Steady)
    }

    /// What to do next.
    ///
    /// ```
    /// use gvahint_core::reporter::{session::*, state::*};
    /// let mut session = Session::new();
    /// session.hello(-1000, &[], 0);
    /// assert_eq!(session.next(true, 1_000), Step::Wait(4_000));
    /// assert_eq!(session.next(true, 5_000), Step::Hello);
    /// ```
    pub fn next(&mut self, enabled: bool, now_ms: u64) -> Step {
        match (self.state, enabled) {
            (State::Off, false) => Step::Wait(ASK_AGAIN_MS),
            (State::Off, true) => {
                self.state = State::Dormant;
                Step::Hello
            }
            (State::Dormant, false) if !self.live => {
                self.state = State::Off;
                self.ask_at_ms = 0;
                Step::Wait(ASK_AGAIN_MS)
            }
            (_, false) => Step::Bye,
            (State::Dormant, true) => match self.ask_at_ms.saturating_sub(now_ms) {
                0 => Step::Hello,
                wait => Step::Wait(wait),
            },
            (State::Linear, true) => Step::Linear,
            (State::Sweeping | State::Steady, true) => Step::Work,
            (State::Degraded, true) => Step::Renew,
        }
    }

    /// a1 of the next call but HELLO. `None`: the numbers are used up, which
    /// ends the session.
    ///
    /// ```
    /// use gvahint_core::reporter::session::*;
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// assert_eq!(session.a1(), Some(7 << 32 | 1));
    /// assert_eq!(session.a1(), Some(7 << 32 | 2));
    /// ```
    pub fn a1(&mut self) -> Option<u64> {
        match self.seq.checked_add(1) {
            Some(seq) => {
                self.seq = seq;
                Some(u64::from(self.id) << 32 | u64::from(seq))
            }
            None => {
                self.start_over();
                None
            }
        }
    }

    /// The host does not know us any more, or must forget: HELLO is next.
    ///
    /// ```
    /// use gvahint_core::reporter::{session::*, state::*};
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// session.start_over();
    /// assert_eq!(session.next(true, 0), Step::Hello);
    /// ```
    pub fn start_over(&mut self) {
        self.state = State::Dormant;
        self.ask_at_ms = 0;
    }

    /// HELLO was answered with `answer` and, if that is > 0, `words`.
    ///
    /// ```
    /// use gvahint_core::reporter::{answer::*, session::*};
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// assert_eq!(session.hello(7, &words, 0).meaning, Meaning::Taken(7));
    /// ```
    pub fn hello(&mut self, answer: i64, words: &[u64], now_ms: u64) -> Answered {
        let limits = HostLimits::from_words(words);
        match (u32::try_from(answer), limits) {
            (Ok(id), Some(limits)) if id > 0 => {
                self.state = State::Linear;
                self.id = id;
                self.seq = 0;
                self.limits = limits;
                self.silence_said = false;
                self.live = true;
                self.stood = None;
                Answered {
                    meaning: Meaning::Taken(u64::from(id)),
                    error: None,
                    silent: false,
                }
            }
            _ => self.fall_silent(answer, now_ms),
        }
    }

    /// Any other operation was answered.
    ///
    /// ```
    /// use gvahint_core::reporter::{answer::*, session::*, state::*};
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// // GVAHINT_ESTALE
    /// assert_eq!(session.answered(-116, 0).meaning, Meaning::Over);
    /// assert_eq!(session.next(true, 0), Step::Hello);
    /// ```
    pub fn answered(&mut self, answer: i64, now_ms: u64) -> Answered {
        let taken = u64::try_from(answer).map(Meaning::Taken);
        let meaning = match (taken, Errno::from_answer(answer)) {
            (Ok(taken), _) => taken,
            (_, Some(Errno::Stale)) => {
                self.left();
                self.start_over();
                Meaning::Over
            }
            (_, Some(Errno::TooBig)) => Meaning::Refused { too_big: true },
            (_, Some(Errno::Fault | Errno::Inval)) => Meaning::Refused { too_big: false },
            (_, Some(Errno::NoSys | Errno::OpNotSupp | Errno::Perm) | None) => {
                self.left();
                return self.fall_silent(answer, now_ms);
            }
        };
        Answered {
            meaning,
            error: error_of(answer),
            silent: false,
        }
    }

    /// CANARY was answered. Unlike elsewhere KVM_EOPNOTSUPP is about this
    /// operation only: the host's CPUs drop no single gVA.
    ///
    /// ```
    /// use gvahint_core::reporter::{answer::*, session::*};
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// let answered = session.canary_answered(-95, 0);
    /// assert_eq!(answered.meaning, Meaning::Refused { too_big: false });
    /// assert!(session.is_live());
    /// ```
    pub fn canary_answered(&mut self, answer: i64, now_ms: u64) -> Answered {
        if Errno::from_answer(answer) != Some(Errno::OpNotSupp) {
            return self.answered(answer, now_ms);
        }
        Answered {
            meaning: Meaning::Refused { too_big: false },
            error: error_of(answer),
            silent: false,
        }
    }

    /// A canary was lost: the host uses no hints of this session any more.
    ///
    /// ```
    /// use gvahint_core::reporter::{session::*, state::*};
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// session.sealed(0);
    /// session.canary_lost();
    /// assert_eq!(session.next(true, 0), Step::Renew);
    /// ```
    pub fn canary_lost(&mut self) {
        if self.is_told() {
            self.state = State::Degraded;
        }
    }

    /// The host did not answer.
    fn fall_silent(&mut self, answer: i64, now_ms: u64) -> Answered {
        self.state = State::Dormant;
        self.ask_at_ms = now_ms.saturating_add(ASK_AGAIN_MS);
        let silent = !self.silence_said;
        self.silence_said = true;
        Answered {
            meaning: Meaning::Over,
            error: error_of(answer),
            silent,
        }
    }

    /// Nothing can be told to this host, though it would listen: it is asked
    /// again later.
    ///
    /// ```
    /// use gvahint_core::reporter::{session::*, state::*};
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// session.give_up(0);
    /// assert_eq!(session.next(true, 0), Step::Wait(ASK_AGAIN_MS));
    /// ```
    pub fn give_up(&mut self, now_ms: u64) {
        self.state = State::Dormant;
        self.ask_at_ms = now_ms.saturating_add(ASK_AGAIN_MS);
    }

    /// LINEAR was taken, and answered so: what is in memory can be told. Returns
    /// whether the host still holds what it was told; then nothing begins anew.
    ///
    /// ```
    /// use gvahint_core::reporter::{session::*, state::*};
    /// use gvahint_core::wire::{Hello, LINEAR_KEPT};
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// assert!(!session.sealed(LINEAR_KEPT) && session.state() == State::Sweeping);
    /// session.swept();
    /// session.linear_changed();
    /// assert!(session.sealed(LINEAR_KEPT) && session.state() == State::Steady);
    /// session.linear_changed();
    /// assert!(!session.sealed(0) && session.state() == State::Sweeping);
    /// ```
    pub fn sealed(&mut self, answer: u64) -> bool {
        let stood = self.stood.take().filter(|_| answer == LINEAR_KEPT);
        if self.state == State::Linear {
            self.state = stood.unwrap_or(State::Sweeping);
        }
        stood.is_some()
    }

    /// There is more memory to look at than when the last sweep began.
    ///
    /// ```
    /// use gvahint_core::reporter::{session::*, state::*};
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// session.sealed(0);
    /// session.swept();
    /// session.sweep_again();
    /// assert_eq!(session.state(), State::Sweeping);
    /// ```
    pub fn sweep_again(&mut self) {
        if self.state == State::Steady {
            self.state = State::Sweeping;
        }
    }

    /// The linear ranges have changed.
    ///
    /// ```
    /// use gvahint_core::reporter::{session::*, state::*};
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// session.sealed(0);
    /// session.linear_changed();
    /// assert_eq!(session.next(true, 0), Step::Linear);
    /// ```
    pub fn linear_changed(&mut self) {
        if matches!(self.state, State::Sweeping | State::Steady) {
            self.stood = Some(self.state);
            self.state = State::Linear;
        }
    }

    /// All memory was looked at.
    ///
    /// ```
    /// use gvahint_core::reporter::{session::*, state::*};
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// session.sealed(0);
    /// session.swept();
    /// assert_eq!(session.state(), State::Steady);
    /// ```
    pub fn swept(&mut self) {
        if self.state == State::Sweeping {
            self.state = State::Steady;
        }
    }

    /// The host believes nothing any more: BYE was said, whatever it answered,
    /// or it is gone.
    ///
    /// ```
    /// use gvahint_core::reporter::{session::*, state::*};
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// session.left();
    /// assert!(!session.is_live());
    /// ```
    pub fn left(&mut self) {
        self.live = false;
    }

    /// The reporter is switched off, after BYE.
    ///
    /// ```
    /// use gvahint_core::reporter::{session::*, state::*};
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let mut session = Session::new();
    /// session.hello(7, &words, 0);
    /// assert_eq!(session.next(false, 0), Step::Bye);
    /// session.left();
    /// session.off();
    /// assert_eq!(session.state(), State::Off);
    /// ```
    pub fn off(&mut self) {
        self.state = State::Off;
        self.ask_at_ms = 0;
    }
}
