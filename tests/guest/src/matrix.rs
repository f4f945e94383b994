// SPDX-License-Identifier: GPL-2.0
//! Workloads by backings by agers by policies: every cell, or a selection in which any two levels of
//! two factors meet.
//!
//! In the selection each workload (but the two that FULL=1 adds) meets each ager once. Number w of the
//! workloads and number a of the agers take policy (w + a) mod 6, and huge pages if a + w / 2 is even:
//!
//! | w \ a | page_idle | damon | damon_paddr | mglru | reclaim | reclaim_mglru |
//! |---|---|---|---|---|---|---|
//! | random | 0 thp | 1 | 2 thp | 3 | 4 thp | 5 |
//! | zipf | 1 thp | 2 | 3 thp | 4 | 5 thp | 0 |
//! | shared | 2 | 3 thp | 4 | 5 thp | 0 | 1 thp |
//! | cache | 3 | 4 thp | 5 | 0 thp | 1 | 2 thp |
//! | mixed | 4 thp | 5 | 0 thp | 1 | 2 thp | 3 |
//! | churn | 5 thp | 0 | 1 thp | 2 | 3 thp | 4 |
//!
//! A backing costs a boot, anything else a round.

use crate::ager::Kind;
use crate::guest::Plan;
use crate::tests::{Cell, Expect, Test, When};
use gvahint_vm::knobs::Policy;

/// What the guest does.
pub const WORKS: [&str; 8] = [
    "random", "zipf", "shared", "cache", "mixed", "churn", "stream", "fork",
];
/// The last ones, like others in what they show, are in the matrix under FULL=1 only.
const ONLY_FULL: usize = 2;
/// Who ages.
pub const AGERS: [Kind; 6] = [
    Kind::PageIdle,
    Kind::Damon,
    Kind::DamonPaddr,
    Kind::LruGen,
    Kind::Reclaim,
    Kind::ReclaimLruGen,
];
/// What is flushed, and when.
pub const POLICIES: [Policy; 6] = [
    Policy::new("none", "now"),
    Policy::new("context", "now"),
    Policy::new("invept", "batched"),
    Policy::new("hint", "now"),
    Policy::new("hint", "batched"),
    Policy::new("hint", "deferred"),
];

/// MiB of workloads in tests: enough for all agers, and quick.
const MIB: u64 = 4;

/// Whether the selection has a cell, by numbers of its levels.
fn selected(work: usize, huge: bool, ager: usize, policy: usize) -> bool {
    let policy_of = (work + ager) % POLICIES.len();
    let is_huge = (ager + work / 2).is_multiple_of(2);
    work < WORKS.len() - ONLY_FULL && (huge, policy) == (is_huge, policy_of)
}

/// How a guest is aged: in the selected ways or in all. A workload that is none of these: in none.
pub fn cells(work: &str, huge: bool, full: bool) -> Vec<(Kind, Policy)> {
    let mut cells = Vec::new();
    let Some(work) = WORKS.iter().position(|known| *known == work) else {
        return cells;
    };
    for (a, ager) in AGERS.into_iter().enumerate() {
        for (p, policy) in POLICIES.into_iter().enumerate() {
            if full || selected(work, huge, a, p) {
                cells.push((ager, policy));
            }
        }
    }
    cells
}

/// A guest whose workload has so many MiB; with huge pages, four times that, or they would be few.
pub fn plan(work: &str, huge: bool, mib: u64) -> Plan {
    let mut plan = Plan::new(work, if huge { 4 * mib } else { mib });
    plan.host_huge = huge;
    plan
}

/// What ageing has to come to.
fn expect(plan: &Plan, ager: Kind, policy: Policy) -> Expect {
    match policy.flush {
        // The guest flushes all the time by itself.
        "none" if plan.moves() => Expect::Anything,
        // Of a dozen huge pages reclaim takes one or none, and an ageing run of MGLRU, which looks at
        // all of the guest's memory, sees most; and most of those that a page cache lies in have more in them.
        "none"
            if plan.host_huge
                && (ager.reclaims() || ager == Kind::LruGen || plan.work == "cache") =>
        {
            Expect::Anything
        }
        // Whatever flushes for the next page that reclaim unmaps, a sweep soon shows.
        "none" if ager.reclaims() && plan.work == "stream" => Expect::Anything,
        "none" if ager.reclaims() => Expect::Lossy,
        "none" if plan.host_huge => Expect::Partly,
        "none" => Expect::Blind,
        "context" if plan.moves() => Expect::Nearly,
        "hint" if ager == Kind::PageIdle && !plan.host_huge => Expect::Hinted,
        // Was not looked at: FULL=1 only.
        "hint" if matches!(plan.work.as_str(), "fork" | "stream") => Expect::Exact,
        "hint" => Expect::Covered(least_covered(plan.host_huge, ager)),
        _ => Expect::Exact,
    }
}

/// Percent of what an ager looks up that hints cover at least, below what was seen in any guest
/// (docs/testing.md).
const fn least_covered(huge: bool, ager: Kind) -> u64 {
    match (huge, ager) {
        // The workload's pages only.
        (false, Kind::PageIdle | Kind::Damon | Kind::DamonPaddr) => 99,
        // What was swapped comes back as a page that the guest was not asked for.
        (false, Kind::Reclaim | Kind::ReclaimLruGen) => 97,
        // Pages of the guest's kernel as well, some without a hint.
        (false, Kind::LruGen) => 90,
        // A few dozen leaves. Four of the workload's have page tables in them, which is beyond the quota of
        // so small a guest, and count each time that they are looked at; DAMON and MGLRU do often, and
        // at the kernel's as well.
        (true, Kind::LruGen) => 30,
        (true, _) => 40,
    }
}

/// What backs the guest, as in report.json.
pub const fn backing(huge: bool) -> &'static str {
    if huge {
        "thp"
    } else {
        "4k"
    }
}

/// A test for each guest: the selection by default, all cells under FULL=1.
pub fn tests() -> impl Iterator<Item = Test> {
    let guests = WORKS
        .into_iter()
        .flat_map(|work| [(work, false), (work, true)]);
    let tests = guests.flat_map(|(work, huge)| [test(work, huge, false), test(work, huge, true)]);
    tests.filter(|test| !test.cells.is_empty()).chain([agers()])
}

/// One guest by every ager: what each sees by hints, and how many INVEPT it is spared.
fn agers() -> Test {
    let cell = |ager, flush, expect| Cell {
        ager,
        policy: Policy::new(flush, "batched"),
        expect,
    };
    let spared = |ager| Expect::Spared {
        covered: least_covered(false, ager),
        // MGLRU's pages of the kernel without a hint are as many in a small guest, and a tenth of its flushes.
        spared: if ager == Kind::LruGen { 80 } else { 99 },
    };
    Test {
        name: "agers".to_owned(),
        when: When::Always,
        cells: AGERS
            .into_iter()
            .flat_map(|ager| {
                [
                    cell(ager, "invept", Expect::Exact),
                    cell(ager, "hint", spared(ager)),
                ]
            })
            .collect(),
        plan: plan("random", false, MIB),
    }
}

fn test(work: &str, huge: bool, full: bool) -> Test {
    let plan = plan(work, huge, MIB);
    let cells = cells(work, huge, full).into_iter();
    let cells = cells.map(|(ager, policy)| Cell {
        ager,
        policy,
        expect: expect(&plan, ager, policy),
    });
    let which = if full { "all" } else { "pairs" };
    Test {
        name: format!("{which}_{work}_{}", backing(huge)),
        when: if full { When::Full } else { When::Default },
        cells: cells.collect(),
        plan,
    }
}

#[cfg(test)]
mod tests {
    use super::{cells, selected, AGERS, ONLY_FULL, POLICIES, WORKS};
    use std::collections::HashSet;

    // Fails if two levels never meet, or if more cells are selected than the largest two factors need.
    #[test]
    fn any_two_levels_meet() {
        let works = WORKS.len() - ONLY_FULL;
        let sizes = [works, 2, AGERS.len(), POLICIES.len()];
        let mut met = HashSet::new();
        let mut count = 0;
        for cell in 0..sizes.iter().product() {
            let mut rest: usize = cell;
            let levels = sizes.map(|size| {
                let level = rest % size;
                rest /= size;
                level
            });
            if !selected(levels[0], levels[1] == 1, levels[2], levels[3]) {
                continue;
            }
            count += 1;
            for a in 0..4 {
                met.extend((0..a).map(|b| (a, levels[a], b, levels[b])));
            }
        }
        let pairs = |a: usize| (0..a).map(move |b| sizes[a] * sizes[b]);
        assert_eq!(met.len(), (0..4).flat_map(pairs).sum::<usize>());
        assert_eq!(count, works * AGERS.len());
    }

    // Fails if FULL=1 leaves out a cell.
    #[test]
    fn full_is_everything() {
        let all: usize = WORKS.map(|work| cells(work, true, true).len()).iter().sum();
        assert_eq!(all, WORKS.len() * AGERS.len() * POLICIES.len());
    }
}
