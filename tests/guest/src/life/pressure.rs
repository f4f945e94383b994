// SPDX-License-Identifier: GPL-2.0
//! The guest has no memory to spare.

use super::scene::{exact, plan, Scene, AFTER_POLL, SOON};
use crate::ager::fill_lru_lists;
use anyhow::{ensure, Context, Result};
use gvahint_vm::sys;
use std::time::Instant;

/// MiB of memory that the guest's kernel could give.
fn available(scene: &mut Scene) -> Result<u64> {
    let text = scene.guest.order("read /proc/meminfo")?;
    let (_, rest) = text
        .split_once("MemAvailable:")
        .context("no MemAvailable")?;
    let kib = rest.split_whitespace().next().unwrap_or_default();
    Ok(kib.parse::<u64>()? >> 10)
}

/// Fails if a guest whose memory is all but used up is not covered, or its reporter no longer once there is
/// room again.
pub fn short() -> Result<()> {
    const LEFT: u64 = 6;
    let mut scene = Scene::new(&plan(4))?;
    let most = available(&mut scene)?;
    let work = scene.work("random", most - LEFT)?;
    let least = available(&mut scene)?;
    println!("{least} MiB of {most} are left");
    ensure!(least <= LEFT, "{least} MiB are left");
    scene.recover("memory was used up", AFTER_POLL)?;
    scene.guest.order(&format!("kill {work}"))?;
    scene.guest.forget_stamps()?;
    scene.guest.await_sweeps(2, AFTER_POLL)?;
    scene.work("random", most / 2)?;
    scene.recover("there was room again", AFTER_POLL)?;
    scene.finish()
}

/// Fails if a guest that reclaims all the time, because it uses more memory than it has, has pages that are
/// falsely idle, or few that are covered; if its reporter sweeps as fast as ever meanwhile, or goes on to
/// be slow once there is room again, or the guest's kernel complains.
pub fn reclaims() -> Result<()> {
    const MORE: u64 = 16;
    const ROUNDS: usize = 8;
    // In the first ones the host asks for pages that it has not heard of since the session began.
    const UNKNOWN: usize = 2;
    // For so long after it reclaimed the guest counts as short, and until it has looked again.
    const SHORT_MS: u64 = 1_200;
    let mut scene = Scene::new(&plan(4))?;
    let fast = sweep_ms(&mut scene, 0)?;

    scene.guest.order("swap 64")?;
    let most = available(&mut scene)?;
    let work = scene.guest.order(&format!("work random {}", most + MORE))?;
    let (start, limit) = (Instant::now(), scene.guest.patience(4 * AFTER_POLL));
    while swapped(&mut scene)? < MORE / 2 {
        ensure!(start.elapsed() < limit, "the guest does not swap");
        sys::sleep_ms(20);
    }
    let sweeps = anew(&mut scene)?;
    fill_lru_lists()?;
    let (mut covered, mut all) = (0, 0);
    for round in 0..UNKNOWN + ROUNDS {
        let out = swapped(&mut scene)?;
        let found = scene.look()?;
        println!("{out} MiB are swapped out: {found}");
        exact(&found).with_context(|| format!("round {round}: {found}"))?;
        if round >= UNKNOWN {
            let stat = |name: &str| found.stats.get(name).copied().unwrap_or(0);
            covered += stat("covered");
            all += stat("covered") + stat("uncovered");
        }
    }
    println!("{covered} of {all} pages were covered");
    ensure!(
        covered > 0 && covered * 100 >= all * 99,
        "{covered} of {all} are covered"
    );
    let slow = sweep_ms(&mut scene, sweeps)?;

    scene.guest.order(&format!("kill {work}"))?;
    scene.guest.forget_stamps()?;
    scene.guest.await_sweeps(2, AFTER_POLL)?;
    scene.recover("there was room again", AFTER_POLL)?;
    sys::sleep_ms(SHORT_MS);
    let sweeps = anew(&mut scene)?;
    scene.recover("it began anew", SOON)?;
    let again = sweep_ms(&mut scene, sweeps)?;
    println!("sweeps took {fast} ms, {slow} with too little memory, and {again}");
    ensure!(slow >= 3 * fast, "the sweep was as fast as ever");
    ensure!(again < 2 * fast, "the sweep was slow though there was room");
    scene.finish()
}

/// How long the sweep took that follows the first `sweeps`.
fn sweep_ms(scene: &mut Scene, sweeps: u64) -> Result<u64> {
    let (start, limit) = (Instant::now(), scene.guest.patience(4 * AFTER_POLL));
    while scene.reporter("stats/sweeps")?.parse::<u64>()? <= sweeps {
        ensure!(start.elapsed() < limit, "the sweep does not end");
        sys::sleep_ms(20);
    }
    Ok(scene.reporter("stats/sweep_ms")?.parse()?)
}

/// MiB of the guest's that lie in its swap.
fn swapped(scene: &mut Scene) -> Result<u64> {
    let text = scene.guest.order("read /proc/swaps")?;
    let used = text.lines().nth(1).context("no swap")?;
    let kib = used.split_whitespace().nth(3).context("how much of it?")?;
    Ok(kib.parse::<u64>()? >> 10)
}

/// Has the reporter begin anew, with a sweep. Returns how many have ended.
fn anew(scene: &mut Scene) -> Result<u64> {
    let enable = |scene: &mut Scene, on: u8, state: &str| -> Result<()> {
        let enabled = format!("write /sys/kernel/gvahint_guest/enabled {on}");
        scene.guest.order(&enabled)?;
        scene.await_state(state, AFTER_POLL)?;
        Ok(())
    };
    enable(scene, 0, "silent")?;
    let sweeps = scene.reporter("stats/sweeps")?.parse()?;
    enable(scene, 1, "live")?;
    Ok(sweeps)
}
