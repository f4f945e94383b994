// SPDX-License-Identifier: GPL-2.0
//! Policies of one VM beside those of all.

use super::Test;
use crate::scene::{need_profile, Scene, Setup};
use anyhow::{bail, ensure, Result};
use gvahint_vm::knobs::{Policy, VmDir};
use gvahint_vm::vm::Vm;

pub const TESTS: &[Test] = &[Test::new(
    "override_policy",
    "a VM's own policy, and `inherit` to leave it",
    |_| overrides(),
)];

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
