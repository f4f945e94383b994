// SPDX-License-Identifier: GPL-2.0
//! Pages that are reached at other addresses than the host was told: how many of them are falsely idle,
//! and for how long: an interval with a kernel that tells of changes, the age of hints with one that
//! does not.

use crate::ager::Ager;
use crate::cases::both_thp;
use crate::guest::{image, Guest, Plan, REPORTER};
use anyhow::{ensure, Result};
use gvahint_vm::knobs::{Knobs, Policy};
use gvahint_vm::stale::Stale;
use gvahint_vm::{sys, LARGE, PAGE};
use std::time::{Duration, Instant};

/// A kernel that tells nobody of changes, where the machine has one.
const SILENT: &str = "silent";
/// The interval within which the host knows of a change: the reporter's `min_poll_ms`, a tick at HZ=100
/// for the guest and one for the host, and a round's own time.
const INTERVAL_MS: u64 = 40;

/// What makes pages change their addresses: a workload, and what else its guest needs.
const CHANGES: [(&str, Shape); 4] = [
    ("moved", |_| ()),
    ("handed", |_| ()),
    ("aliased", |_| ()),
    ("split", both_thp),
];
type Shape = fn(&mut Plan);

const HINT: Policy = Policy::new("hint", "batched");
const PATIENCE: Duration = Duration::from_secs(30);
/// `hint_max_age_ms` where nobody tells of changes, from the change on: the time after which no page may
/// be falsely idle any more, and for which pages are watched. Hints are older than the change.
const MAX_AGE_MS: u64 = 4_000;
/// The longest one, elsewhere: what is right is not right because hints are too old.
const NO_AGE_MS: u64 = 600_000;
/// `min_poll_ms` of a reporter that is to be late.
const LATE_MS: u64 = 1_000;
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
                let stale = measure(&plan, wait_ms)?;
                stale.print()?;
                judge(&stale)?;
            }
        }
    }
    Ok(())
}

/// Whether a workload changes its pages' addresses on demand.
pub fn is_change(work: &str) -> bool {
    CHANGES.iter().any(|(change, _)| *change == work)
}

/// Ages pages an interval after they changed, with both kernels if the machine has the other one; and
/// before the host can know.
pub fn check(plan: &Plan) -> Result<()> {
    judge(&measure(plan, INTERVAL_MS)?)?;
    too_soon(plan)?;
    if !image(SILENT).exists() {
        println!("# there is no kernel {SILENT}: not compared");
        return Ok(());
    }
    let mut plan = plan.clone();
    plan.kernel = SILENT.to_owned();
    judge(&measure(&plan, INTERVAL_MS)?)
}

/// Fails if a page that changed is falsely idle
/// - an interval later: the host dropped what it knew, which is not where the guest touches the page now;
/// - without notification, when hints of that age are not used any more.
///
/// And if pages are right without notification before: then those that are right with it prove nothing.
fn judge(stale: &Stale) -> Result<()> {
    let (idle, touched, change) = (stale.false_idle, stale.touched, &stale.change);
    let after = stale.wait_ms;
    if after < INTERVAL_MS {
        // Of either kind: the host may not know yet, and not all was touched since then.
    } else if !stale.notified {
        ensure!(
            idle * 10 >= touched * 9,
            "{idle} of {touched} pages are idle, of which nobody told that they were {change}"
        );
    } else {
        ensure!(
            idle * 1_000 <= touched,
            "{idle} of {touched} touched pages are idle {after} ms after they were {change}"
        );
    }
    ensure!(
        stale.stale_ms.is_some(),
        "pages are still idle {} ms after they were {change}",
        stale.limit_ms
    );
    Ok(())
}

/// Ages pages that changed before their guest tells, by where they were: what leads to them now is not
/// dropped, so they look idle, and who looks at them next finds nothing to be dropped. Fails unless that
/// ends once the guest has told.
fn too_soon(plan: &Plan) -> Result<()> {
    let mut plan = plan.clone();
    // Nor is anything else dropped that would make up for it.
    plan.append += " gvahint.orders=1 gvahint.restless=0";
    let (mut ager, _knobs, mut guest, pages) = settled(&plan)?;
    if guest.is_slow() {
        println!("# too soon: to look takes longer here than a reporter may wait");
        return guest.finish();
    }
    guest.order(&format!("write {REPORTER}/min_poll_ms {LATE_MS}"))?;
    guest.ask(PATIENCE)?;
    let found = ager.again(&mut guest)?;
    println!("# too soon: {found}");
    ensure!(
        found.false_idle * 2 >= pages,
        "{} of {pages} pages are idle: the host knows already that they were {}",
        found.false_idle,
        plan.work
    );
    sys::sleep_ms(LATE_MS + INTERVAL_MS);
    let found = ager.again(&mut guest)?;
    println!("# told: {found}");
    ensure!(
        found.false_idle * 1_000 <= found.touched,
        "{} of {} pages stay idle that were aged before the guest told that they were {}",
        found.false_idle,
        found.touched,
        plan.work
    );
    guest.finish()?;
    guest.check_console()
}

/// Boots a guest of which no hint gets too old, and ages it until it is covered; how many pages of the
/// host's it touches.
fn settled(plan: &Plan) -> Result<(Ager, Knobs, Guest, u64)> {
    let mut ager = Ager::new()?;
    let mut knobs = Knobs::new();
    knobs.set("hint_max_age_ms", NO_AGE_MS)?;
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
    Ok((ager, knobs, guest, pages))
}

/// Boots a guest, has all of its pages change, and ages them `wait_ms` later, and then again until none
/// is falsely idle, or once after [`MAX_AGE_MS`].
fn measure(plan: &Plan, wait_ms: u64) -> Result<Stale> {
    let notified = plan.kernel != SILENT;
    let (mut ager, mut knobs, mut guest, pages) = settled(plan)?;
    if !notified {
        knobs.set("hint_max_age_ms", MAX_AGE_MS)?;
    }
    let dir = guest.dir()?;
    let too_old = dir.stat("uncovered_aged")?;
    guest.ask(PATIENCE)?;
    let changed = Instant::now();
    sys::sleep_ms(wait_ms);
    let mut began = changed.elapsed();
    let mut found = ager.again(&mut guest)?;
    ensure!(
        found.touched * 10 >= pages * 9,
        "of {pages} pages {} were touched after they changed",
        found.touched
    );
    let mut stale = Stale {
        change: plan.work.clone(),
        notified,
        wait_ms,
        touched: found.touched,
        false_idle: found.false_idle,
        limit_ms: MAX_AGE_MS,
        stale_ms: None,
    };
    loop {
        let ms = changed.elapsed().as_millis() as u64;
        println!("# after {ms} ms: {found}");
        if found.false_idle == 0 {
            stale.stale_ms = Some(ms);
            break;
        }
        if began > Duration::from_millis(MAX_AGE_MS) {
            break;
        }
        sys::sleep_ms(LOOK_MS);
        began = changed.elapsed();
        found = ager.again(&mut guest)?;
    }
    let too_old = dir.stat("uncovered_aged")? - too_old;
    println!("# {too_old} hints were too old");
    if stale.stale_ms.is_some() {
        // That has helped where nobody told, and there only; and what was reported since then is right.
        ensure!(
            (too_old > 0) != notified,
            "{too_old} hints were too old, the guest tells of changes: {notified}"
        );
        found = ager.again(&mut guest)?;
        println!("# again: {found}");
        ensure!(found.false_idle == 0, "pages are idle again");
    }
    guest.finish()?;
    guest.check_console()?;
    Ok(stale)
}
