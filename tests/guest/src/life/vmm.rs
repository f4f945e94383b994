// SPDX-License-Identifier: GPL-2.0
//! What a VMM does to its guest: stops it, saves it, brings it back elsewhere.

use super::scene::{exact, qemu, Scene, AFTER_POLL};
use crate::guest::{Guest, Plan};
use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::knobs::Knobs;
use gvahint_vm::sys;
use serde_json::json;
use std::time::{Duration, Instant};

const SNAPSHOT: &str = "/tmp/snapshot";
/// Machine time in which a guest is saved.
const SAVE_LIMIT: Duration = Duration::from_secs(60);

/// Saves a guest into a file; it is stopped then.
fn save(guest: &mut Guest) -> Result<()> {
    let qemu = guest.qemu()?;
    // As fast as it goes.
    qemu.execute(
        "migrate-set-parameters",
        json!({ "max-bandwidth": 1u64 << 40 }),
    )?;
    let uri = format!("exec:cat > {SNAPSHOT}");
    qemu.execute("migrate", json!({ "uri": uri }))?;
    let start = Instant::now();
    loop {
        let state = qemu.execute("query-migrate", json!({}))?;
        match state["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => bail!("the guest was not saved: {state}"),
            _ => ensure!(start.elapsed() < SAVE_LIMIT, "not saved yet: {state}"),
        }
        sys::sleep_ms(20);
    }
}

/// Another QEMU with what was saved.
fn restore(plan: &Plan) -> Result<Guest> {
    let mut plan = plan.clone();
    let source = format!("exec:cat {SNAPSHOT}");
    plan.qemu_options.extend(["-incoming".to_owned(), source]);
    let mut guest = Guest::arrive(&plan)?;
    guest.await_sweeps(2, SAVE_LIMIT)?;
    Ok(guest)
}

/// The scene of a guest that is there already.
fn scene_of(guest: Guest, old: Scene) -> Scene {
    let Scene { ager, knobs, .. } = old;
    Scene { ager, guest, knobs }
}

/// Fails if a guest that was saved and restored into another QEMU is not covered soon there, or aged by
/// what the VM that it came from was told.
pub fn snapshot() -> Result<()> {
    let plan = qemu("microvm", 8);
    let mut scene = Scene::new(&plan)?;
    save(&mut scene.guest)?;
    let old = scene.guest.dir()?;
    let restored = restore(&plan)?;
    ensure!(restored.dir()? != old, "that is the same VM");
    scene.guest.check_console()?;
    let mut scene = scene_of(restored, scene);
    scene.recover("the restore", AFTER_POLL)?;
    let lost: u64 = scene.reporter("stats/sessions_lost")?.parse()?;
    ensure!(lost == 1, "the reporter lost {lost} sessions");
    scene.finish()
}

/// Fails if a guest and its copy disturb each other when both go on: each has its own VM.
pub fn forked() -> Result<()> {
    let plan = qemu("microvm", 8);
    let mut scene = Scene::new(&plan)?;
    save(&mut scene.guest)?;
    let restored = restore(&plan)?;
    scene.guest.qemu()?.execute("cont", json!({}))?;
    scene.recover("it was saved", AFTER_POLL)?;
    let mut copy = Scene {
        ager: crate::ager::Ager::new()?,
        guest: restored,
        knobs: Knobs::new(),
    };
    copy.recover("the restore", AFTER_POLL)?;
    let found = scene.look()?;
    exact(&found).context("the guest that was copied")?;
    copy.finish()?;
    scene.finish()
}

/// Fails if a guest that is stopped for longer than its lease is aged by hint, or if what was aged then
/// stays falsely idle when it goes on.
pub fn paused() -> Result<()> {
    const LEASE_MS: u64 = 2_500;
    let mut scene = Scene::with(&qemu("microvm", 8), |knobs| knobs.set("lease_ms", LEASE_MS))?;
    let pfns = scene.guest.pfns(&scene.known()?)?;
    scene.guest.qemu()?.execute("stop", json!({}))?;
    scene.await_state("lapsed", Duration::from_millis(LEASE_MS + 500))?;
    gvahint_vm::age::PageIdle::open()?.mark(&pfns)?;
    scene.guest.qemu()?.execute("cont", json!({}))?;
    scene.recover("the pause", AFTER_POLL)?;
    scene.finish()
}
