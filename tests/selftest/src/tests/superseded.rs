// SPDX-License-Identifier: GPL-2.0
//! KVM flushes one context on a guest's behalf: that serves gVA and CONTEXT entries, but no FULL one.

use super::Test;
use crate::scene::{need_profile, user_set, Scene, Setup};
use anyhow::{ensure, Result};
use gvahint_vm::code::After;
use gvahint_vm::knobs::Policy;
use gvahint_vm::machine::Snapshot;

pub const TESTS: &[Test] = &[
    Test::new(
        "superseded_pv_flush",
        "a paravirtual TLB flush makes gVA and CONTEXT entries needless",
        |_| context(),
    ),
    Test::new(
        "superseded_pv_not_full",
        "a paravirtual TLB flush leaves a pending INVEPT alone",
        |_| not_full(),
    ),
];

const HINT: Policy = Policy::new("hint", "deferred");
const PAGES: u64 = 64;

/// A vCPU that stands outside the guest and takes requests to flush by its steal time.
fn gated() -> Result<Scene> {
    let mut setup = Setup::quiet(PAGES).with(After::Out);
    setup.config.steal_time = true;
    let mut scene = Scene::hinted(setup, HINT)?;
    scene.knobs.set("max_delay_ms", 0)?;
    scene.vcpus[0].hold()?;
    scene.vcpus[0].step(2)?;
    Ok(scene)
}

/// Ages all pages, asks for KVM's flush if `ask`, and lets the vCPU run one sweep. Returns INVVPID by
/// address and by context and INVEPT; whatever was asked for, no page may be idle then.
fn sweep(scene: &Scene, ask: bool) -> Result<(u64, u64, u64)> {
    scene.idle.mark(&scene.pfns)?;
    if ask {
        scene.vcpus[0].ask_for_flush();
    }
    let seen: Snapshot = scene.step()?;
    let idle = scene.idle.count(&scene.pfns)?;
    ensure!(idle == 0, "{idle} pages are falsely idle");
    // The look itself aged them once more.
    scene.vcpus[0].step(1)?;
    Ok((seen.invvpid_addr(), seen.invvpid_context(), seen.invept()))
}

/// Fails if what KVM's own INVVPID of the context dropped is dropped again, by address or by context,
/// if that isn't counted, or if entries are passed over although nobody asked for a flush.
fn context() -> Result<()> {
    let mut scene = gated()?;
    need_profile(&scene.machine, &["combined-only"])?;
    for (flush, alone) in [("hint", (PAGES, 0, 0)), ("context", (0, 1, 0))] {
        let policy = Policy::new(flush, "deferred");
        scene.knobs.policy("clear_young", policy)?;
        // After a policy that drops less the VM is flushed once: not to be counted.
        scene.vcpus[0].step(1)?;
        for (ask, due) in [(false, alone), (true, (0, 1, 0)), (false, alone)] {
            let before = scene.stat("superseded")?;
            let seen = sweep(&scene, ask)?;
            ensure!(
                seen == due,
                "{flush}, KVM's flush {ask}: {seen:?} by address, context, INVEPT; {due:?} were due"
            );
            let counted = scene.stat("superseded")? - before;
            ensure!(
                counted == u64::from(ask),
                "{flush}, KVM's flush {ask}: {counted} counted as superseding"
            );
        }
    }
    Ok(())
}

/// Fails if an INVVPID of the context is taken for an INVEPT (one page is uncovered, or the policy is
/// invept): on leaf-cached its pages are then falsely idle, on any profile the INVEPT is missing. Also
/// if it is executed twice, or gVAs before it are dropped one by one.
fn not_full() -> Result<()> {
    let mut scene = gated()?;
    need_profile(&scene.machine, &["combined-only", "leaf-cached"])?;
    scene.hello()?;
    let sets: Vec<_> = (0..PAGES).filter(|i| *i != 7).map(user_set).collect();
    scene.report(&sets)?;
    scene.vcpus[0].step(1)?;
    for flush in ["hint", "invept"] {
        let policy = Policy::new(flush, "deferred");
        scene.knobs.policy("clear_young", policy)?;
        scene.vcpus[0].step(1)?;
        let before = (scene.stat("drained_full")?, scene.stat("superseded")?);
        let seen = sweep(&scene, true)?;
        ensure!(
            seen == (0, 1, 1),
            "{flush}: {seen:?} by address, context, INVEPT; KVM's INVVPID and our INVEPT were due"
        );
        let after = (scene.stat("drained_full")?, scene.stat("superseded")?);
        // The second one is for what the look aged.
        ensure!(
            after == (before.0 + 2, before.1),
            "{flush}: drained_full, superseded went from {before:?} to {after:?}"
        );
    }
    Ok(())
}
