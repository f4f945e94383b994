// SPDX-License-Identifier: GPL-2.0
//! Time passes, for the guest or without it.

use super::scene::{exact, plan, Scene, AFTER_POLL};
use anyhow::{ensure, Context, Result};
use std::time::{Duration, Instant};

/// Fails if hints that are too old are used, if what is too old is not reported again, or if a page is
/// falsely idle meanwhile.
pub fn age_out() -> Result<()> {
    const MAX_AGE: Duration = Duration::from_millis(700);
    let mut scene = Scene::new(&plan(8))?;
    let ms = MAX_AGE.as_millis();
    scene.knobs.set("hint_max_age_ms", ms)?;
    let start = Instant::now();
    let (mut rounds, mut expired, mut covered, mut hints) = (0, 0, 0, Vec::new());
    while start.elapsed() < 4 * MAX_AGE {
        let found = scene.look()?;
        exact(&found).with_context(|| format!("round {rounds}: {found}"))?;
        let stat = |name: &str| found.stats.get(name).copied().unwrap_or(0);
        expired += stat("uncovered_aged");
        covered += stat("covered");
        hints.push(scene.guest.dir()?.stat("hints")?);
        rounds += 1;
    }
    println!("{rounds} rounds: {covered} pages covered, {expired} were too old; hints {hints:?}");
    let pages = scene.known()?.len() as u64;
    ensure!(expired >= 2 * pages, "hints of {pages} pages do not age");
    ensure!(covered >= 2 * pages, "old hints are not replaced");
    scene.knobs.set("hint_max_age_ms", 60_000)?;
    scene.recover("all were too old", AFTER_POLL)?;
    scene.finish()
}

/// Fails if the reporter of a guest that sleeps (its tasks, its devices) does not: then its lease goes on,
/// and what nobody looks after is believed; or if the guest is aged wrongly after it wakes up.
pub fn suspend() -> Result<()> {
    let mut scene = Scene::with(&plan(8), |knobs| knobs.set("lease_ms", 1_000))?;
    scene
        .guest
        .order("write /sys/module/suspend/parameters/pm_test_delay 3")?;
    for depth in ["freezer", "devices"] {
        scene
            .guest
            .order(&format!("write /sys/power/pm_test {depth}"))?;
        let asleep = scene.guest.tell("write /sys/power/state freeze")?;
        let after = scene.await_state("lapsed", Duration::from_secs(3))?;
        println!("{depth}: lapsed after {after:?}");
        scene.guest.answer(asleep)?;
        scene.recover(&format!("it slept ({depth})"), AFTER_POLL)?;
    }
    scene.finish()
}
