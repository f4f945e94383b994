// SPDX-License-Identifier: GPL-2.0
//! The guest's memory grows and shrinks.

use super::scene::{exact, qemu, Scene, AFTER_POLL, SOON};
use crate::ager::fill_lru_lists;
use crate::mailbox;
use anyhow::{ensure, Context, Result};
use gvahint_vm::sys;
use serde_json::{json, Value};
use std::time::{Duration, Instant};

/// As [`AFTER_POLL`] where the guest first waits a second for other blocks to follow.
const AFTER_SETTLING: Duration = Duration::from_millis(5_500);
const PLUGGED: u64 = 256 << 20;
/// The guest's blocks of memory are 128 MiB: these are the ones from 4 GiB on.
const BLOCKS: [u32; 2] = [32, 33];

/// Waits until an answer of QEMU's is as it should be.
fn await_answer(scene: &mut Scene, query: &str, good: impl Fn(&Value) -> bool) -> Result<()> {
    let (start, limit) = (Instant::now(), scene.guest.patience(4 * AFTER_POLL));
    loop {
        let answer = scene.guest.qemu()?.execute(query, json!({}))?;
        if good(&answer) {
            return Ok(());
        }
        ensure!(
            start.elapsed() < limit,
            "{query} still answers {answer}; console:\n{}",
            scene.guest.console()
        );
        sys::sleep_ms(20);
    }
}

/// Fails if pages in memory that is plugged in, or plugged in again in the same place, are never covered,
/// if one is falsely idle, or if pages that had to move when it went are.
pub fn hotplug() -> Result<()> {
    let mut scene = roomy()?;
    plug(&mut scene, 0)?;
    unplug(&mut scene, 0)?;
    scene.recover("memory was unplugged", AFTER_SETTLING)?;
    // The bitmaps reach there now, and the host's table.
    plug(&mut scene, 1)?;
    scene.finish()
}

/// The same for blocks of memory that go offline and come back.
pub fn offline() -> Result<()> {
    let mut scene = roomy()?;
    plug(&mut scene, 0)?;

    // Offline it is still there for the host, and in the reporter's bitmaps.
    let told = linear_told(&mut scene)?;
    for block in BLOCKS {
        set_offline(&mut scene, block)?;
    }
    lies_elsewhere(&mut scene)?;
    scene.recover("its blocks went offline", AFTER_SETTLING)?;
    let start = Instant::now();
    while linear_told(&mut scene)? == told {
        ensure!(
            start.elapsed() < AFTER_SETTLING,
            "no LINEAR without the blocks"
        );
        sys::sleep_ms(20);
    }
    let process = come_back(&mut scene)?;
    scene.recover("they came back", AFTER_SETTLING)?;
    scene.guest.order(&format!("kill {process}"))?;
    scene.finish()
}

/// A guest with room for more memory.
fn roomy() -> Result<Scene> {
    let mut plan = qemu("pc", 4);
    plan.qemu_options = vec!["-m".into(), "slots=1,maxmem=1G".into()];
    Scene::new(&plan)
}

/// Brings the blocks back into use, one of them again and again: that keeps the reporter from telling the
/// direct map anew, but for once in ten seconds. Meanwhile a workload, which is returned, touches pages of
/// the other one in the direct map only, though they have another address. Fails if one of these is falsely
/// idle.
fn come_back(scene: &mut Scene) -> Result<String> {
    const ROUNDS: u32 = 5;
    let [block, other] = BLOCKS;
    let told = linear_told(scene)?;
    online(scene, block)?;
    let process = scene.guest.order("work mapped 4")?;
    let (mut rounds, start) = (0, Instant::now());
    while rounds < ROUNDS {
        // No step takes so long that the reporter thinks that it is over.
        online(scene, other)?;
        let found = scene.look()?;
        exact(&found).with_context(|| format!("as the blocks came back: {found}"))?;
        set_offline(scene, other)?;
        rounds += u32::from(plugged(scene)? > 900);
        fill_lru_lists()?;
        ensure!(
            start.elapsed() < 2 * AFTER_POLL,
            "the workload does not come"
        );
    }
    let more = linear_told(scene)? - told;
    ensure!(more <= 1, "LINEAR was said {more} times meanwhile");
    online(scene, other)?;
    Ok(process)
}

/// Plugs memory in, waits until a workload in it is covered.
fn plug(scene: &mut Scene, number: u32) -> Result<()> {
    let (backend, dimm) = (format!("memory{number}"), format!("dimm{number}"));
    let qemu = scene.guest.qemu()?;
    let memory = json!({ "qom-type": "memory-backend-ram", "id": backend, "size": PLUGGED });
    qemu.execute("object-add", memory)?;
    let dimm = json!({ "driver": "pc-dimm", "id": dimm, "memdev": backend });
    qemu.execute("device_add", dimm)?;
    qemu.has_plugged(PLUGGED)?;
    for block in BLOCKS {
        online(scene, block)?;
    }
    scene.work("random", 8)?;
    let used = plugged(scene)?;
    println!("{used} pages of the workloads lie in memory that was plugged in");
    ensure!(
        used > 900,
        "only {used} pages lie in memory that was plugged in"
    );
    scene.recover("memory was plugged in", AFTER_SETTLING)
}

/// Unplugs it, and waits until the guest has let it go.
fn unplug(scene: &mut Scene, number: u32) -> Result<()> {
    let qemu = scene.guest.qemu()?;
    qemu.execute("device_del", json!({ "id": format!("dimm{number}") }))?;
    await_answer(scene, "query-memory-devices", |answer| {
        answer.as_array().is_some_and(Vec::is_empty)
    })?;
    lies_elsewhere(scene)?;
    let qemu = scene.guest.qemu()?;
    qemu.execute("object-del", json!({ "id": format!("memory{number}") }))?;
    Ok(())
}

/// Pages of the workloads in memory that was plugged in.
fn plugged(scene: &Scene) -> Result<usize> {
    let known = scene.known()?;
    Ok(known.iter().filter(|gfn| **gfn >= mailbox::HIGH).count())
}

fn lies_elsewhere(scene: &mut Scene) -> Result<()> {
    scene.guest.forget_stamps()?;
    let limit = scene.guest.patience(AFTER_POLL);
    scene.guest.await_sweeps(4, limit)?;
    let left = plugged(scene)?;
    ensure!(left == 0, "{left} pages lie in memory that is gone");
    Ok(())
}

/// How often the host was told of the direct map.
fn linear_told(scene: &mut Scene) -> Result<u64> {
    Ok(scene.reporter("stats/linear")?.parse()?)
}

fn state(block: u32) -> String {
    format!("/sys/devices/system/memory/memory{block}/state")
}

fn set_offline(scene: &mut Scene, block: u32) -> Result<()> {
    scene
        .guest
        .order(&format!("write {} offline", state(block)))?;
    Ok(())
}

/// Brings a block into use, for memory that can be unplugged again.
fn online(scene: &mut Scene, block: u32) -> Result<()> {
    let order = format!("write {} online_movable", state(block));
    let (start, limit) = (Instant::now(), scene.guest.patience(SOON));
    while let Err(error) = scene.guest.order(&order) {
        if start.elapsed() > limit {
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
    let work = scene.work("random", 32)?;
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
    scene.work("random", 32)?;
    scene.recover("the host took free pages back", AFTER_POLL)?;
    scene.finish()
}
