// SPDX-License-Identifier: GPL-2.0

//! What a host's answer means.

use super::stats::Stat;
use crate::wire::Errno;

/// What an answer means.
///
/// ```
/// use gvahint_core::reporter::{answer::*, session::*};
/// use gvahint_core::wire::Hello;
/// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
/// let mut session = Session::new();
/// session.hello(7, &words, 0);
/// assert_eq!(session.answered(3, 0).meaning, Meaning::Taken(3));
/// assert_eq!(session.answered(-7, 0).meaning, Meaning::Refused { too_big: true });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It was taken; so many sets, gfns, or whatever the operation counts.
    Taken(u64),
    /// This one was not taken; the next may be. Whether for lack of room, or
    /// as one call too many.
    Refused {
        /// KVM_E2BIG.
        too_big: bool,
    },
    /// The session is gone, HELLO is next: the host knows nothing any more.
    Over,
}

/// An answer, and what to count.
///
/// ```
/// use gvahint_core::reporter::session::*;
/// use gvahint_core::reporter::stats::Stat;
/// let answered = Session::new().hello(-1000, &[], 0);
/// assert_eq!((answered.error, answered.silent), (Some(Stat::ErrorNoSys), true));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What it means.
    pub meaning: Meaning,
    /// The error to count.
    pub error: Option<Stat>,
    /// Whether the host has just stopped answering, or never did: to be said once.
    pub silent: bool,
}

pub(super) const fn error_of(answer: i64) -> Option<Stat> {
    if answer < 0 {
        Some(Stat::of_error(Errno::from_answer(answer)))
    } else {
        None
    }
}
