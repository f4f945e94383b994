// SPDX-License-Identifier: GPL-2.0

//! Who may report, and for how long what was reported holds.

use crate::cast;
use crate::plan::Reason;
use crate::sync::{AtomicU64, Ordering};
use crate::wire::{Fault, WireError};

/// The session that a guest began with HELLO; under the VM's hypercall lock.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: u32,
    /// The second that is counted, and how often it was done in it.
    second: u64,
    used: u32,
}

impl Rate {
    /// `per_second` times.
    pub const fn new(per_second: u32) -> Self {
        Self {
            per_second,
            second: 0,
            used: 0,
        }
    }

    /// Asks to do it once more, `now_ms`.
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
    pub const fn new() -> Self {
        Self {
            last: AtomicU64::new(0),
        }
    }

    /// HELLO succeeded: a session without LINEAR.
    pub fn start(&self, now_ms: u64) {
        self.put(now_ms, SESSION);
    }

    /// LINEAR succeeded: hints may be used. Nothing without a session.
    pub fn seal(&self, now_ms: u64) {
        if self.last.load(Ordering::Relaxed) & SESSION != 0 {
            self.put(now_ms, SESSION | SEALED);
        }
    }

    /// Another call succeeded.
    pub fn renew(&self, now_ms: u64) {
        let flags = self.last.load(Ordering::Relaxed) & (SESSION | SEALED);
        if flags != 0 {
            self.put(now_ms, flags);
        }
    }

    /// BYE, or the VM's state is dropped.
    pub fn end(&self) {
        self.last.store(0, Ordering::Release);
    }

    fn put(&self, now_ms: u64, flags: u64) {
        let time = now_ms.wrapping_shl(TIME_SHIFT);
        self.last.store(time | flags, Ordering::Release);
    }

    /// The state `now_ms`; the last renewal may lie up to `lease_ms` back.
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
    pub fn alive(&self, now_ms: u64, lease_ms: u32) -> bool {
        self.state(now_ms, lease_ms) == LeaseState::Live
    }

    /// The same with the reason why not, for [`crate::plan::Env::hints`].
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
