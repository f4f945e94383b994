// SPDX-License-Identifier: GPL-2.0
//! Trials: a page whose translation is cached loses its accessed bit, something is dropped, the guest
//! touches the page once. Does the bit come back?
//!
//! One page at a time, so that nothing that the CPU might keep for few pages is lost to others. Between
//! the touches that fill the TLB and the one that counts there is one VM exit and one entry, with
//! exactly that dropped which the arm says. The module's counters have to agree to the last one.

use crate::cells::{Cell, Target};
use crate::refusal::Refusal;
use crate::rig::{Counts, Rig};
use crate::shares::Share;
use crate::Watcher;
use anyhow::{ensure, Result};
use gvahint_vm::probe::Order;
use serde::Serialize;
use std::collections::BTreeMap;

/// What is done between ageing and the look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// The reported gVAs are dropped: the question.
    Hint,
    /// The vCPU's whole VPID context is dropped.
    Context,
    /// Everything below the EPT is dropped: has to come back.
    Invept,
    /// Other gVAs, or one too few: must not come back.
    Decoy,
    /// Nothing is dropped: must not come back.
    None,
    /// The gVAs are dropped, and nothing is touched: must not come back.
    Untouched,
}

impl Arm {
    /// All of them, in the order in which they take turns.
    pub const ALL: [Self; 6] = [
        Self::Hint,
        Self::Decoy,
        Self::Context,
        Self::None,
        Self::Invept,
        Self::Untouched,
    ];

    /// Policy while the page is aged.
    const fn policy(self) -> &'static str {
        match self {
            Self::Hint | Self::Decoy | Self::Untouched => "hint",
            Self::Context => "context",
            Self::Invept => "invept",
            Self::None => "none",
        }
    }

    /// Whether a verdict rests on many trials of it.
    const fn is_decisive(self) -> bool {
        matches!(self, Self::Hint | Self::Context)
    }
}

/// Trials after which the counters are looked at.
const WINDOW: u64 = 16;
/// How often each gVA is walked to before a trial.
const WALKS: u64 = 4;
/// Windows that may be void for each that counts, and some more.
const VOID_SHARE: u64 = 2;
const VOID_MORE: u64 = 16;

/// What a cell's trials showed: the share of pages that came back, by arm.
pub struct Outcome {
    /// By arm.
    pub back: BTreeMap<Arm, Share>,
    /// Trials that did not count.
    pub void: u64,
}

/// Runs a cell: `trials` of each arm that decides, a quarter of the others.
pub fn run(rig: &mut Rig, cell: &Cell, trials: u64, watcher: &mut Watcher<'_>) -> Result<Outcome> {
    rehearse(rig, cell)?;
    let wanted = |arm: Arm| match arm.is_decisive() {
        true => trials,
        false => trials.div_ceil(4),
    };
    let windows = Arm::ALL.iter().map(|arm| wanted(*arm).div_ceil(WINDOW));
    let most_void = VOID_SHARE * windows.sum::<u64>() + VOID_MORE;
    let mut tally: BTreeMap<Arm, (u64, u64)> = BTreeMap::new();
    let (mut void, mut turn) = (0, 0);
    while let Some(arm) = next(&tally, wanted, turn) {
        watcher.check()?;
        rig.report(&cell.sets())?;
        let targets = if arm == Arm::Decoy {
            &cell.decoys
        } else {
            &cell.honest
        };
        match window(rig, arm, targets, turn)? {
            Window::Good(back) => {
                let (count, all) = tally.entry(arm).or_default();
                (*count, *all) = (*count + back, *all + WINDOW);
            }
            Window::Void(why) => {
                void += 1;
                ensure!(
                    void <= most_void,
                    Refusal::unfit(
                        format!("the vCPU is disturbed too often; the last time: {why}"),
                        "give it a CPU that nothing else uses: --cpu N, best an isolated one",
                    )
                );
            }
        }
        turn += 1;
    }
    let share = |(arm, (count, all)): (&Arm, &(u64, u64))| (*arm, Share::new(*count, *all));
    Ok(Outcome {
        back: tally.iter().map(share).collect(),
        void: void * WINDOW,
    })
}

/// The arm whose turn it is, of those that still lack trials.
fn next(tally: &BTreeMap<Arm, (u64, u64)>, wanted: impl Fn(Arm) -> u64, turn: u64) -> Option<Arm> {
    let lacks = |arm: &Arm| tally.get(arm).map_or(0, |(_, all)| *all) < wanted(*arm);
    let arms: Vec<_> = Arm::ALL.into_iter().filter(lacks).collect();
    let at = usize::try_from(turn).unwrap_or(0) % arms.len().max(1);
    arms.get(at).copied()
}

/// A target and its frame.
struct Placed<'a> {
    target: &'a Target,
    pfn: u64,
}

/// Where targets are now: the kernel may move them.
fn frames<'a>(
    rig: &Rig,
    targets: impl Iterator<Item = &'a Target> + Clone,
) -> Result<Vec<Placed<'a>>> {
    let pfns = rig.pfns(targets.clone().map(|target| target.gpa))?;
    let placed = targets.zip(pfns);
    Ok(placed.map(|(target, pfn)| Placed { target, pfn }).collect())
}

/// Once with each page, which also takes it off per-CPU lists. Fails if the EPT's leaves are not of the
/// size that they are meant to be: then more than one is aged with a page.
fn rehearse(rig: &mut Rig, cell: &Cell) -> Result<()> {
    rig.report(&cell.sets())?;
    for placed in frames(rig, cell.honest.iter().chain(&cell.decoys))? {
        let before = rig.counts()?;
        let back = trial(rig, Arm::Invept, &placed, 0)?;
        let aged = difference(&rig.counts()?, &before, "aged");
        ensure!(
            aged == 1 + u64::from(back),
            Refusal::unfit(
                format!("ageing one {} leaf aged {aged} of them", cell.leaf),
                "KVM maps huge pages by small ones here, or another ager is at work \
                 (DAMON, MGLRU ageing, idle page tracking by others)",
            )
        );
    }
    Ok(())
}

enum Window {
    /// Pages that came back.
    Good(u64),
    /// Something happened that was not meant to.
    Void(String),
}

fn window(rig: &Rig, arm: Arm, targets: &[Target], turn: u64) -> Result<Window> {
    let targets = frames(rig, targets.iter())?;
    let (before, switches) = (rig.counts()?, rig.switches()?);
    let (mut back, mut entries) = (0, 0);
    for i in 0..WINDOW {
        let number = turn * WINDOW + i;
        let at = usize::try_from(number).unwrap_or(0) % targets.len();
        let placed = &targets[at];
        back += u64::from(trial(rig, arm, placed, number / targets.len() as u64)?);
        entries += placed.target.set.gvas.len() as u64;
    }
    let (after, switched) = (rig.counts()?, rig.switches()? - switches);
    if switched > 0 {
        return Ok(Window::Void(format!("it left its CPU {switched} times")));
    }
    for (name, due) in due(arm, back, entries) {
        let counted = difference(&after, &before, name);
        if counted != due {
            let what = format!("{name} rose by {counted}, not by {due}");
            return Ok(Window::Void(what));
        }
    }
    Ok(Window::Good(back))
}

fn difference(after: &Counts, before: &Counts, name: &str) -> u64 {
    let of = |counts: &Counts| counts.get(name).copied().unwrap_or(0);
    of(after).wrapping_sub(of(before))
}

/// What the counters have to rise by in a window in which `back` pages came back, and which appended so
/// many gVAs if it did. Each trial begins with a full flush; the look ages what came back once more, but
/// drops nothing.
fn due(arm: Arm, back: u64, entries: u64) -> [(&'static str, u64); 9] {
    let only = |policy: &str, count: u64| if arm.policy() == policy { count } else { 0 };
    let gvas = only("hint", entries);
    let contexts = only("context", WINDOW);
    let full = WINDOW + only("invept", WINDOW);
    [
        ("aged", WINDOW + back),
        ("uncovered", 0),
        ("appended_gva", gvas),
        ("appended_context", contexts),
        ("appended_full", full),
        ("drained_gva", gvas),
        ("drained_context", contexts),
        ("drained_full", full),
        ("superseded", 0),
    ]
}

/// One trial: whether the page's accessed bit came back. The policy is `none` before and after.
fn trial(rig: &Rig, arm: Arm, placed: &Placed<'_>, number: u64) -> Result<bool> {
    let Target {
        cached, touched, ..
    } = placed.target;
    let order = |exits, rounds, walk, gvas: &[u64]| {
        rig.order(&Order {
            exits,
            rounds,
            walk,
            gvas,
        })
    };
    // Everything is dropped at the exit, so that the first touch sets the accessed bit. Then whatever
    // the CPU keeps of the page is filled, by walks over warm tables.
    rig.flush(match arm {
        Arm::None => "hint",
        _ => arm.policy(),
    })?;
    order(1, WALKS, true, cached)?;
    order(0, 1, false, cached)?;
    if arm == Arm::None {
        rig.flush("none")?;
    }
    rig.mark(&[placed.pfn])?;
    let at = usize::try_from(number).unwrap_or(0) % touched.len();
    let touched = match arm {
        Arm::Untouched => &[][..],
        _ => &touched[at..=at],
    };
    order(1, 1, false, touched)?;
    rig.flush("none")?;
    rig.came_back(placed.pfn)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fails if an arm gets too few trials, or one is left behind while others run.
    #[test]
    fn arms_take_turns() {
        let due = |arm: Arm| if arm.is_decisive() { 64 } else { 16 };
        let (mut tally, mut turns) = (BTreeMap::new(), Vec::new());
        while let Some(arm) = next(&tally, due, turns.len() as u64) {
            let (_, all) = tally.entry(arm).or_insert((0, 0));
            *all += WINDOW;
            turns.push(arm);
        }
        assert_eq!(turns.len(), 4 + 4 + 4);
        for arm in Arm::ALL {
            assert_eq!(tally[&arm].1, due(arm));
            assert!(turns[..6].contains(&arm), "{arm:?} waits");
        }
    }

    // Fails if a window in which something else was dropped could pass for a good one.
    #[test]
    fn every_counter_is_bound() {
        let sum = |arm| due(arm, 16, 48).map(|(_, count)| count).iter().sum::<u64>();
        // aged twice, a full flush each; then the arm's own entries, appended and drained.
        assert_eq!(sum(Arm::None), 32 + 32);
        assert_eq!(sum(Arm::Hint), 32 + 32 + 2 * 48);
        assert_eq!(sum(Arm::Context), 32 + 32 + 2 * 16);
        assert_eq!(sum(Arm::Invept), 32 + 32 + 2 * 16);
    }
}
