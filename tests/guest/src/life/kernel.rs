// SPDX-License-Identifier: GPL-2.0
//! The guest's kernel ends, in order or not, and another one starts or none does.

use super::scene::{exact, plan, qemu, Scene, SOON};
use anyhow::{ensure, Context, Result};
use gvahint_vm::age::PageIdle;
use gvahint_vm::machine::Machine;
use gvahint_vm::sys;
use serde_json::json;
use std::time::{Duration, Instant};

const CRASH: &str = "write /proc/sysrq-trigger c";

/// Fails if a kernel does not take leave before kexec, or if the next one is not covered soon.
pub fn kexec() -> Result<()> {
    let mut plan = plan(8);
    plan.kexec = true;
    let mut scene = Scene::new(&plan)?;
    scene.guest.reboot(|guest| guest.tell("kexec").map(drop))?;
    took_leave(&scene)?;
    scene.recover("kexec", SOON)?;
    scene.finish()
}

/// Fails unless the guest said BYE, once.
fn took_leave(scene: &Scene) -> Result<()> {
    let bye = scene.guest.dir()?.stat("bye")?;
    ensure!(bye == 1, "the guest said BYE {bye} times");
    Ok(())
}

/// Fails if a kernel that does not report is aged by what the one before it reported.
pub fn other_kernel() -> Result<()> {
    let mut plan = plan(8);
    plan.kexec = true;
    let mut scene = Scene::new(&plan)?;
    scene
        .guest
        .reboot(|guest| guest.tell("kexec gvahint.reporter=0").map(drop))?;
    let state = scene.state()?;
    ensure!(state == "silent", "the VM is {state}");
    scene.blind()?;
    scene.finish()
}

/// Fails if hints of a kernel that hangs are used for longer than the lease, or not even until then.
pub fn crash() -> Result<()> {
    const LEASE_MS: u64 = 3_000;
    let mut plan = plan(8);
    plan.append += " panic=0";
    let mut scene = Scene::with(&plan, |knobs| knobs.set("lease_ms", LEASE_MS))?;
    let idle = PageIdle::open()?;
    let pfns = scene.guest.pfns(&scene.known()?)?;
    scene.guest.tell(CRASH)?;
    let start = Instant::now();
    while !scene.guest.console().contains("Kernel panic") {
        ensure!(start.elapsed() < SOON, "the guest does not crash");
        sys::sleep_ms(5);
    }
    let covered = |scene: &Scene| scene.guest.dir()?.stat("covered");
    let (before, state) = (covered(&scene)?, scene.state()?);
    idle.mark(&pfns)?;
    ensure!(
        state == "live" && covered(&scene)? > before,
        "the VM is {state} at once, {} of {} pages were covered",
        covered(&scene)? - before,
        pfns.len()
    );
    let lapsed = scene.await_state("lapsed", Duration::from_millis(LEASE_MS + 500))?;
    println!("lapsed {:.2} s after the crash", lapsed.as_secs_f64());
    let (before, machine) = (covered(&scene)?, Machine::open());
    if let Some(machine) = &machine {
        machine.reset()?;
    }
    idle.mark(&pfns)?;
    ensure!(covered(&scene)? == before, "a lapsed VM is covered");
    if let Some(machine) = &machine {
        let dropped = machine.snapshot()?.invvpid_addr();
        ensure!(dropped == 0, "{dropped} gVAs of a lapsed VM were dropped");
    }
    scene.guest.check_console()
}

/// Fails if a guest that crashes and boots again is not covered soon, or aged wrongly.
pub fn crash_reboot() -> Result<()> {
    let mut scene = resettable()?;
    scene.guest.reboot(|guest| guest.tell(CRASH).map(drop))?;
    scene.recover("the crash", SOON)?;
    scene.finish()
}

/// Fails if a guest is not covered soon after it rebooted, or was reset from outside: then nobody says
/// BYE.
pub fn reset() -> Result<()> {
    let mut scene = resettable()?;
    scene.guest.reboot(|guest| guest.tell("reboot").map(drop))?;
    took_leave(&scene)?;
    scene.recover("the reboot", SOON)?;
    scene
        .guest
        .reboot(|guest| guest.qemu()?.execute("system_reset", json!({})).map(drop))?;
    scene.recover("the reset", SOON)?;
    let found = scene.look()?;
    exact(&found).context("at last")?;
    scene.finish()
}

/// A guest that QEMU lets boot again. microvm has no keyboard controller that resets it; waiting for
/// one takes a minute.
fn resettable() -> Result<Scene> {
    let mut plan = qemu("microvm", 8);
    plan.append += " reboot=t";
    let mut scene = Scene::new(&plan)?;
    let qemu = scene.guest.qemu()?;
    qemu.execute("set-action", json!({ "reboot": "reset" }))?;
    Ok(scene)
}
