// SPDX-License-Identifier: GPL-2.0
//! The flush log, with a vCPU that stands outside the guest while pages are aged: exact counts.

use super::Test;
use crate::scene::{need_cpus, need_profile, Scene, Setup, TICKS_MS};
use anyhow::{ensure, Result};
use gvahint_vm::code::After;
use gvahint_vm::knobs::Policy;
use gvahint_vm::sys;

pub const TESTS: &[Test] = &[
    Test::new(
        "log_boundary",
        "as many entries as the log holds, and one more",
        |_| boundary(),
    ),
    Test::new("log_max_gvas", "more gVAs than one entry may flush", |_| {
        max_gvas()
    }),
    Test::new("log_lag", "a vCPU that lags far behind the log", |_| lag()),
    Test::new(
        "superseded_dirty_log",
        "a full flush of KVM's own makes entries needless",
        |_| superseded(|scene| scene.vm.toggle_dirty_log(), true),
    ),
    Test::new(
        "superseded_migration",
        "a vCPU that changed its CPU has nothing to flush",
        |_| {
            need_cpus(2)?;
            superseded(|scene| scene.vcpus[0].pin(0), true)
        },
    ),
    Test::new(
        "superseded_not",
        "what flushes nothing of the VM supersedes nothing",
        |_| superseded(|scene| scene.vcpus[0].interrupt(), false),
    ),
    Test::new(
        "superseded_own_flush",
        "the guest's own CR3 writes and INVLPG supersede nothing",
        |_| own_flush(),
    ),
    Test::new(
        "superseded_full",
        "a pending INVEPT is served by KVM's own flush",
        |_| superseded_full(),
    ),
    Test::new(
        "timing_exact",
        "each timing and flush, counted at one entry",
        |_| exact(),
    ),
];

const HINT: Policy = Policy::new("hint", "deferred");

fn gated(pages: u64, log: u64) -> Result<Scene> {
    let mut scene = Scene::gated(pages, HINT)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.knobs.set("max_delay_ms", 0)?;
    scene.knobs.set("max_gvas_per_entry", log)?;
    // A log gets its size at HELLO.
    scene.knobs.set("log_entries", log)?;
    scene.report_user()?;
    scene.vcpus[0].step(1)?;
    Ok(scene)
}

/// Fails if a full log is given up too early, or used when one entry was overwritten.
fn boundary() -> Result<()> {
    let scene = gated(512, 256)?;
    for (pages, invvpid, context) in [(255, 255, 0), (256, 256, 0), (257, 0, 1), (512, 0, 1)] {
        let pfns = &scene.pfns[..pages];
        scene.idle.mark(pfns)?;
        let seen = scene.step()?;
        let flushes = (seen.invvpid_addr(), seen.invvpid_context(), seen.invept());
        ensure!(
            flushes == (invvpid, context, 0),
            "{pages} entries in a log of 256: {flushes:?} INVVPID by address, by context, INVEPT"
        );
        let idle = scene.idle.count(pfns)?;
        ensure!(idle == 0, "{pages} entries: {idle} pages are falsely idle");
        // The look itself aged them once more.
        scene.vcpus[0].step(1)?;
    }
    Ok(())
}

/// Fails if one entry executes more single flushes than it may.
fn max_gvas() -> Result<()> {
    let mut scene = gated(64, 256)?;
    scene.knobs.set("max_gvas_per_entry", 16)?;
    for (pages, invvpid, context) in [(16, 16, 0), (17, 0, 1)] {
        let pfns = &scene.pfns[..pages];
        scene.idle.mark(pfns)?;
        let seen = scene.step()?;
        let flushes = (seen.invvpid_addr(), seen.invvpid_context());
        ensure!(
            flushes == (invvpid, context),
            "{pages} gVAs: {flushes:?} by address, by context"
        );
        let idle = scene.idle.count(pfns)?;
        ensure!(idle == 0, "{pages} gVAs: {idle} pages are falsely idle");
        scene.vcpus[0].step(1)?;
    }
    Ok(())
}

/// Fails if a vCPU that missed several laps of the log believes what it finds there.
fn lag() -> Result<()> {
    let scene = gated(1024, 256)?;
    for _ in 0..3 {
        scene.idle.mark(&scene.pfns)?;
        let seen = scene.step()?;
        let flushes = (seen.invvpid_addr(), seen.invvpid_context(), seen.invept());
        ensure!(
            flushes == (0, 1, 0),
            "{flushes:?} by address, by context, INVEPT"
        );
        let idle = scene.idle.count(&scene.pfns)?;
        ensure!(idle == 0, "{idle} pages are falsely idle");
    }
    ensure!(
        scene.stat("lagged")? + scene.stat("too_many")? >= 3,
        "the module counted no lag"
    );
    Ok(())
}

/// Fails if entries are flushed that a wider flush made needless, or are not although none did.
fn superseded(act: impl Fn(&Scene) -> Result<()>, supersedes: bool) -> Result<()> {
    let scene = gated(64, 256)?;
    scene.idle.mark(&scene.pfns)?;
    act(&scene)?;
    let seen = scene.step()?;
    let due = if supersedes { 0 } else { 64 };
    ensure!(
        seen.invvpid_addr() == due,
        "{} INVVPID, {due} were due",
        seen.invvpid_addr()
    );
    let idle = scene.idle.count(&scene.pfns)?;
    ensure!(idle == 0, "{idle} pages are falsely idle");
    Ok(())
}

/// Fails if flushes that KVM doesn't see (or their like) swallow entries.
fn own_flush() -> Result<()> {
    let mut scene = Scene::hinted(Setup::quiet(64).with(After::OwnFlush), HINT)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.knobs.set("max_delay_ms", 0)?;
    sys::sleep_ms(TICKS_MS);
    scene.machine.reset()?;
    scene.idle.mark(&scene.pfns)?;
    sys::sleep_ms(TICKS_MS);
    let seen = scene.machine.snapshot()?;
    ensure!(
        seen.invvpid_addr() == 64,
        "{} INVVPID, 64 were due",
        seen.invvpid_addr()
    );
    Ok(())
}

/// Fails if an INVEPT is executed twice for the same pages, or a context flush swallows it.
fn superseded_full() -> Result<()> {
    let mut scene = gated(64, 256)?;
    scene.vm.toggle_dirty_log()?;
    let own = scene.step()?.invept();
    scene
        .knobs
        .policy("clear_young", Policy::new("invept", "deferred"))?;
    // After a policy that drops less the VM is flushed once: not to be counted.
    scene.vcpus[0].step(1)?;
    scene.idle.mark(&scene.pfns)?;
    scene.vm.toggle_dirty_log()?;
    let seen = scene.step()?.invept();
    ensure!(seen == own, "{seen} INVEPT, {own} are KVM's own");
    ensure!(
        scene.idle.count(&scene.pfns)? == 0,
        "pages are falsely idle"
    );
    Ok(())
}

/// Fails if an entry flushes more often than its policy says, or misses a vCPU's pages.
fn exact() -> Result<()> {
    let mut scene = gated(64, 256)?;
    for (flush, due) in [
        ("hint", (64, 0, 0)),
        ("context", (0, 1, 0)),
        ("invept", (0, 0, 1)),
    ] {
        for timing in ["now", "batched", "deferred"] {
            scene
                .knobs
                .policy("clear_young", Policy::new(flush, timing))?;
            // As above.
            scene.vcpus[0].step(1)?;
            scene.idle.mark(&scene.pfns)?;
            let seen = scene.step()?;
            let flushes = (seen.invvpid_addr(), seen.invvpid_context(), seen.invept());
            ensure!(
                flushes == due,
                "{flush} {timing}: {flushes:?} by address, context, INVEPT"
            );
            let idle = scene.idle.count(&scene.pfns)?;
            ensure!(idle == 0, "{flush} {timing}: {idle} pages are falsely idle");
            scene.vcpus[0].step(1)?;
        }
    }
    Ok(())
}
