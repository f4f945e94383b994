// SPDX-License-Identifier: GPL-2.0
//! When a flush takes effect, on a vCPU that is never interrupted: its CPU is isolated and tickless.

use super::Test;
use crate::scene::{need_cpus, need_profile, tickless, Scene, Setup, TICKS_MS};
use crate::tap::skip;
use anyhow::{ensure, Result};
use gvahint_vm::knobs::Policy;
use gvahint_vm::sys;
use std::time::Instant;

pub const TESTS: &[Test] = &[
    Test::new(
        "quiet_deferred",
        "deferred waits for the next entry and kicks nobody",
        |_| deferred(),
    ),
    Test::new(
        "quiet_max_delay",
        "max_delay_ms bounds the wait, 0 is for ever",
        |_| max_delay(),
    ),
    Test::new("quiet_batched", "batched kicks once for a batch", |_| {
        batched()
    }),
    Test::new("quiet_now", "now kicks for each page", |_| now()),
];

const PAGES: u64 = 256;

/// A vCPU that only a kick gets out of the guest, under `policy`.
fn quiet(policy: Policy, max_delay_ms: u64) -> Result<Scene> {
    need_cpus(2)?;
    if !tickless() {
        skip!("CPU 1 is not tickless: start the machine with nohz_full=1 isolcpus=1");
    }
    let mut scene = Scene::prepare(Setup::quiet(PAGES))?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.report_user()?;
    scene.knobs.policy("clear_young", policy)?;
    scene.knobs.set("max_delay_ms", max_delay_ms)?;
    scene.start()?;
    // The kernel takes a while to stop the tick.
    sys::sleep_ms(100);
    Ok(scene)
}

/// Exits of the vCPU's CPU so far.
fn exits(scene: &Scene) -> Result<u64> {
    Ok(scene.machine.snapshot()?.cpus[1].exits)
}

/// Fails if pages are aged in none of three attempts without an exit of the guest (the kernel has
/// reasons of its own now and then), if stale translations go away by themselves (the wait would then
/// show nothing), or if pages are still idle after the next entry.
fn deferred() -> Result<()> {
    let scene = quiet(Policy::new("hint", "deferred"), 0)?;
    let mut disturbed = 0;
    loop {
        scene.machine.reset()?;
        let idle = scene.full_round()?;
        let seen = scene.machine.snapshot()?;
        let exits = seen.cpus[1].exits;
        if exits == 0 {
            ensure!(
                idle == PAGES,
                "only {idle} of {PAGES} pages are stale before any entry"
            );
            break;
        }
        println!("disturbed: {:?}", seen.cpus[1].interrupt_exits);
        disturbed += 1;
        ensure!(
            disturbed < 3,
            "{} kicks, {exits} exits, each time",
            seen.kicks()
        );
    }
    scene.vcpus[0].interrupt()?;
    sys::sleep_ms(1);
    scene.warm(1)?;
    let idle = scene.idle.count(&scene.pfns)?;
    ensure!(
        idle == 0,
        "{idle} pages are falsely idle after the next entry"
    );
    Ok(())
}

/// Fails if a vCPU that never exits waits longer than the bound, or at all in spite of 0.
fn max_delay() -> Result<()> {
    const DELAY_MS: u64 = 10;
    let mut scene = quiet(Policy::new("hint", "deferred"), DELAY_MS)?;
    scene.machine.reset()?;
    let start = Instant::now();
    // 10 ms, at most two ticks of a delayed work's clock more, and a sweep.
    let idle = scene.round(&scene.pfns, 40)?;
    ensure!(
        idle == 0,
        "{idle} pages are falsely idle after max_delay_ms"
    );
    let kicks = scene.machine.snapshot()?.kicks();
    // The round may take longer than that, and pages are aged all the time.
    let most = 4 + start.elapsed().as_millis() as u64 / DELAY_MS;
    ensure!((1..=most).contains(&kicks), "{kicks} kicks, {most} at most");
    scene.knobs.set("max_delay_ms", 0)?;
    sys::sleep_ms(60);
    let (before, idle) = (exits(&scene)?, scene.round(&scene.pfns, 100)?);
    ensure!(
        idle == PAGES,
        "max_delay_ms=0: only {idle} of {PAGES} pages are stale"
    );
    let more = exits(&scene)? - before;
    ensure!(more <= 1, "max_delay_ms=0: {more} exits");
    Ok(())
}

/// Fails if a batch costs more than a kick, or its pages stay idle.
fn batched() -> Result<()> {
    let mut scene = quiet(Policy::new("hint", "batched"), 0)?;
    scene.knobs.set("batch_pages", 64)?;
    scene.machine.reset()?;
    scene.idle.mark(&scene.pfns)?;
    sys::sleep_ms(TICKS_MS);
    let kicks = scene.machine.snapshot()?.kicks();
    ensure!(
        (1..=PAGES / 64 + 1).contains(&kicks),
        "{kicks} kicks for {PAGES} pages"
    );
    scene.warm(1)?;
    let idle = scene.idle.count(&scene.pfns)?;
    ensure!(idle == 0, "{idle} pages are falsely idle");
    Ok(())
}

/// Fails if a page's flush waits for others', or doesn't come.
fn now() -> Result<()> {
    let scene = quiet(Policy::new("hint", "now"), 0)?;
    scene.machine.reset()?;
    for pfns in scene.pfns.chunks(1).take(16) {
        let idle = scene.round(pfns, 1)?;
        ensure!(idle == 0, "a page is falsely idle");
    }
    let kicks = scene.machine.snapshot()?.kicks();
    // Each is aged once more when it is asked for.
    ensure!(
        (16..=34).contains(&kicks),
        "{kicks} kicks for 16 pages aged twice"
    );
    Ok(())
}
