// SPDX-License-Identifier: GPL-2.0
//! The main job with Linux guests: each is booted once and aged in several ways, a row each for
//! report.json.

use crate::ager::{Ager, Found, Kind};
use crate::guest::{Guest, Plan};
use crate::matrix;
use anyhow::{ensure, Result};
use gvahint_vm::knobs::Policy;
use gvahint_vm::row::Row;
use gvahint_vm::sys;
use gvahint_vm::trace::{Counter, AGED};
use std::str::FromStr;

/// What the host does without us, and what hints have to be compared with.
const POLICIES: [Policy; 7] = [
    Policy::new("none", "now"),
    Policy::new("invept", "now"),
    Policy::new("invept", "batched"),
    Policy::new("context", "batched"),
    Policy::new("hint", "now"),
    Policy::new("hint", "batched"),
    Policy {
        flush: "hint",
        uncovered: "none",
        timing: "batched",
    },
];
/// One for each way to be right, for comparisons of something else.
const FEW: [Policy; 3] = [
    Policy::new("none", "now"),
    Policy::new("invept", "batched"),
    Policy::new("hint", "batched"),
];
/// MiB that workloads use; four times that with huge pages on the host.
const MIB: u64 = 8;
/// MiB of a guest with huge pages on the host.
const LARGE_GUEST: u64 = 512;
/// `linear_alias` where nothing is said, and what it is compared with.
const ALIAS: &str = "always";
const ALIASES: [&str; 3] = [ALIAS, "auto", "never"];

/// A guest: its workload, whether the host backs it by huge pages, whether the workload asks for some.
type Shape = (&'static str, bool, bool);

/// Guests that page_idle ages under each policy.
const MAIN: [Shape; 7] = [
    ("random", false, false),
    ("zipf", false, false),
    ("shared", false, false),
    ("cache", false, false),
    ("mixed", false, false),
    ("random", true, false),
    ("random", true, true),
];
/// Guests that show what the linear map costs and gains: without huge pages on the host, which hide it.
const LINEAR: [Shape; 6] = [
    ("random", false, false),
    ("random", false, true),
    ("cache", false, false),
    ("mapped", false, false),
    ("mixed", false, false),
    ("mixed", false, true),
];
/// Guests that page_idle ages under the few policies: processes that come and go, and a program that nobody
/// here wrote.
const OTHERS: [Shape; 2] = [("fork", false, false), ("redis", false, false)];
/// The guest that all agers age under the few policies.
const EVERYONE: Shape = ("random", false, false);

/// One way to age a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Job {
    ager: Kind,
    policy: Policy,
    linear_alias: &'static str,
}

/// What is done with a guest, each job once, those of one ager together. `full` asks for all cells of
/// the matrix instead of the selection.
fn jobs(shape: Shape, full: bool) -> Vec<Job> {
    let job = |(ager, policy)| Job {
        ager,
        policy,
        linear_alias: ALIAS,
    };
    let mut jobs = Vec::new();
    if MAIN.contains(&shape) {
        jobs.extend(POLICIES.map(|policy| job((Kind::PageIdle, policy))));
    }
    if LINEAR.contains(&shape) || OTHERS.contains(&shape) {
        jobs.extend(FEW.map(|policy| job((Kind::PageIdle, policy))));
    }
    if LINEAR.contains(&shape) {
        let hint = FEW[FEW.len() - 1];
        jobs.extend(ALIASES.map(|linear_alias| Job {
            linear_alias,
            ..job((Kind::PageIdle, hint))
        }));
    }
    if shape == EVERYONE {
        let few = |ager| FEW.map(|policy| job((ager, policy)));
        jobs.extend(matrix::AGERS.into_iter().flat_map(few));
        let unpatched = Policy::new("default", "now");
        jobs.extend([Kind::Reclaim, Kind::ReclaimLruGen].map(|ager| job((ager, unpatched))));
    }
    let (work, host_huge, guest_huge) = shape;
    if !guest_huge {
        jobs.extend(matrix::cells(work, host_huge, full).into_iter().map(job));
    }
    let mut once: Vec<Job> = Vec::new();
    for job in jobs {
        if !once.contains(&job) {
            once.push(job);
        }
    }
    once.sort_by_key(|job| matrix::AGERS.iter().position(|ager| *ager == job.ager));
    once
}

/// Of `of` machines, the one with that number, from 0.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    number: usize,
    of: usize,
}

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, of) = text.split_once('/').ok_or("K/N is wanted")?;
        let [number, of] = [number, of].map(|n| n.parse::<usize>().unwrap_or(0));
        if !(1..=of).contains(&number) {
            return Err("K/N is wanted, with K from 1 to N");
        }
        Ok(Self {
            number: number - 1,
            of,
        })
    }
}

/// Prints a `ROW` line for each run of these workloads, or of all if none is named, as far as they are
/// this machine's.
pub fn run(full: bool, share: Share, works: &[String]) -> Result<()> {
    sys::pin(0, 0)?;
    let matrix = matrix::WORKS
        .into_iter()
        .flat_map(|work| [(work, false, false), (work, true, false)]);
    let shapes = MAIN.into_iter().chain(LINEAR).chain(OTHERS).chain(matrix);
    let mut shapes: Vec<Shape> = shapes.collect();
    shapes.retain(|shape| works.is_empty() || works.iter().any(|work| work == shape.0));
    shapes.sort();
    shapes.dedup();
    ensure!(!shapes.is_empty(), "no such workload: {works:?}");
    let mut ager = Ager::new()?;
    for shape in shapes.into_iter().skip(share.number).step_by(share.of) {
        let mut plan = matrix::plan(shape.0, shape.1, MIB);
        plan.guest_huge = shape.2;
        if plan.host_huge {
            // In less, what is never told lies in each of the few leaves.
            plan.memory = LARGE_GUEST;
        }
        let jobs = jobs(shape, full);
        if jobs.is_empty() {
            continue;
        }
        let mut guest = Guest::boot(&plan)?;
        for job in jobs {
            ager.choose(job.ager)?;
            ager.linear_alias(job.linear_alias)?;
            let aged = Counter::start(AGED)?;
            let rounds = job.ager.rounds();
            let found = ager.run_measured(&mut guest, job.policy, rounds, || aged.reset())?;
            let row = row(&plan, job, &found, aged.count()?);
            println!(
                "# {} by {}, {}: {} of {} falsely idle, {} INVEPT, {} INVVPID",
                row.scenario,
                row.ager,
                row.policy(),
                row.false_idle,
                row.touched,
                row.invept,
                row.invvpid_addr + row.invvpid_context
            );
            row.print()?;
        }
        ager.let_go()?;
        guest.finish()?;
        guest.check_console()?;
    }
    Ok(())
}

fn row(plan: &Plan, job: Job, found: &Found, aged: u64) -> Row {
    let Job {
        ager,
        policy,
        linear_alias,
    } = job;
    let thp = if plan.guest_huge { "/guest-thp" } else { "" };
    let uncovered = found.reasons().map(|(reason, n)| (reason.to_owned(), n));
    Row {
        scenario: format!("linux/{}{thp}", plan.work),
        ager: ager.name().into(),
        backing: matrix::backing(plan.host_huge).into(),
        profile: found.profile.clone(),
        cpus: sys::cpus(),
        vcpus: plan.vcpus.into(),
        flush: policy.flush.into(),
        uncovered: policy.uncovered.into(),
        timing: policy.timing.into(),
        linear_alias: Some(linear_alias.into()),
        touched: found.touched,
        aged,
        false_idle: found.false_idle,
        coverage: found.coverage(),
        coverage_by_context: found.coverage_by_context(),
        uncovered_by: uncovered.collect(),
        invept: found.invept,
        invvpid_addr: found.invvpid_addr,
        invvpid_context: found.invvpid_context,
        vm_exits: found.exits,
        kicks: found.kicks,
        tlb_misses: found.tlb_misses,
        walk_refs: found.walk_refs,
        guest_work: found.sweeps,
        instructions: found.instructions,
    }
}

#[cfg(test)]
mod tests {
    use super::{jobs, ALIAS, EVERYONE};
    use crate::matrix;

    // Fails if a guest misses cells of the matrix, or is aged twice in the same way.
    #[test]
    fn jobs_are_unique_and_hold_the_matrix() {
        for full in [false, true] {
            let jobs = jobs(EVERYONE, full);
            for (ager, policy) in matrix::cells(EVERYONE.0, EVERYONE.1, full) {
                let same = jobs.iter().filter(|job| {
                    (job.ager, job.policy, job.linear_alias) == (ager, policy, ALIAS)
                });
                assert_eq!(same.count(), 1);
            }
        }
    }
}
