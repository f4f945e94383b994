// SPDX-License-Identifier: GPL-2.0
//! The guest's module and the host's come and go.

use super::objects::{none_left, settled, GONE, LOADED};
use super::scene::{plan, Scene, AFTER_ASKING, REPORTER, SOON};
use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::knobs::VmDir;
use gvahint_vm::{module, sys};
use std::time::Duration;

/// Long enough for a HELLO, too short for the next one.
const ASKED_ONCE_MS: u64 = 1_000;
/// What a BYE takes: the order, and the reporter's thread that is at its pause.
const BYE: Duration = Duration::from_millis(500);

/// Fails if the guest's rmmod leaves hints or memory behind in the host, or memory in the guest, if ages
/// are then better than without the module at all (nothing was stale), or if its insmod does not bring
/// everything back.
pub fn guest() -> Result<()> {
    let mut scene = Scene::new(&plan(8))?;
    for cycle in 1..=2 {
        scene.guest.order(&format!("rmmod {REPORTER}"))?;
        scene.await_state("silent", BYE)?;
        let dir = scene.guest.dir()?;
        let left = (dir.stat("bytes")?, dir.stat("hints")?);
        ensure!(
            left == (0, 0),
            "after BYE {} bytes and {} hints are left",
            left.0,
            left.1
        );
        scene.blind()?;
        if cycle == 2 {
            scene.forgotten()?;
        }
        scene.guest.order(&format!("insmod {REPORTER}"))?;
        scene.recover(&format!("rmmod and insmod {cycle}"), SOON)?;
    }
    scene.finish()
}

/// Fails if the guest's module starts where the guest's memory is encrypted, does not say why it won't, or
/// tells the host anything. The kernel takes itself for a guest of AMD's SEV for that time: two of its
/// variables, as its boot would have set them (arch/x86/coco/core.c).
pub fn encrypted() -> Result<()> {
    let insmod = format!("insmod {REPORTER}");
    let mut scene = Scene::new(&plan(8))?;
    scene.guest.order(&format!("rmmod {REPORTER}"))?;
    scene.await_state("silent", BYE)?;
    let hello = scene.guest.dir()?.stat("hello")?;
    let mut was = Vec::new();
    for (variable, value) in SEV {
        was.push((variable, scene.guest.set_variable(variable, value)?));
    }
    let Err(refusal) = scene.guest.order(&insmod) else {
        bail!("the module loads where memory is encrypted");
    };
    println!("{refusal:#}");
    let unsupported = std::io::Error::from_raw_os_error(libc::EOPNOTSUPP).to_string();
    ensure!(
        format!("{refusal:#}").contains(&unsupported) && scene.guest.console().contains(REFUSED),
        "the guest does not say what is wrong: {refusal:#}"
    );
    for (variable, value) in was {
        scene.guest.set_variable(variable, value)?;
    }
    let told = (scene.state()?, scene.guest.dir()?.stat("hello")? - hello);
    ensure!(
        told == ("silent".to_owned(), 0),
        "the host was told: the VM is {}, {} HELLO",
        told.0,
        told.1
    );
    scene.guest.order(&insmod)?;
    scene.recover("its memory was not encrypted any more", SOON)?;
    scene.finish()
}

/// Variables of a guest of SEV: `CC_VENDOR_AMD`, `MSR_AMD64_SEV_ENABLED`.
const SEV: [(&str, u32); 2] = [("cc_vendor", 1), ("sev_status", 1)];
const REFUSED: &str = "gvahint_guest: this guest's memory is encrypted";

/// Fails if the host's module can't go under a guest that reports, if the guest's reporter does not
/// come back once there is a host again, or if what was aged in between stays falsely idle. Or if a
/// reporter that never had a host is not dormant, or does not find the one that comes.
pub fn host() -> Result<()> {
    let mut scene = Scene::new(&plan(8))?;
    module::remove("gvahint")?;
    scene.blind()?;
    scene.insert_host()?;
    scene.recover("the host's insmod", AFTER_ASKING)?;
    let lost: u64 = scene.reporter("stats/sessions_lost")?.parse()?;
    ensure!(lost == 1, "the reporter lost {lost} sessions");
    module::remove("gvahint")?;
    scene.guest.order(&format!("rmmod {REPORTER}"))?;
    scene.guest.order(&format!("insmod {REPORTER}"))?;
    sys::sleep_ms(ASKED_ONCE_MS);
    let mut read = |file| scene.reporter(file);
    let alone = (read("state")?, read("stats/error_enosys")?);
    ensure!(
        alone == ("dormant".to_owned(), "1".to_owned()),
        "without a host the reporter is {}, {} calls unanswered",
        alone.0,
        alone.1
    );
    scene.insert_host()?;
    scene.recover("a host came to a dormant guest", AFTER_ASKING)?;
    scene.finish()
}

/// Fails if the host's module keeps memory of a VM after its guest said BYE, after its own rmmod, or
/// after the VM is gone: each cycle fills a table anew. Needs the machine's kernel to note who allocates
/// (`slab_debug=U,kmalloc-*`).
pub fn leaks() -> Result<()> {
    let fresh = settled(LOADED)?;
    let mut scene = Scene::new(&plan(8))?;
    let full = settled(LOADED)?;
    println!("{full} objects with a VM, {fresh} without");
    ensure!(full > fresh, "a VM is not seen among the objects");
    let mut sizes = Vec::new();
    for cycle in 0..=CYCLES {
        scene.guest.order(&format!("rmmod {REPORTER}"))?;
        module::remove("gvahint")?;
        sizes.push(kernel_memory()?);
        scene.insert_host()?;
        scene.guest.order(&format!("insmod {REPORTER}"))?;
        scene.recover(&format!("both came back, cycle {cycle}"), SOON)?;
        let bytes = scene.guest.dir()?.stat("bytes")?;
        ensure!(bytes > 64 << 10, "the table takes {bytes} bytes only");
    }
    println!("{sizes:?} KiB of kernel memory while the module was gone");
    // Others' memory grows as well, but not by so much in each cycle.
    let grown = sizes.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    let grown = grown.min().unwrap_or(0);
    ensure!(grown < LEAST_KIB, "{grown} KiB more after each cycle");
    scene.finish()?;
    ensure!(VmDir::all()?.is_empty(), "a VM that is gone is known");
    none_left(fresh)?;
    module::remove("gvahint")?;
    let outlived = settled(GONE)?;
    ensure!(outlived == 0, "{outlived} objects outlive the module");
    module::insert("gvahint")?;
    Ok(())
}

const CYCLES: usize = 3;
/// What a VM without hints takes at least: ring and wanted list. It is not an object of a size class.
const LEAST_KIB: u64 = 40;
/// Kernel memory that the module could have, in KiB.
fn kernel_memory() -> Result<u64> {
    let text = sys::read("/proc/meminfo")?;
    let field = |name: &str| -> Result<u64> {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(value.context("meminfo")?.parse()?)
    };
    Ok(field("SUnreclaim:")? + field("VmallocUsed:")? + field("Percpu:")?)
}
