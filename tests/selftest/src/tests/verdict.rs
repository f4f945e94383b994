// SPDX-License-Identifier: GPL-2.0
//! The host's own verdict on hints: what each value of `calibration` does to `hint`.

use super::Test;
use crate::scene::{need_profile, Scene, Setup};
use anyhow::{ensure, Result};
use gvahint_vm::knobs::{Policy, VmDir};

pub const TESTS: &[Test] = &[
    Test::new(
        "calibration_plans",
        "what `hint` drops under each verdict on the host",
        |_| plans(),
    ),
    Test::new(
        "calibration_leaves_alone",
        "verdicts and VMs whose hints are not used anyway",
        |_| leaves_alone(),
    ),
    Test::new(
        "calibration_stale",
        "a verdict makes right what hints left stale",
        |_| stale(),
    ),
];

const PAGES: u64 = 64;
/// What is said of uncovered pages must not matter.
const HINT_ONLY: Policy = Policy {
    uncovered: "none",
    ..Policy::new("hint", "deferred")
};

/// Fails if a verdict doesn't change what is dropped for a VM that reports, whether `hint` is its own
/// policy or the global one; if what was aged before isn't flushed once exactly where `hint` changes; if
/// a page stays idle; or if neither state nor counters say why.
fn plans() -> Result<()> {
    let mut scene = Scene::gated(PAGES, HINT_ONLY)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.knobs.set("max_delay_ms", 0)?;
    let dir = scene.dir()?;
    for own in ["inherit", "hint"] {
        dir.write("clear_young_flush", own)?;
        let mut hints_worked = true;
        for (verdict, due, state) in [
            ("passed", (PAGES, 0, 0), "live"),
            ("failed-context", (0, 1, 0), "calibration-failed"),
            ("failed-invept", (0, 0, 1), "calibration-failed"),
            ("failed-context", (0, 1, 0), "calibration-failed"),
            ("uncalibrated", (PAGES, 0, 0), "live"),
            ("passed", (PAGES, 0, 0), "live"),
        ] {
            let what = format!("{verdict}, own policy {own}");
            scene.knobs.set("calibration", verdict)?;
            let works = state == "live";
            let caught_up = scene.step()?.invept();
            let once = u64::from(!(works && hints_worked));
            ensure!(caught_up == once, "{what}: {caught_up} INVEPT to catch up");
            hints_worked = works;
            let before = dir.stat("uncovered_calibration")?;
            scene.idle.mark(&scene.pfns)?;
            let seen = scene.step()?;
            let flushes = (seen.invvpid_addr(), seen.invvpid_context(), seen.invept());
            // page_idle ends a notifier call with each page: one entry each, served by one flush.
            ensure!(
                flushes == due,
                "{what}: {flushes:?} by address, context, INVEPT; {due:?} were due"
            );
            let idle = scene.idle.count(&scene.pfns)?;
            ensure!(idle == 0, "{what}: {idle} pages are falsely idle");
            let is = dir.read("state")?;
            ensure!(is == state, "{what}: state is {is:?}");
            let counted = dir.stat("uncovered_calibration")? - before;
            // The look is as much once more.
            let all = if works { 0 } else { 2 * PAGES };
            ensure!(counted == all, "{what}: {counted} uncovered_calibration");
            scene.vcpus[0].step(1)?;
        }
    }
    Ok(())
}

/// Fails if a failed verdict costs a VM anything that does not report, or whose policy is no `hint`.
fn leaves_alone() -> Result<()> {
    let mut scene = Scene::gated(PAGES, HINT_ONLY)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.knobs.set("max_delay_ms", 0)?;
    let dir = scene.dir()?;
    for verdict in ["failed-context", "failed-invept"] {
        scene.knobs.set("calibration", verdict)?;
        for (own, due) in [("context", (1, 0)), ("invept", (0, 1)), ("none", (0, 0))] {
            dir.write("clear_young_flush", own)?;
            scene.vcpus[0].step(1)?;
            let flushes = drops(&scene)?;
            ensure!(
                flushes == due,
                "{verdict}, {own}: {flushes:?} by context, INVEPT; {due:?} were due"
            );
        }
        dir.write("clear_young_flush", "hint")?;
        let reporter = scene.reporter.as_mut().expect("a session");
        ensure!(reporter.bye()? == 0, "BYE failed");
        scene.vcpus[0].step(1)?;
        let flushes = drops(&scene)?;
        ensure!(flushes == (0, 0), "{verdict}, a silent VM: {flushes:?}");
        ensure!(dir.read("state")? == "silent", "the VM is not silent");
        scene.report_user()?;
    }
    Ok(())
}

/// What ageing the pages makes a vCPU drop: contexts, EPTs.
fn drops(scene: &Scene) -> Result<(u64, u64)> {
    scene.vm.toggle_dirty_log()?;
    scene.vcpus[0].step(1)?;
    scene.idle.mark(&scene.pfns)?;
    let seen = scene.step()?;
    ensure!(seen.invvpid_addr() == 0, "hints are used");
    Ok((seen.invvpid_context(), seen.invept()))
}

/// Fails if hints work here, if their stale pages stay so once the verdict says that INVEPT is needed, in
/// this VM or another one, or if ages are wrong from then on.
fn stale() -> Result<()> {
    let mut scene = Scene::prepare(Setup::quiet(PAGES))?;
    need_profile(&scene.machine, &["leaf-cached"])?;
    let mut other = Scene::prepare(Setup::quiet(PAGES))?;
    scene.knobs.policy("clear_young", HINT_ONLY)?;
    for scene in [&mut scene, &mut other] {
        scene.report_user()?;
        scene.start()?;
        let idle = scene.full_round()?;
        ensure!(
            idle == PAGES,
            "{idle} of {PAGES} idle, hints can't help here"
        );
    }
    scene.knobs.set("calibration", "failed-invept")?;
    for scene in [&scene, &other] {
        scene.warm(2)?;
        let idle = scene.idle.count(&scene.pfns)?;
        ensure!(idle == 0, "{idle} pages stay idle under the verdict");
        let idle = scene.full_round()?;
        ensure!(idle == 0, "{idle} pages are falsely idle");
    }
    for dir in VmDir::all()? {
        let state = dir.read("state")?;
        ensure!(state == "calibration-failed", "state is {state:?}");
    }
    Ok(())
}
