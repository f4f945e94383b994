// SPDX-License-Identifier: GPL-2.0
//! A VM ends while it is aged.

use super::scene::{exact, plan, qemu, Scene, SOON};
use crate::guest::Guest;
use anyhow::{ensure, Context, Result};
use gvahint_vm::age::PageIdle;
use gvahint_vm::knobs::VmDir;
use std::sync::atomic::{AtomicBool, Ordering};

/// Fails if a QEMU that is killed while its guest is aged stays known to the module, or if that has an
/// effect on another guest.
pub fn killed() -> Result<()> {
    let mut victim = Scene::new(&qemu("microvm", 4))?;
    let mut other = Scene::new(&plan(8))?;
    victim.recover("the other's boot", SOON)?;
    let gone = victim.guest.dir()?;
    let pfns = victim.guest.pfns(&victim.known()?)?;
    let (idle, stop) = (PageIdle::open()?, AtomicBool::new(false));
    std::thread::scope(|scope| -> Result<()> {
        let ager = scope.spawn(|| -> Result<u64> {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                idle.mark(&pfns)?;
                rounds += 1;
                std::thread::yield_now();
            }
            Ok(rounds)
        });
        gvahint_vm::sys::sleep_ms(20);
        let complaints = victim.guest.check_console();
        drop(victim);
        stop.store(true, Ordering::Relaxed);
        let rounds = ager.join().expect("the ager doesn't panic")?;
        complaints?;
        println!("{rounds} rounds of ageing until QEMU was gone");
        ensure!(rounds > 1, "the victim was not aged");
        Ok(())
    })?;
    let known = VmDir::all()?;
    ensure!(
        known.len() == 1 && !known.contains(&gone),
        "the module knows {known:?}, {gone:?} is dead"
    );
    let found = other.look()?;
    exact(&found).context("the other guest")?;
    let covered = found.coverage().unwrap_or(0.0);
    ensure!(covered >= 0.99, "the other guest: {found}");
    let restarted = Guest::boot(&qemu("microvm", 4))?;
    ensure!(restarted.reports()?, "the next guest does not report");
    restarted.check_console()?;
    drop(restarted);
    other.finish()
}
