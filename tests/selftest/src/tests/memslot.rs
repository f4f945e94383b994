// SPDX-License-Identifier: GPL-2.0
//! Memory that leaves a VM and comes back.

use super::Test;
use crate::scene::{need_profile, user_set, Scene, Setup};
use anyhow::{ensure, Context, Result};
use gvahint_vm::code::{After, Region};
use gvahint_vm::hints::{errno, Set};
use gvahint_vm::knobs::Policy;
use gvahint_vm::tables::GuestPage;
use gvahint_vm::{layout, PAGE};

pub const TESTS: &[Test] = &[
    Test::new(
        "memslot_deleted",
        "hints go with their memslot and do not come back with it",
        |_| deleted(),
    ),
    Test::new(
        "memslot_pending",
        "a memslot goes while entries are pending",
        |_| pending(),
    ),
];

const HINT_ONLY: Policy = Policy {
    uncovered: "none",
    ..Policy::new("hint", "deferred")
};
const PAGES: u64 = 64;
/// Pages of the other memslot that have hints as well.
const OTHERS: u64 = 8;

/// The set of the window's page `i`.
fn window_set(scene: &Scene, i: u64) -> Set {
    let gfn = scene.vm.window() / PAGE + i;
    Set::mapped(gfn, &[layout::ALIAS + i * PAGE])
}

fn report_window(scene: &mut Scene) -> Result<()> {
    let sets: Vec<_> = (0..PAGES).map(|i| window_set(scene, i)).collect();
    scene.report(&sets)
}

/// A vCPU that stands outside the guest and touches the data through a memslot of its own only.
fn gated() -> Result<Scene> {
    let mut setup = Setup::quiet(PAGES).with(After::Out);
    setup.first = Region {
        gva: layout::ALIAS,
        pages: PAGES,
    };
    let mut scene = Scene::prepare(setup)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.vm.set_window(true)?;
    let (window, len) = (scene.vm.window(), PAGES * PAGE);
    let vm = &mut scene.vm;
    vm.map_gpa(layout::ALIAS, window, len, GuestPage::Small)?;
    scene.hello()?;
    let others: Vec<_> = (0..OTHERS).map(user_set).collect();
    scene.report(&others)?;
    report_window(&mut scene)?;
    scene.knobs.policy("clear_young", HINT_ONLY)?;
    scene.knobs.set("max_delay_ms", 0)?;
    scene.start()?;
    scene.vcpus[0].hold()?;
    scene.vcpus[0].step(2)?;
    Ok(scene)
}

/// Ages the pages, runs one sweep, and returns how many gVAs were dropped and how many pages are idle.
fn sweep(scene: &Scene) -> Result<(u64, u64)> {
    scene.idle.mark(&scene.pfns)?;
    let seen = scene.step()?;
    let idle = scene.idle.count(&scene.pfns)?;
    scene.vcpus[0].step(1)?;
    Ok((seen.invvpid_addr(), idle))
}

/// Fails if hints outlive their memslot, if those of another one go with it, if a REPORT for memory
/// that isn't there is taken, or if hints don't work again once they are given again.
fn deleted() -> Result<()> {
    let mut scene = gated()?;
    let hints = scene.stat("hints")?;
    ensure!(hints == OTHERS + PAGES, "{hints} hints after the REPORTs");
    let seen = sweep(&scene)?;
    ensure!(
        seen == (PAGES, 0),
        "{seen:?} INVVPID, idle pages with hints"
    );

    scene.vm.set_window(false)?;
    let hints = scene.stat("hints")?;
    ensure!(hints == OTHERS, "{hints} hints are left, not {OTHERS}");
    let set = window_set(&scene, 0);
    let reporter = scene.reporter.as_mut().context("a session")?;
    let answer = reporter.report(scene.vm.memory(), &[set])?;
    ensure!(
        answer == errno::EFAULT,
        "a REPORT without memory answered {answer}"
    );

    scene.vm.set_window(true)?;
    scene.vcpus[0].step(2)?;
    let uncovered = scene.stat("uncovered_no_hint")?;
    let seen = sweep(&scene)?;
    ensure!(
        seen == (0, PAGES),
        "{seen:?} INVVPID, idle pages once the memslot is back"
    );
    let more = scene.stat("uncovered_no_hint")? - uncovered;
    ensure!(more == PAGES, "{more} pages counted as without a hint");

    report_window(&mut scene)?;
    scene.vm.toggle_dirty_log()?;
    scene.vcpus[0].step(2)?;
    let seen = sweep(&scene)?;
    ensure!(
        seen == (PAGES, 0),
        "{seen:?} INVVPID, idle pages after another REPORT"
    );
    Ok(())
}

/// Fails if pages are falsely idle because their memslot went and came back between their ageing and
/// the next entry, or if the vCPU still has entries to drop at the entry after that.
fn pending() -> Result<()> {
    let scene = gated()?;
    scene.idle.mark(&scene.pfns)?;
    scene.vm.set_window(false)?;
    scene.vm.set_window(true)?;
    let seen = scene.step()?;
    println!(
        "{} INVVPID by address, {} by context, {} INVEPT",
        seen.invvpid_addr(),
        seen.invvpid_context(),
        seen.invept()
    );
    let idle = scene.idle.count(&scene.pfns)?;
    ensure!(idle == 0, "{idle} pages are falsely idle");
    let before = scene.stat("drains")?;
    let seen = scene.step()?;
    let drains = scene.stat("drains")? - before;
    ensure!(
        (seen.invvpid_addr(), drains) == (0, 0),
        "{} INVVPID, {drains} drains for pages without hints",
        seen.invvpid_addr()
    );
    Ok(())
}
