// SPDX-License-Identifier: GPL-2.0
//! A guest for somebody to play with: it works, and is aged again and again under whatever policy is set.

use crate::ager::{fill_lru_lists, Ager, Found};
use crate::guest::{Guest, Plan};
use anyhow::Result;
use std::time::Duration;

/// Machine time in which a workload surely completes a sweep, on CPUs that others use as well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Boots a guest and ages its workload's pages by page_idle, over and over, `pause` after `pause`; prints
/// a line for each round. Comes back only if something fails: to end it is to kill it.
pub fn run(plan: &Plan, pause: Duration) -> Result<()> {
    let mut ager = Ager::new()?;
    let mut guest = Guest::boot(plan)?;
    guest.await_sweeps(1, PATIENCE)?;
    fill_lru_lists()?;
    println!("VM {} runs {}", guest.dir()?.id, plan.work);
    loop {
        println!("{}", line(&ager.again(&mut guest)?));
        std::thread::sleep(pause);
    }
}

fn line(found: &Found) -> String {
    format!(
        "{} pages aged, {} of them touched since; of these {} ({:.0} %) are taken for idle",
        found.aged,
        found.touched,
        found.false_idle,
        100.0 * found.share()
    )
}
