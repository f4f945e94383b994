// SPDX-License-Identifier: GPL-2.0

//! Where a reporter stands, and what comes next.
//!
//! ```text
//!             HELLO > 0            LINEAR = 0          sweep done
//!   Dormant ------------> Linear ------------> Sweeping ---------> Steady
//!      ^  ^                 |  ^                  |                  |
//!      |  +-----------------+  +------------------+------------------+
//!      |    no answer            another list, or HELLO again (stale)
//!      +-- switched on -- Off <-- BYE, from any
//! ```
//!
//! A canary that is lost makes *Degraded* of *Sweeping* and *Steady*, which ends
//! with the session.

named_enum! {
    /// Where a reporter stands, as operators read it.
    ///
    /// ```
    /// use gvahint_core::reporter::state::*;
    /// assert_eq!(State::Sweeping.name(), "sweeping");
    /// ```
    pub enum State {
        /// Switched off.
        Off = 0 => "off",
        /// The host does not answer; it is asked again.
        Dormant = 1 => "dormant",
        /// The host has answered; it is to be told the linear ranges.
        Linear = 2 => "linear",
        /// All memory is looked at, for the first time in this session.
        Sweeping = 3 => "sweeping",
        /// What the host asks for is looked at.
        Steady = 4 => "steady",
        /// A canary was lost: the host uses no hints until the next HELLO, and is told none.
        Degraded = 5 => "degraded",
    }
}

/// What to do next.
///
/// ```
/// use gvahint_core::reporter::{session::*, state::*};
/// assert_eq!(Session::new().next(true, 0), Step::Hello);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing for so long.
    Wait(u64),
    /// Say HELLO.
    Hello,
    /// Tell the linear ranges.
    Linear,
    /// Look at pages, report, poll.
    Work,
    /// Renew the lease by an empty REPORT.
    Renew,
    /// Say BYE.
    Bye,
}
