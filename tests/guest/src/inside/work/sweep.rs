// SPDX-License-Identifier: GPL-2.0
//! What the reporter does by itself: a sweep, waiting, reporting what the host asks for; each between
//! two marks: see crate::tax.

use crate::inside::map::Map;
use crate::inside::marks::Marks;
use crate::inside::reporter;
use crate::inside::truth::Mailbox;
use crate::inside::Task;
use crate::mailbox::Phase;
use crate::tax::{ASKED_MS, IDLE_MS, SWEEP_FIGURES};
use anyhow::Result;
use gvahint_vm::sys;
use std::sync::atomic::Ordering;

/// Needs a guest that has not loaded its reporter.
pub fn run(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let marks = Marks::open()?;
    let mapped = Map::anonymous(task.bytes, task.huge)?;
    touch(&mapped);
    mailbox.phase(Phase::Running);
    let between = |what: &dyn Fn() -> Result<()>| {
        marks.make()?;
        what()?;
        marks.make()
    };
    let sleep = |ms| {
        sys::sleep_ms(ms);
        Ok(())
    };
    between(&|| sleep(IDLE_MS))?;
    // Not the first sweep, which the module's loading would be counted with.
    reporter::load()?;
    reporter::await_state("steady")?;
    reporter::enable(false)?;
    reporter::await_state("off")?;
    let before = SWEEP_FIGURES.map(reporter::stat);
    between(&|| {
        reporter::enable(true)?;
        reporter::await_state("steady")
    })?;
    for (index, (name, before)) in SWEEP_FIGURES.iter().zip(before).enumerate() {
        let now = reporter::stat(name)?;
        // The only one that is not a counter.
        let before = if *name == "sweep_ms" { 0 } else { before? };
        mailbox.figure(index, now - before);
    }
    // Until it asks as seldom as it ever does.
    sleep(IDLE_MS)?;
    between(&|| sleep(IDLE_MS))?;
    // The host ages these at the mark.
    let fresh = Map::anonymous(task.bytes.min(16 << 20), task.huge)?;
    touch(&fresh);
    let asked = reporter::stat("wanted_pages")?;
    between(&|| sleep(ASKED_MS))?;
    let asked = reporter::stat("wanted_pages")? - asked;
    mailbox.figure(SWEEP_FIGURES.len(), asked);
    marks.make()?;
    while !mailbox.stopped() {
        sys::sleep_ms(10);
    }
    Ok(())
}

fn touch(map: &Map) {
    (0..map.pages()).for_each(|page| map.page(page).store(1, Ordering::Relaxed));
}
