// SPDX-License-Identifier: GPL-2.0
//! A guest is put back to what it was a while ago, and its VM stays the same.

use super::scene::{qemu, Scene, AFTER_POLL};
use crate::vmm::Qemu;
use anyhow::{ensure, Context, Result};
use gvahint_vm::sys;
use serde_json::{json, Value};
use std::time::{Duration, Instant};

const DISK: &str = "/tmp/snapshots";
/// QEMU's names of the file, of the disk in it, and of what is saved there.
const FILE: &str = "file";
const NODE: &str = "disk";
const TAG: &str = "earlier";
/// How often it is tried: a page that the guest's kernel changes just then makes the reporter call at once.
const TRIES: u64 = 3;
/// Machine time in which a guest is saved, or put back.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a guest calls at least, as HELLO tells it.
const POLL: Duration = Duration::from_secs(2);
/// By how much it may be late: it pauses, ticks are 10 ms, and a look at the pages takes a while.
const LATE: Duration = Duration::from_millis(400);
/// The host knows of a change by then.
const TOLD_MS: u64 = 100;

/// Fails if the host goes on to believe what a guest told that was then put back to an earlier state, for
/// longer than until its next call, if a page is falsely idle afterwards, or if none was before:
/// then nothing was stale.
pub fn rolled_back() -> Result<()> {
    let mut plan = qemu("microvm", 8);
    plan.work = "moved".to_owned();
    let mut scene = Scene::new(&plan)?;
    let lost = sessions_lost(&mut scene)?;
    make_disk(scene.guest.qemu()?)?;
    let mut tries = 0;
    let stale = loop {
        tries += 1;
        let stale = put_back(&mut scene, &format!("{TAG}{tries}"))?;
        scene.recover("it was put back", AFTER_POLL)?;
        if stale > 0 || tries == TRIES {
            break stale;
        }
    };
    ensure!(stale > 0, "nothing was stale");
    let more = sessions_lost(&mut scene)? - lost;
    ensure!(
        more == tries,
        "the reporter lost {more} sessions, not {tries}"
    );
    scene.finish()
}

/// Puts the guest back to before its pages moved. Returns how many were falsely idle until its next call.
fn put_back(scene: &mut Scene, tag: &str) -> Result<u64> {
    await_idle_reporter(scene)?;
    let snapshot = json!({ "tag": tag, "vmstate": NODE, "devices": [NODE] });
    run(scene.guest.qemu()?, "snapshot-save", snapshot.clone())?;
    scene.recover("it was saved", AFTER_POLL)?;
    scene.guest.ask(AFTER_POLL)?;
    sys::sleep_ms(TOLD_MS);
    scene.recover("its pages moved", AFTER_POLL)?;
    await_addresses(scene)?;

    let dir = scene.guest.dir()?;
    let hello = dir.stat("hello")?;
    run(scene.guest.qemu()?, "snapshot-load", snapshot)?;
    let start = Instant::now();
    let (mut rounds, mut stale) = (0, 0);
    while dir.stat("hello")? == hello {
        ensure!(
            start.elapsed() < POLL + LATE,
            "no HELLO {:?} after the guest was put back",
            start.elapsed()
        );
        stale += scene.look()?.false_idle;
        rounds += 1;
    }
    println!(
        "HELLO {:.2} s after the guest was put back; {stale} falsely idle in {rounds} rounds",
        start.elapsed().as_secs_f64()
    );
    Ok(stale)
}

fn sessions_lost(scene: &mut Scene) -> Result<u64> {
    Ok(scene.reporter("stats/sessions_lost")?.parse()?)
}

/// Waits until the reporter calls as rarely as it ever does, and has just called.
fn await_idle_reporter(scene: &Scene) -> Result<()> {
    let dir = scene.guest.dir()?;
    let start = Instant::now();
    let (mut last, mut since) = (dir.stat("wanted")?, Instant::now());
    loop {
        let now = dir.stat("wanted")?;
        if now != last {
            if since.elapsed() > POLL * 3 / 4 {
                return Ok(());
            }
            (last, since) = (now, Instant::now());
        }
        ensure!(
            start.elapsed() < 6 * POLL,
            "the reporter does not calm down"
        );
        sys::sleep_ms(5);
    }
}

/// Ages until the host knows where the pages are: a flush of the context would serve wherever they are.
fn await_addresses(scene: &mut Scene) -> Result<()> {
    let start = Instant::now();
    loop {
        let found = scene.look()?;
        let [all, context] = ["covered", "covered_context"]
            .map(|name| found.stats.get(name).copied().unwrap_or_default());
        if all > 0 && context * 100 <= all {
            return Ok(());
        }
        ensure!(
            start.elapsed() < AFTER_POLL,
            "{context} of {all} pages are covered by the context only"
        );
    }
}

/// Gives QEMU a disk that snapshots can be kept in; the guest does not see it.
fn make_disk(qemu: &mut Qemu) -> Result<()> {
    let file = json!({ "driver": "file", "filename": DISK });
    let empty = json!({ "driver": "file", "filename": DISK, "size": 0 });
    run(qemu, "blockdev-create", json!({ "options": empty }))?;
    add(qemu, FILE, file)?;
    let disk = json!({ "driver": "qcow2", "file": FILE });
    let format = json!({ "driver": "qcow2", "file": FILE, "size": 1 << 20 });
    run(qemu, "blockdev-create", json!({ "options": format }))?;
    add(qemu, NODE, disk)
}

fn add(qemu: &mut Qemu, name: &str, mut node: Value) -> Result<()> {
    node["node-name"] = json!(name);
    qemu.execute("blockdev-add", node).map(drop)
}

/// Runs one of QEMU's jobs to its end.
fn run(qemu: &mut Qemu, command: &str, mut arguments: Value) -> Result<()> {
    const ID: &str = "job";
    arguments["job-id"] = json!(ID);
    qemu.execute(command, arguments)?;
    let start = Instant::now();
    loop {
        let jobs = qemu.execute("query-jobs", json!({}))?;
        let ours = |job: &&Value| job["id"] == ID;
        let job = jobs.as_array().and_then(|jobs| jobs.iter().find(ours));
        let job = job.with_context(|| format!("{command}: QEMU knows {jobs}"))?;
        if job["status"] == "concluded" {
            ensure!(job["error"].is_null(), "{command}: {}", job["error"]);
            qemu.execute("job-dismiss", json!({ "id": ID }))?;
            return Ok(());
        }
        ensure!(start.elapsed() < LIMIT, "{command} does not end: {job}");
        sys::sleep_ms(5);
    }
}
