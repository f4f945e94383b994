// SPDX-License-Identifier: GPL-2.0
//! Many vCPUs on one log: each has a cursor of its own, an entry is appended once for all of them.

use super::Test;
use crate::scene::{need_profile, Scene, Setup};
use anyhow::{ensure, Result};
use gvahint_vm::code::After;
use gvahint_vm::hints::Set;
use gvahint_vm::knobs::Policy;
use gvahint_vm::machine::Snapshot;
use gvahint_vm::tables::GuestPage;
use gvahint_vm::{layout, sys, PAGE};

pub const TESTS: &[Test] = &[
    Test::new(
        "cursors_each",
        "16 vCPUs (64 with every cell): each drains each entry once",
        |full| each(count(full)),
    ),
    Test::new(
        "cursors_apart",
        "16 vCPUs (64 with every cell), one a time: as many distances from the log's head",
        |full| apart(count(full)),
    ),
];

const PAGES: u64 = 16;
/// gVAs of each page. A vCPU uses one of them: under the same gVA, the translations of all vCPUs of a
/// CPU would share a set of its TLB and evict each other, and nothing would be stale.
const GVAS: u64 = 7;
/// Entries for all pages.
const ENTRIES: u64 = GVAS * PAGES;
/// gVAs that one entry drops singly; `cursors_apart` has vCPUs with fewer and with more pending.
const MAX_GVAS: u64 = 1024;
/// A sweep's misses besides the data: code, stack and control page, which all vCPUs share.
const SHARED: u64 = 6;

/// As many as asked for whose translations have room in the CPUs' TLBs, which have 8 ways: 64 on two
/// CPUs and more.
fn count(full: bool) -> usize {
    let wanted = if full { 64 } else { 16 };
    wanted.min(sys::cpus() * 6 * GVAS as usize)
}

/// First page under one of its gVAs.
const fn gva(j: u64) -> u64 {
    layout::ALIAS + j * PAGES * PAGE
}

/// vCPUs that stand outside the guest, all of which have all pages in their TLBs.
fn gated(vcpus: usize) -> Result<Scene> {
    let mut scene = Scene::prepare(Setup::quiet(PAGES).with(After::Out))?;
    need_profile(&scene.machine, &["combined-only"])?;
    for j in 0..GVAS {
        scene.vm.map(gva(j), 0, PAGES, GuestPage::Small)?;
    }
    scene.hello()?;
    let set = |i| {
        let gvas: Vec<_> = (0..GVAS).map(|j| gva(j) + i * PAGE).collect();
        Set::mapped(layout::data(i) / PAGE, &gvas)
    };
    let sets: Vec<_> = (0..PAGES).map(set).collect();
    scene.report(&sets)?;
    scene
        .knobs
        .policy("clear_young", Policy::new("hint", "deferred"))?;
    scene.knobs.set("max_delay_ms", 0)?;
    scene.knobs.set("max_gvas_per_entry", MAX_GVAS)?;
    let mut sweep = scene.setup.sweep();
    for i in 0..vcpus {
        sweep.first.gva = gva(i as u64 % GVAS);
        scene.add_held(&sweep, i % sys::cpus())?;
    }
    Ok(scene)
}

fn sweep_all(scene: &Scene) -> Result<Snapshot> {
    scene.machine.reset()?;
    scene.vcpus.iter().try_for_each(|vcpu| vcpu.step(1))?;
    scene.machine.snapshot()
}

/// Fails unless so many VPIDs ran, each with `data` TLB misses and at most a few more.
fn check_misses(seen: &Snapshot, vcpus: usize, data: u64) -> Result<()> {
    let guests: Vec<_> = seen.cpus.iter().flat_map(|cpu| &cpu.guest).collect();
    ensure!(guests.len() == vcpus, "{} VPIDs ran", guests.len());
    for guest in guests {
        let (vpid, misses) = (guest.vpid, guest.tlb_misses);
        ensure!(
            (data..=data + SHARED).contains(&misses),
            "VPID {vpid}: {misses} TLB misses, {data} and at most {SHARED} more were due"
        );
    }
    Ok(())
}

/// Fails if an aged page costs more than its entries however many vCPUs there are; if a vCPU drops
/// other than each entry's gVA, once; if one walks other than the aged pages again (fewer: its own
/// translations are stale, whatever the pages' bits say, which the first one sets); if pages are walked
/// again that were not aged (then nothing was stale); or if a vCPU drains twice.
fn each(vcpus: usize) -> Result<()> {
    let scene = gated(vcpus)?;
    let each = ENTRIES * vcpus as u64;
    for round in 0..2 {
        let names = ["appended_gva", "drains", "drained_gva"];
        let stats = || -> Result<Vec<_>> { names.iter().map(|name| scene.stat(name)).collect() };
        let before = stats()?;
        scene.idle.mark(&scene.pfns)?;
        let seen = sweep_all(&scene)?;
        let after = stats()?;
        let more: Vec<_> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        ensure!(
            more == [ENTRIES, vcpus as u64, each],
            "round {round}, {vcpus} vCPUs: {names:?} went up by {more:?}"
        );
        let flushes = (seen.invvpid_addr(), seen.invvpid_context(), seen.invept());
        ensure!(
            flushes == (each, 0, 0),
            "round {round}: {flushes:?} by address, by context, INVEPT"
        );
        check_misses(&seen, vcpus, PAGES)?;

        let drains = scene.stat("drains")?;
        let seen = sweep_all(&scene)?;
        let more = scene.stat("drains")? - drains;
        ensure!(more == 0, "{more} drains without an entry");
        check_misses(&seen, vcpus, 0)?;
        let idle = scene.idle.count(&scene.pfns)?;
        ensure!(idle == 0, "{idle} pages are falsely idle");
        // The look aged them once more.
        sweep_all(&scene)?;
    }
    Ok(())
}

/// Fails if a vCPU that lagged while others went ahead leaves a page falsely idle when it is its turn,
/// if it drops other than what it missed, or if it drops singly more than it may.
fn apart(vcpus: usize) -> Result<()> {
    let scene = gated(vcpus)?;
    let mut pending = 0;
    scene.idle.mark(&scene.pfns)?;
    for (i, vcpu) in scene.vcpus.iter().enumerate() {
        // The pages lost their bits by the mark at first, and by the look at each turn since.
        pending += ENTRIES;
        scene.idle.mark(&scene.pfns)?;
        scene.machine.reset()?;
        vcpu.step(1)?;
        let seen = scene.machine.snapshot()?;
        let flushes = (seen.invvpid_addr(), seen.invvpid_context(), seen.invept());
        let due = match pending <= MAX_GVAS {
            true => (pending, 0, 0),
            false => (0, 1, 0),
        };
        ensure!(
            flushes == due,
            "vCPU {i}, {pending} pending: {flushes:?} by address, by context, INVEPT"
        );
        let idle = scene.idle.count(&scene.pfns)?;
        ensure!(idle == 0, "vCPU {i}: {idle} pages are falsely idle");
    }
    Ok(())
}
