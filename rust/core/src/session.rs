// SPDX-License-Identifier: GPL-2.0

//! Who may report, and for how long what was reported holds.

use crate::cast;
use crate::plan::Reason;
use crate::sync::{AtomicU64, Ordering};
use crate::wire::{Fault, WireError};

/// The session that a guest began with HELLO; under the VM's hypercall lock.
///
/// ```
/// use gvahint_core::session::SessionState;
/// let mut counter = 0;
/// let mut session = SessionState::hello(&mut counter);
/// assert!(session.admit(1 << 32 | 1).is_ok());
/// // A guest that was reset says HELLO anew; the old one's calls are stale.
/// session = SessionState::hello(&mut counter);
/// assert!(session.admit(1 << 32 | 2).is_err());
/// assert!(session.admit(2 << 32 | 1).is_ok());
/// ```
///
/// # Invariants
///
/// `id` is 0 if and only if there is no session. `last_seq` never decreases
/// within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// The session's number, 0 for none.
    pub id: u32,
    /// The highest sequence number admitted.
    pub last_seq: u32,
    /// LINEAR was said, REPORT may follow.
    pub sealed: bool,
}

impl SessionState {
    /// No session.
    pub const NONE: Self = Self {
        id: 0,
        last_seq: 0,
        sealed: false,
    };

    /// Begins a session. `counter` belongs to the host and outlives VMs'
    /// sessions, so that a number recurs only after 2^32 of them.
    ///
    /// ```
    /// use gvahint_core::session::SessionState;
    /// let mut counter = u32::MAX;
    /// assert_eq!(SessionState::hello(&mut counter).id, 1);
    /// ```
    pub fn hello(counter: &mut u32) -> Self {
        *counter = counter.wrapping_add(1);
        if *counter == 0 {
            *counter = 1;
        }
        Self {
            id: *counter,
            ..Self::NONE
        }
    }

    /// Admits a call by its a1 = session << 32 | sequence number.
    ///
    /// The number is used up, whatever becomes of the call. The first one is
    /// at least 1.
    ///
    /// ```
    /// use gvahint_core::{session::SessionState, wire::{Fault, WireError}};
    /// let mut session = SessionState::hello(&mut 6);
    /// let stale = Err(WireError::call(Fault::Stale));
    /// assert_eq!(session.admit(7 << 32), stale); // the first number is 1
    /// assert_eq!(session.admit(7 << 32 | 5), Ok(()));
    /// assert_eq!(session.admit(7 << 32 | 4), stale); // overtaken, or replayed
    /// ```
    ///
    /// # Errors
    ///
    /// [`Fault::Stale`] if the session is another one or none, or the number
    /// is not above the last one.
    pub fn admit(&mut self, a1: u64) -> Result<(), WireError> {
        let seq = cast::low_u32(a1);
        if self.id == 0 || cast::high_u32(a1) != self.id || seq <= self.last_seq {
            return Err(WireError::call(Fault::Stale));
        }
        self.last_seq = seq;
        Ok(())
    }
}

/// How often something may be done: so many times in each second.
///
/// ```
/// use gvahint_core::session::Rate;
/// let mut rate = Rate::new(2);
/// assert!(rate.admit(1_000).is_ok() && rate.admit(1_001).is_ok());
/// assert!(rate.admit(1_999).is_err());
/// assert!(rate.admit(2_000).is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: u32,
    /// The second that is counted, and how often it was done in it.
    second: u64,
    used: u32,
}

impl Rate {
    /// `per_second` times.
    ///
    /// ```
    /// use gvahint_core::session::Rate;
    /// assert!(Rate::new(0).admit(1_000).is_err()); // never
    /// ```
    pub const fn new(per_second: u32) -> Self {
        Self {
            per_second,
            second: 0,
            used: 0,
        }
    }

    /// Asks to do it once more, `now_ms`.
    ///
    /// ```
    /// use gvahint_core::{session::Rate, wire::Errno};
    /// let mut rate = Rate::new(1);
    /// assert_eq!(rate.admit(5_000), Ok(()));
    /// // What was refused does not count: nobody is kept out for trying.
    /// assert_eq!(rate.admit(5_500).map_err(|bad| bad.errno()), Err(Errno::TooBig));
    /// assert_eq!(rate.admit(6_000), Ok(()));
    /// ```
    ///
    /// # Errors
    ///
    /// [`Fault::Rate`] until the next second begins.
    pub fn admit(&mut self, now_ms: u64) -> Result<(), WireError> {
        let second = now_ms / 1_000;
        if second != self.second {
            (self.second, self.used) = (second, 0);
        }
        if self.used >= self.per_second {
            return Err(WireError::call(Fault::Rate));
        }
        self.used = self.used.saturating_add(1);
        Ok(())
    }
}

named_enum! {
    /// Whether a VM's hints are used, and if not, why.
    ///
    /// ```
    /// use gvahint_core::session::{Lease, LeaseState};
    /// let lease = Lease::new();
    /// lease.start(1_000);
    /// assert_eq!(lease.state(1_000, 500), LeaseState::NoLinear);
    /// let _ = lease.seal(1_200);
    /// assert_eq!(lease.state(1_700, 500), LeaseState::Live);
    /// assert_eq!(lease.state(1_701, 500), LeaseState::Lapsed);
    /// ```
    pub enum LeaseState {
        /// The guest never said HELLO, or said BYE.
        Silent = 0 => "silent",
        /// The session has not said LINEAR yet.
        NoLinear = 1 => "no-linear",
        /// Hints are used.
        Live = 2 => "live",
        /// The guest was silent for longer than the lease.
        Lapsed = 3 => "lapsed",
    }
}

const SESSION: u64 = 1;
const SEALED: u64 = 2;
const TIME_SHIFT: u32 = 2;

/// What atomic context has to know of a session: one word, one compare.
///
/// Times are in ms of a clock that does not stop and starts anywhere. Changed
/// under the VM's hypercall lock, read by anybody.
///
/// ```
/// use gvahint_core::session::Lease;
/// let lease = Lease::new();
/// lease.start(1_000);
/// let _ = lease.seal(1_000);
/// // It is the host's to say how long: a change counts at once.
/// assert!(lease.alive(3_000, 2_000) && !lease.alive(3_000, 1_999));
/// ```
#[derive(Debug)]
pub struct Lease {
    last: AtomicU64,
}

impl Default for Lease {
    fn default() -> Self {
        Self::new()
    }
}

impl Lease {
    /// No session.
    ///
    /// ```
    /// use gvahint_core::session::{Lease, LeaseState};
    /// assert_eq!(Lease::new().state(0, u32::MAX), LeaseState::Silent);
    /// ```
    pub const fn new() -> Self {
        Self {
            last: AtomicU64::new(0),
        }
    }

    /// HELLO succeeded: a session without LINEAR.
    ///
    /// ```
    /// use gvahint_core::session::{Lease, LeaseState};
    /// let lease = Lease::new();
    /// lease.start(0);
    /// let _ = lease.seal(0);
    /// // Another HELLO: the new session has to say LINEAR, too.
    /// lease.start(100);
    /// assert_eq!(lease.state(100, 500), LeaseState::NoLinear);
    /// ```
    pub fn start(&self, now_ms: u64) {
        let _ = self.put(now_ms, SESSION);
    }

    /// LINEAR succeeded: hints may be used. Nothing without a session. Returns
    /// the lease as it was until now.
    ///
    /// ```
    /// use gvahint_core::session::{Lease, LeaseState};
    /// let lease = Lease::new();
    /// let _ = lease.seal(0);
    /// assert_eq!(lease.state(0, 500), LeaseState::Silent);
    /// ```
    #[must_use]
    pub fn seal(&self, now_ms: u64) -> Self {
        match self.last.load(Ordering::Relaxed) & SESSION {
            0 => Self::new(),
            _ => self.put(now_ms, SESSION | SEALED),
        }
    }

    /// Another call succeeded. Returns the lease as it was until now.
    ///
    /// ```
    /// use gvahint_core::session::{Lease, LeaseState};
    /// let lease = Lease::new();
    /// lease.start(0);
    /// let before = lease.renew(400);
    /// assert_eq!(before.state(900, 500), LeaseState::Lapsed);
    /// // It prolongs what there is, and is no LINEAR.
    /// assert_eq!(lease.state(900, 500), LeaseState::NoLinear);
    /// ```
    #[must_use]
    pub fn renew(&self, now_ms: u64) -> Self {
        match self.last.load(Ordering::Relaxed) & (SESSION | SEALED) {
            0 => Self::new(),
            flags => self.put(now_ms, flags),
        }
    }

    /// BYE, or the VM's state is dropped.
    ///
    /// ```
    /// use gvahint_core::session::{Lease, LeaseState};
    /// let lease = Lease::new();
    /// lease.start(0);
    /// lease.end();
    /// // A call that was under way when the session ended brings nothing back.
    /// let _ = lease.renew(100);
    /// assert_eq!(lease.state(100, 500), LeaseState::Silent);
    /// ```
    pub fn end(&self) {
        self.last.store(0, Ordering::Release);
    }

    /// Returns what it was until now.
    fn put(&self, now_ms: u64, flags: u64) -> Self {
        let time = now_ms.wrapping_shl(TIME_SHIFT);
        Self {
            last: AtomicU64::new(self.last.swap(time | flags, Ordering::AcqRel)),
        }
    }

    /// The state `now_ms`; the last renewal may lie up to `lease_ms` back.
    ///
    /// ```
    /// use gvahint_core::session::{Lease, LeaseState};
    /// let lease = Lease::new();
    /// lease.start(1_000);
    /// let _ = lease.seal(1_000);
    /// // Renewed by a CPU whose clock is ahead of ours.
    /// assert_eq!(lease.state(990, 500), LeaseState::Live);
    /// ```
    pub fn state(&self, now_ms: u64, lease_ms: u32) -> LeaseState {
        let word = self.last.load(Ordering::Acquire);
        if word & SESSION == 0 {
            return LeaseState::Silent;
        }
        // A renewal on another CPU may be a little ahead of our clock reading.
        if now_ms.saturating_sub(word.wrapping_shr(TIME_SHIFT)) > u64::from(lease_ms) {
            LeaseState::Lapsed
        } else if word & SEALED == 0 {
            LeaseState::NoLinear
        } else {
            LeaseState::Live
        }
    }

    /// Whether hints may be used.
    ///
    /// ```
    /// use gvahint_core::session::Lease;
    /// let lease = Lease::new();
    /// lease.start(0);
    /// // A session alone is not enough.
    /// assert!(!lease.alive(0, 500));
    /// ```
    pub fn alive(&self, now_ms: u64, lease_ms: u32) -> bool {
        self.state(now_ms, lease_ms) == LeaseState::Live
    }

    /// The same with the reason why not, for [`crate::plan::Env::hints`].
    ///
    /// ```
    /// use gvahint_core::{plan::Reason, session::Lease};
    /// let lease = Lease::new();
    /// assert_eq!(lease.check(0, 500), Err(Reason::NoSession));
    /// lease.start(0);
    /// assert_eq!(lease.check(0, 500), Err(Reason::NoLinear));
    /// // To the planner, a lapsed session is none.
    /// assert_eq!(lease.check(501, 500), Err(Reason::NoSession));
    /// ```
    ///
    /// # Errors
    ///
    /// [`Reason::NoSession`] or [`Reason::NoLinear`].
    pub fn check(&self, now_ms: u64, lease_ms: u32) -> Result<(), Reason> {
        match self.state(now_ms, lease_ms) {
            LeaseState::Live => Ok(()),
            LeaseState::NoLinear => Err(Reason::NoLinear),
            LeaseState::Silent | LeaseState::Lapsed => Err(Reason::NoSession),
        }
    }
}
