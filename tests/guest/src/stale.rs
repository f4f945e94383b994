// SPDX-License-Identifier: GPL-2.0
//! Pages that are reached at other addresses than the host was told: how many of them are falsely idle,
//! and for how long. With a kernel that tells of changes, and with one that does not.

use crate::ager::Ager;
use crate::cases::both_thp;
use crate::guest::{image, Guest, Plan};
use anyhow::{ensure, Result};
use gvahint_vm::knobs::Policy;
use gvahint_vm::stale::Stale;
use gvahint_vm::{sys, LARGE, PAGE};
use std::time::{Duration, Instant};

/// A kernel that tells nobody of changes, where the machine has one.
const SILENT: &str = "silent";
/// The interval within which the host knows of a change: the reporter's `min_poll_ms`, a tick at HZ=100
/// for the guest and one for the host, and a round's own time.
const INTERVAL_MS: u64 = 40;

/// What makes pages change their addresses: a workload, and what else its guest needs.
const CHANGES: [(&str, Shape); 3] = [("moved", |_| ()), ("aliased", |_| ()), ("split", both_thp)];
type Shape = fn(&mut Plan);

const HINT: Policy = Policy::new("hint", "batched");
const PATIENCE: Duration = Duration::from_secs(30);
/// How long pages are watched that stay idle.
const LIMIT_MS: u64 = 5_000;
/// Between two looks.
const LOOK_MS: u64 = 250;

/// Prints a `STALE` line for each change, kernel and time between the change and the ageing.
pub fn run(only: &[String]) -> Result<()> {
    sys::pin(0, 0)?;
    let wanted = |change: &str| only.is_empty() || only.iter().any(|only| only == change);
    for (change, shape) in CHANGES.into_iter().filter(|(change, _)| wanted(change)) {
        for kernel in ["vmlinux", SILENT] {
            if !image(kernel).exists() {
                println!("# there is no kernel {kernel}: not measured");
                continue;
            }
            let mut plan = Plan::new(change, 8);
            plan.kernel = kernel.to_owned();
            shape(&mut plan);
            for wait_ms in [0, INTERVAL_MS] {
                measure(&plan, wait_ms)?.print()?;
            }
        }
    }
    Ok(())
}

/// Whether a workload changes its pages' addresses on demand.
pub fn is_change(work: &str) -> bool {
    CHANGES.iter().any(|(change, _)| *change == work)
}

/// Fails if a page that changed is falsely idle when it is aged an interval later: the host dropped what
/// it knew, which is not where the guest touches the page now.
pub fn check(plan: &Plan) -> Result<()> {
    let stale = measure(plan, INTERVAL_MS)?;
    ensure!(
        stale.false_idle * 1_000 <= stale.touched,
        "{} of {} touched pages are idle {INTERVAL_MS} ms after they were {}",
        stale.false_idle,
        stale.touched,
        plan.work
    );
    Ok(())
}

/// Boots a guest, has all of its pages change, and ages them `wait_ms` later, and then again until none
/// is falsely idle, or for [`LIMIT_MS`].
fn measure(plan: &Plan, wait_ms: u64) -> Result<Stale> {
    let mut ager = Ager::new()?;
    let mut guest = Guest::boot(plan)?;
    let before = ager.run(&mut guest, HINT, 2)?;
    let coverage = before.coverage().unwrap_or(0.0);
    println!("# {}, kernel {}, before: {before}", plan.work, plan.kernel);
    ensure!(
        before.share() <= 0.001 && coverage >= 0.99,
        "before anything changed {} of {} touched pages are idle, {:.2} % are covered",
        before.false_idle,
        before.touched,
        100.0 * coverage
    );
    // Of one round of the two. A huge page of the host's counts as one.
    let pages = before.touched / 2;
    let all = (plan.mib << 20) / if plan.host_huge { LARGE } else { PAGE };
    ensure!(
        pages * 2 >= all && pages <= all * 2,
        "{pages} pages of the host were touched, not {all} or so"
    );
    guest.ask(PATIENCE)?;
    let changed = Instant::now();
    sys::sleep_ms(wait_ms);
    let mut found = ager.again(&mut guest)?;
    ensure!(
        found.touched * 10 >= pages * 9,
        "of {pages} pages {} were touched after they changed",
        found.touched
    );
    let mut stale = Stale {
        change: plan.work.clone(),
        notified: plan.kernel != SILENT,
        wait_ms,
        touched: found.touched,
        false_idle: found.false_idle,
        limit_ms: LIMIT_MS,
        stale_ms: None,
    };
    loop {
        let ms = changed.elapsed().as_millis() as u64;
        println!("# after {ms} ms: {found}");
        if found.false_idle == 0 {
            stale.stale_ms = Some(ms);
            break;
        }
        if ms > LIMIT_MS {
            break;
        }
        sys::sleep_ms(LOOK_MS);
        found = ager.again(&mut guest)?;
    }
    guest.finish()?;
    guest.check_console()?;
    Ok(stale)
}
