// SPDX-License-Identifier: GPL-2.0
//! Policies of one VM beside those of all.

use super::Test;
use crate::scene::{need_profile, Scene, Setup};
use anyhow::{bail, ensure, Result};
use gvahint_vm::knobs::{Policy, VmDir};
use gvahint_vm::vm::Vm;

pub const TESTS: &[Test] = &[
    Test::new(
        "override_policy",
        "a VM's own policy, and `inherit` to leave it",
        |_| overrides(),
    ),
    Test::new(
        "override_catches_up",
        "a policy that flushes after one that does not",
        |_| catches_up(),
    ),
];

/// Fails if a VM's own knob doesn't win over the global one, changes another knob or VM, or is still in
/// force after `inherit`.
fn overrides() -> Result<()> {
    let hint = Policy::new("hint", "deferred");
    let mut scene = Scene::gated(64, hint)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.knobs.set("max_delay_ms", 0)?;
    let _neighbour = Vm::new(Setup::quiet(16).config)?;
    let [dir, other] = &VmDir::all()?[..] else {
        bail!("not two VMs: {:?}", VmDir::all()?);
    };
    for which in ["clear_young", "clear_flush_young"] {
        for knob in ["flush", "uncovered", "timing"] {
            let value = dir.read(&format!("{which}_{knob}"))?;
            ensure!(value == "inherit", "{which}_{knob} begins as {value:?}");
        }
    }
    let cases = [
        ("hint", "inherit", (64, 0, 0)),
        ("hint", "context", (0, 1, 0)),
        ("context", "hint", (64, 0, 0)),
        ("context", "inherit", (0, 1, 0)),
        ("none", "invept", (0, 0, 1)),
        ("invept", "none", (0, 0, 0)),
        ("hint", "inherit", (64, 0, 0)),
    ];
    for (global, own, due) in cases {
        scene
            .knobs
            .policy("clear_young", Policy::new(global, "deferred"))?;
        dir.write("clear_young_flush", own)?;
        // Of the other notifier, and of the other VM: neither counts here.
        dir.write("clear_flush_young_flush", "invept")?;
        other.write("clear_young_flush", "invept")?;
        // After a policy that drops less the VM is flushed once.
        scene.vcpus[0].step(1)?;
        scene.idle.mark(&scene.pfns)?;
        let seen = scene.step()?;
        let flushes = (seen.invvpid_addr(), seen.invvpid_context(), seen.invept());
        ensure!(
            flushes == due,
            "global {global}, own {own}: {flushes:?} by address, context, INVEPT; {due:?} were due"
        );
        let timing = dir.read("clear_young_timing")?;
        ensure!(timing == "inherit", "the timing became {timing:?}");
        scene.vm.toggle_dirty_log()?;
        scene.vcpus[0].step(1)?;
    }
    Ok(())
}

/// Fails if pages that were aged without a flush stay falsely idle under a policy that flushes: they
/// never look young, so no notifier call would ever flush them. Or if a switch to less flushes.
fn catches_up() -> Result<()> {
    const PAGES: usize = 64;
    let mut scene = Scene::gated(PAGES as u64, Policy::new("hint", "deferred"))?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.knobs.set("max_delay_ms", 0)?;
    let dir = scene.dir()?;
    for (before, after) in [("none", "hint"), ("default", "context"), ("none", "invept")] {
        for own in [false, true] {
            let set = |scene: &mut Scene, flush| match own {
                true => dir.write("clear_young_flush", flush),
                false => scene
                    .knobs
                    .policy("clear_young", Policy::new(flush, "deferred")),
            };
            set(&mut scene, before)?;
            scene.vcpus[0].step(1)?;
            scene.idle.mark(&scene.pfns)?;
            scene.vcpus[0].step(1)?;
            let idle = scene.idle.count(&scene.pfns)?;
            ensure!(idle == PAGES as u64, "{before}: {idle} pages are idle");
            set(&mut scene, after)?;
            let seen = scene.step()?;
            ensure!(seen.invept() == 1, "{after}: {} INVEPT", seen.invept());
            let idle = scene.idle.count(&scene.pfns)?;
            ensure!(idle == 0, "{before} to {after}: {idle} pages stay idle");
            // To count ages as well.
            scene.vcpus[0].step(1)?;
            // Hints may have left something, and so has a context: page tables.
            let mut last = after;
            for (flush, due) in [
                ("context", after == "hint"),
                ("context", false),
                ("hint", true),
                ("hint", false),
            ] {
                set(&mut scene, flush)?;
                let seen = scene.step()?;
                ensure!(
                    seen.invept() == u64::from(due),
                    "{last} to {flush}: {} INVEPT",
                    seen.invept()
                );
                last = flush;
            }
            dir.write("clear_young_flush", "inherit")?;
        }
    }
    uncovered_too(&mut scene, &dir)
}

/// The same where only what is done about pages without a hint changes.
fn uncovered_too(scene: &mut Scene, dir: &VmDir) -> Result<()> {
    scene.hello()?;
    for own in [false, true] {
        let hint = Policy::new("hint", "deferred");
        let uncovered = "none";
        scene
            .knobs
            .policy("clear_young", Policy { uncovered, ..hint })?;
        scene.vcpus[0].step(1)?;
        scene.idle.mark(&scene.pfns)?;
        scene.vcpus[0].step(1)?;
        let idle = scene.idle.count(&scene.pfns)?;
        ensure!(idle > 0, "uncovered=none: no page is idle");
        match own {
            true => dir.write("clear_young_uncovered", "full")?,
            false => scene.knobs.policy("clear_young", hint)?,
        }
        scene.vcpus[0].step(1)?;
        let idle = scene.idle.count(&scene.pfns)?;
        ensure!(idle == 0, "none to full: {idle} pages stay idle");
        scene.vcpus[0].step(1)?;
    }
    Ok(())
}
