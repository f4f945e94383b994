// SPDX-License-Identifier: GPL-2.0
//! The main job on one profile: every policy and timing on a hot set, then reclaim.

use crate::hotset::{policies, HotSet, Share};
use crate::scene;
use anyhow::Result;
use gvahint_vm::code::After;
use gvahint_vm::row::Row;
use gvahint_vm::sys;

/// Prints a `MACHINE` line and a `ROW` line for each run.
pub fn run(full: bool) -> Result<()> {
    let machine = scene::machine()?;
    let kernel = sys::read("/proc/sys/kernel/osrelease")?;
    let description = serde_json::json!({ "cpus": sys::cpus(), "kernel": kernel });
    println!("MACHINE {description}");
    println!("# profile {}", machine.snapshot()?.profile);
    for share in [Share::All, Share::Sixteenth] {
        matrix(share, After::Nothing)?;
    }
    matrix(Share::Sixteenth, After::Out)?;
    if full {
        matrix(Share::All, After::Out)?;
        matrix(Share::Sixteenth, After::FastReentry)?;
    }
    for row in crate::tests::reclaim::rows()? {
        show(&row)?;
    }
    Ok(())
}

fn matrix(share: Share, after: After) -> Result<()> {
    for policy in policies() {
        let row = HotSet {
            after,
            ..HotSet::new(policy, share)
        }
        .run()?;
        show(&row)?;
    }
    Ok(())
}

fn show(row: &Row) -> Result<()> {
    println!(
        "# {} {}: {} of {} falsely idle, {} INVEPT, {} INVVPID",
        row.scenario,
        row.policy(),
        row.false_idle,
        row.touched,
        row.invept,
        row.invvpid_addr + row.invvpid_context
    );
    row.print()
}
