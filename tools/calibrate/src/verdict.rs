// SPDX-License-Identifier: GPL-2.0
//! From shares to a verdict.

use crate::shares::{stale, Interval, Share};
use crate::trials::Arm;
use serde::Serialize;
use std::collections::BTreeMap;

/// A touched page may stay idle with at most this probability where something is said to suffice.
pub const ALLOWED_STALE: f64 = 0.01;
/// A control may come back by itself at most this often, or the trials show too little.
const MOST_ANYWAY: f64 = 0.5;
/// How often a page at least comes back after INVEPT, or the touch is not seen at all.
const LEAST_AFTER_INVEPT: f64 = 0.9;

/// What one combination of page sizes shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Dropping its gVAs brings the accessed bit back.
    Suffices,
    /// It does not, a flush of the context does.
    NeedsContext,
    /// Only INVEPT does.
    NeedsInvept,
    /// The trials do not tell.
    Unclear(String),
}

/// What the host is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Hints work.
    Passed,
    /// They do not; `context` suffices.
    FailedContext,
    /// They do not; `invept` is needed.
    FailedInvept,
    /// The trials do not tell.
    Inconclusive,
    /// A hypervisor runs below: whatever it does with INVVPID says nothing of the CPU.
    Nested,
}

impl Verdict {
    /// What goes into `calibration`, if anything does.
    pub fn value(self) -> Option<&'static str> {
        match self {
            Self::Passed => Some("passed"),
            Self::FailedContext => Some("failed-context"),
            Self::FailedInvept => Some("failed-invept"),
            Self::Inconclusive | Self::Nested => None,
        }
    }
}

/// How probable it is that a touched page stays idle after `arm`.
pub fn stale_after(back: &BTreeMap<Arm, Share>, arm: Arm) -> Interval {
    let share = |arm| back.get(&arm).copied().unwrap_or(Share::new(0, 0));
    let anyway = [Arm::Decoy, Arm::None, Arm::Untouched].map(share);
    stale(&share(arm), &anyway)
}

/// What the shares of one combination show.
pub fn finding(back: &BTreeMap<Arm, Share>) -> Finding {
    let share = |arm| back.get(&arm).copied().unwrap_or(Share::new(0, 0));
    if share(Arm::Invept).low < LEAST_AFTER_INVEPT {
        return Finding::Unclear("pages stay idle even after INVEPT".into());
    }
    for (arm, what) in [
        (
            Arm::None,
            "pages come back though nothing was dropped: translations do not last here",
        ),
        (Arm::Untouched, "pages come back that nobody touched"),
        (Arm::Decoy, "pages come back though other gVAs were dropped"),
    ] {
        if share(arm).high > MOST_ANYWAY {
            return Finding::Unclear(what.into());
        }
    }
    let [hint, context, invept] =
        [Arm::Hint, Arm::Context, Arm::Invept].map(|arm| stale_after(back, arm));
    let worst = hint.low.max(context.low);
    // Hints drop contexts, too, where they can't drop less.
    if hint.high <= ALLOWED_STALE && context.low <= ALLOWED_STALE {
        Finding::Suffices
    } else if worst <= ALLOWED_STALE {
        Finding::Unclear("too few trials".into())
    } else if worst <= invept.high {
        Finding::Unclear("INVEPT brings pages back no more often".into())
    } else if context.high <= ALLOWED_STALE {
        Finding::NeedsContext
    } else if context.low > ALLOWED_STALE {
        Finding::NeedsInvept
    } else {
        Finding::Unclear(
            "gVAs do not suffice; too few trials to tell whether a context does".into(),
        )
    }
}

/// The verdict on the host: passed if dropping gVAs suffices everywhere; if it fails anywhere, the
/// weakest fallback that was shown to suffice everywhere.
pub fn verdict(nested: bool, findings: &[Finding]) -> Verdict {
    let any = |wanted: fn(&Finding) -> bool| findings.iter().any(wanted);
    let unclear = any(|finding| matches!(finding, Finding::Unclear(_)));
    if nested {
        Verdict::Nested
    } else if any(|finding| *finding == Finding::NeedsInvept) {
        Verdict::FailedInvept
    } else if any(|finding| *finding == Finding::NeedsContext) {
        match unclear {
            true => Verdict::FailedInvept,
            false => Verdict::FailedContext,
        }
    } else if unclear || findings.is_empty() {
        Verdict::Inconclusive
    } else {
        Verdict::Passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 1,000 trials each.
    fn shares(hint: u64, context: u64, invept: u64, decoy: u64) -> BTreeMap<Arm, Share> {
        [
            (Arm::Hint, hint),
            (Arm::Context, context),
            (Arm::Invept, invept),
            (Arm::Decoy, decoy),
            (Arm::None, 0),
            (Arm::Untouched, 0),
        ]
        .map(|(arm, count)| (arm, Share::new(count, 1000)))
        .into()
    }

    // Fails if a combination is judged otherwise than its shares allow.
    #[test]
    fn findings_follow_the_shares() {
        let unclear = |what: &str| Finding::Unclear(what.into());
        for (hint, context, invept, decoy, due) in [
            (1000, 1000, 1000, 0, Finding::Suffices),
            (998, 1000, 1000, 0, Finding::Suffices),
            (0, 0, 1000, 0, Finding::NeedsInvept),
            (0, 1000, 1000, 0, Finding::NeedsContext),
            // Half of the accesses lost is a failure as well.
            (500, 1000, 1000, 0, Finding::NeedsContext),
            (990, 1000, 1000, 0, unclear("too few trials")),
            // Where hints drop a context, that has to suffice.
            (1000, 0, 1000, 0, Finding::NeedsInvept),
            (
                0,
                990,
                1000,
                0,
                unclear("gVAs do not suffice; too few trials to tell whether a context does"),
            ),
            // Whatever keeps pages idle here, it is not what is dropped.
            (
                940,
                940,
                940,
                0,
                unclear("INVEPT brings pages back no more often"),
            ),
            // What comes back anyway counts for nothing.
            (
                1000,
                1000,
                1000,
                480,
                unclear("pages come back though other gVAs were dropped"),
            ),
            (
                1000,
                1000,
                1000,
                1000,
                unclear("pages come back though other gVAs were dropped"),
            ),
            (0, 0, 0, 0, unclear("pages stay idle even after INVEPT")),
        ] {
            assert_eq!(
                finding(&shares(hint, context, invept, decoy)),
                due,
                "{hint}"
            );
        }
    }

    // Fails if an arm that has no trials passes for one that showed something.
    #[test]
    fn nothing_is_concluded_from_nothing() {
        for arm in Arm::ALL.into_iter().filter(|arm| *arm != Arm::Context) {
            let mut shares = shares(1000, 1000, 1000, 0);
            shares.remove(&arm);
            assert!(matches!(finding(&shares), Finding::Unclear(_)), "{arm:?}");
        }
    }

    // Fails if one combination that fails is outvoted, or a fallback is named that was not shown.
    #[test]
    fn the_worst_finding_decides() {
        let unclear = || Finding::Unclear(String::new());
        use Finding::{NeedsContext, NeedsInvept, Suffices};
        for (findings, due) in [
            (vec![Suffices, Suffices], Verdict::Passed),
            (vec![Suffices, unclear()], Verdict::Inconclusive),
            (vec![Suffices, NeedsContext], Verdict::FailedContext),
            (vec![NeedsContext, unclear()], Verdict::FailedInvept),
            (
                vec![NeedsContext, NeedsInvept, Suffices],
                Verdict::FailedInvept,
            ),
            (vec![NeedsInvept, unclear()], Verdict::FailedInvept),
            (vec![], Verdict::Inconclusive),
        ] {
            assert_eq!(verdict(false, &findings), due, "{findings:?}");
            assert_eq!(verdict(true, &findings), Verdict::Nested);
        }
    }
}
