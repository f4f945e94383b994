// SPDX-License-Identifier: GPL-2.0
//! The main job with Linux guests: workloads under each policy, a row each for report.json.

use crate::ager::{Ager, Found};
use crate::guest::{Guest, Plan};
use anyhow::Result;
use gvahint_vm::knobs::Policy;
use gvahint_vm::row::Row;
use gvahint_vm::sys;
use gvahint_vm::trace::{Counter, AGED};

/// Workloads, and whether both sides use huge pages.
const GUESTS: [(&str, bool); 5] = [
    ("random", false),
    ("zipf", false),
    ("shared", false),
    ("cache", false),
    ("random", true),
];

/// What they are aged under.
const POLICIES: [Policy; 6] = [
    Policy::new("none", "now"),
    Policy::new("invept", "now"),
    Policy::new("invept", "batched"),
    Policy::new("context", "batched"),
    Policy::new("hint", "now"),
    Policy::new("hint", "batched"),
];

/// Times that page_idle marks and looks, for each policy.
const ROUNDS: usize = 2;

/// Prints a `ROW` line for each run.
pub fn run() -> Result<()> {
    sys::pin(0, 0)?;
    let mut ager = Ager::new()?;
    for (work, huge) in GUESTS {
        let mut plan = Plan::new(work, if huge { 32 } else { 8 });
        (plan.host_huge, plan.guest_huge) = (huge, huge);
        let mut guest = Guest::boot(&plan)?;
        for policy in POLICIES {
            let aged = Counter::start(AGED)?;
            let found = ager.run_measured(&mut guest, policy, ROUNDS, || aged.reset())?;
            let row = row(&plan, policy, &found, aged.count()?);
            println!(
                "# {} {}: {} of {} falsely idle, {} INVEPT, {} INVVPID",
                row.scenario,
                row.policy(),
                row.false_idle,
                row.touched,
                row.invept,
                row.invvpid_addr + row.invvpid_context
            );
            row.print()?;
        }
        guest.finish()?;
        guest.check_console()?;
    }
    Ok(())
}

fn row(plan: &Plan, policy: Policy, found: &Found, aged: u64) -> Row {
    let backing = if plan.host_huge { "thp" } else { "4k" };
    let uncovered = found.reasons().map(|(reason, n)| (reason.to_owned(), n));
    Row {
        scenario: format!("linux/{}", plan.work),
        ager: "page_idle".into(),
        backing: backing.into(),
        profile: found.profile.clone(),
        cpus: sys::cpus(),
        vcpus: plan.vcpus.into(),
        flush: policy.flush.into(),
        uncovered: policy.uncovered.into(),
        timing: policy.timing.into(),
        linear_alias: Some("auto".into()),
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
