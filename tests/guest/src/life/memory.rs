// SPDX-License-Identifier: GPL-2.0
//! The guest's memory grows and shrinks.

use super::scene::{qemu, Scene, AFTER_POLL, SOON};
use crate::mailbox;
use anyhow::{ensure, Result};
use gvahint_vm::sys;
use serde_json::{json, Value};
use std::time::Instant;

const PLUGGED: u64 = 256 << 20;
/// The guest's blocks of memory are 128 MiB: these are the ones from 4 GiB on.
const BLOCKS: [u32; 2] = [32, 33];

/// Waits until an answer of QEMU's is as it should be.
fn await_answer(scene: &mut Scene, query: &str, good: impl Fn(&Value) -> bool) -> Result<()> {
    let start = Instant::now();
    loop {
        let answer = scene.guest.qemu()?.execute(query, json!({}))?;
        if good(&answer) {
            return Ok(());
        }
        ensure!(
            start.elapsed() < 4 * AFTER_POLL,
            "{query} still answers {answer}; console:\n{}",
            scene.guest.console()
        );
        sys::sleep_ms(20);
    }
}

/// Fails if pages in memory that is plugged in are never covered, if one is falsely idle, or if pages
/// that had to move when it is unplugged are.
pub fn hotplug() -> Result<()> {
    let mut plan = qemu("pc", 4);
    plan.qemu_options = vec!["-m".into(), "slots=1,maxmem=1G".into()];
    let mut scene = Scene::new(&plan)?;
    let qemu = scene.guest.qemu()?;
    let backend = json!({ "qom-type": "memory-backend-ram", "id": "memory", "size": PLUGGED });
    qemu.execute("object-add", backend)?;
    let dimm = json!({ "driver": "pc-dimm", "id": "dimm", "memdev": "memory" });
    qemu.execute("device_add", dimm)?;
    qemu.has_plugged(PLUGGED)?;
    for block in BLOCKS {
        online(&mut scene, block)?;
    }
    scene.guest.order("work random 8")?;
    scene.guest.await_sweeps(4, AFTER_POLL)?;
    let high = |scene: &Scene| -> Result<usize> {
        let known = scene.known()?;
        Ok(known.iter().filter(|gfn| **gfn >= mailbox::HIGH).count())
    };
    let used = high(&scene)?;
    println!("{used} pages of the workload lie in memory that was plugged in");
    ensure!(
        used > 1000,
        "only {used} pages lie in memory that was plugged in"
    );
    sys::write("/proc/sys/vm/drop_caches", "1")?;
    scene.recover("memory was plugged in", AFTER_POLL)?;
    let qemu = scene.guest.qemu()?;
    qemu.execute("device_del", json!({ "id": "dimm" }))?;
    await_answer(&mut scene, "query-memory-devices", |answer| {
        answer.as_array().is_some_and(Vec::is_empty)
    })?;
    scene.guest.forget_stamps()?;
    scene.guest.await_sweeps(4, AFTER_POLL)?;
    ensure!(high(&scene)? == 0, "pages lie in memory that is gone");
    scene.recover("memory was unplugged", AFTER_POLL)?;
    scene.finish()
}

/// Brings a block into use, for memory that can be unplugged again.
fn online(scene: &mut Scene, block: u32) -> Result<()> {
    let order = format!("write /sys/devices/system/memory/memory{block}/state online_movable");
    let start = Instant::now();
    while let Err(error) = scene.guest.order(&order) {
        if start.elapsed() > SOON {
            return Err(error);
        }
        sys::sleep_ms(20);
    }
    Ok(())
}

/// Fails if pages are falsely idle, or not covered, once a balloon took memory and gave it back, or the
/// host has taken back what the guest had reported free.
pub fn balloon() -> Result<()> {
    let mut plan = qemu("pc", 4);
    let device = "virtio-balloon-pci,free-page-reporting=on".to_owned();
    plan.qemu_options = vec!["-device".into(), device];
    let mut scene = Scene::new(&plan)?;
    for mib in [64u64, 128] {
        let bytes = mib << 20;
        scene
            .guest
            .qemu()?
            .execute("balloon", json!({ "value": bytes }))?;
        await_answer(&mut scene, "query-balloon", |answer| {
            answer["actual"] == bytes
        })?;
        scene.recover(&format!("the balloon left {mib} MiB"), AFTER_POLL)?;
    }
    let resident = |scene: &Scene| -> Result<u64> {
        let text = sys::read(format!("/proc/{}/statm", scene.guest.pid()))?;
        let pages = text.split_whitespace().nth(1).unwrap_or_default();
        Ok((pages.parse::<u64>()? * gvahint_vm::PAGE) >> 20)
    };
    let work = scene.guest.order("work random 32")?;
    scene.guest.await_sweeps(4, AFTER_POLL)?;
    scene.recover("a workload came", AFTER_POLL)?;
    let most = resident(&scene)?;
    scene.guest.order(&format!("kill {work}"))?;
    let start = Instant::now();
    while resident(&scene)? + 16 > most {
        ensure!(
            start.elapsed() < 2 * AFTER_POLL,
            "the host has {} of {most} MiB though 32 were freed",
            resident(&scene)?
        );
        sys::sleep_ms(20);
    }
    println!("{most} MiB, {} after 32 were freed", resident(&scene)?);
    scene.guest.forget_stamps()?;
    scene.guest.await_sweeps(2, AFTER_POLL)?;
    scene.guest.order("work random 32")?;
    scene.guest.await_sweeps(4, AFTER_POLL)?;
    sys::write("/proc/sys/vm/drop_caches", "1")?;
    scene.recover("the host took free pages back", AFTER_POLL)?;
    scene.finish()
}
