// SPDX-License-Identifier: GPL-2.0

//! When to ask whether hints work on this host, and what the answers say.
//!
//! The first canary of a session follows LINEAR, before any page is reported,
//! so that a host on which hints do not work never uses one. Others follow at
//! an interval: the CPU may drop by chance what the next canary finds again, and
//! the host may stop to map the page within a large one.

use super::answer::Meaning;
use super::stats::Stat;
use crate::canary::{CAME_BACK, LOST};

/// Between canaries that told nothing: the host answers one a second.
pub const HASTE_MS: u64 = 1_100;
/// So many canaries of a session are asked in haste, if none of them tells anything.
const HASTY: u8 = 4;

named_enum! {
    /// What the canaries of a session have told, as operators read it.
    ///
    /// ```
    /// use gvahint_core::reporter::canary::Verdict;
    /// assert_eq!(Verdict::Lost.name(), "lost");
    /// ```
    pub enum Verdict {
        /// None was asked yet.
        Untried = 0 => "untried",
        /// The last one that told anything came back.
        Ok = 1 => "ok",
        /// One did not come back.
        Lost = 2 => "lost",
        /// None told anything.
        Inconclusive = 3 => "inconclusive",
    }
}

impl Verdict {
    /// What counts a canary that told this.
    ///
    /// ```
    /// use gvahint_core::reporter::{canary::Verdict, stats::Stat};
    /// assert_eq!(Verdict::Lost.counter(), Stat::CanaryLost);
    /// ```
    pub const fn counter(self) -> Stat {
        match self {
            Verdict::Ok => Stat::CanaryOk,
            Verdict::Lost => Stat::CanaryLost,
            Verdict::Untried | Verdict::Inconclusive => Stat::CanaryInconclusive,
        }
    }
}

/// The canaries of a session.
///
/// ```
/// use gvahint_core::reporter::{answer::Meaning, canary::*};
/// let mut canary = Canary::new();
/// assert!(canary.is_due(60_000, 0));
/// canary.heard(Meaning::Taken(0), Some(Meaning::Taken(0)), 0);
/// assert_eq!(canary.verdict(), Verdict::Ok);
/// assert!(!canary.is_due(60_000, 59_999) && canary.is_due(60_000, 60_000));
/// ```
#[derive(Debug)]
pub struct Canary {
    verdict: Verdict,
    asked_ms: Option<u64>,
    hasty: u8,
}

impl Default for Canary {
    fn default() -> Self {
        Self::new()
    }
}

impl Canary {
    /// A session begins.
    ///
    /// ```
    /// use gvahint_core::reporter::canary::*;
    /// assert_eq!(Canary::new().verdict(), Verdict::Untried);
    /// ```
    pub const fn new() -> Self {
        Self {
            verdict: Verdict::Untried,
            asked_ms: None,
            hasty: HASTY,
        }
    }

    /// What they have told so far.
    ///
    /// ```
    /// use gvahint_core::reporter::{answer::Meaning, canary::*};
    /// let mut canary = Canary::new();
    /// canary.heard(Meaning::Taken(2), None, 0);
    /// assert_eq!(canary.verdict(), Verdict::Inconclusive);
    /// ```
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether to ask now; never if `interval_ms` is 0.
    ///
    /// ```
    /// use gvahint_core::reporter::{answer::Meaning, canary::*};
    /// let mut canary = Canary::new();
    /// assert!(!canary.is_due(0, 0));
    /// // One that told nothing is soon followed by another.
    /// canary.heard(Meaning::Taken(2), None, 0);
    /// assert!(!canary.is_due(60_000, HASTE_MS - 1) && canary.is_due(60_000, HASTE_MS));
    /// ```
    pub fn is_due(&self, interval_ms: u64, now_ms: u64) -> bool {
        let wait = match self.verdict {
            Verdict::Untried | Verdict::Inconclusive if self.hasty > 0 => HASTE_MS,
            _ => interval_ms.max(HASTE_MS),
        };
        let waited = |asked| now_ms.saturating_sub(asked) >= wait;
        interval_ms > 0 && self.asked_ms.is_none_or(waited)
    }

    /// What the host answered to the first step, and to the second if there was
    /// one. Returns what this canary tells.
    ///
    /// ```
    /// use gvahint_core::reporter::{answer::Meaning, canary::*};
    /// let mut canary = Canary::new();
    /// // Somebody else aged the page.
    /// let told = canary.heard(Meaning::Taken(0), Some(Meaning::Taken(2)), 0);
    /// assert_eq!(told, Verdict::Inconclusive);
    /// let told = canary.heard(Meaning::Taken(0), Some(Meaning::Taken(1)), 1_100);
    /// assert_eq!((told, canary.verdict()), (Verdict::Lost, Verdict::Lost));
    /// ```
    pub fn heard(&mut self, clear: Meaning, test: Option<Meaning>, now_ms: u64) -> Verdict {
        let told = match (answer(clear), test.and_then(answer)) {
            (Some(CAME_BACK), Some(CAME_BACK)) => Verdict::Ok,
            (Some(CAME_BACK), Some(LOST)) => Verdict::Lost,
            _ => Verdict::Inconclusive,
        };
        self.asked_ms = Some(now_ms);
        self.hasty = self.hasty.saturating_sub(1);
        if told != Verdict::Inconclusive || self.verdict == Verdict::Untried {
            self.verdict = told;
        }
        told
    }
}

/// What a call that was taken returned.
fn answer(meaning: Meaning) -> Option<i64> {
    match meaning {
        Meaning::Taken(value) => i64::try_from(value).ok(),
        Meaning::Refused { .. } | Meaning::Over => None,
    }
}
