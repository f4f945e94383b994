// SPDX-License-Identifier: GPL-2.0
//! EPT leaves of 1 GiB (hugetlbfs on the host) under guests that map them by pages of 1 GiB and of
//! 2 MiB. page_idle passes hugetlbfs by: DAMON ages it. Needs a machine with 1 GiB pages set aside.

use super::Test;
use crate::scene::{need_profile, Scene, Setup, TICKS_MS};
use crate::tap::skip;
use anyhow::{ensure, Context, Result};
use gvahint_vm::capability::Capability;
use gvahint_vm::code::Region;
use gvahint_vm::damon::{Damon, Space};
use gvahint_vm::hints::{kind, Set};
use gvahint_vm::knobs::Policy;
use gvahint_vm::machine::Snapshot;
use gvahint_vm::memory::Backing;
use gvahint_vm::tables::GuestPage;
use gvahint_vm::{sys, GIANT, LARGE, PAGE};
use std::slice::from_ref;

pub const TESTS: &[Test] = &[
    Test::new(
        "leaf1g_giant",
        "a 1 GiB EPT leaf, a guest with 1 GiB pages",
        |_| giant(),
    ),
    Test::new(
        "leaf1g_large",
        "a 1 GiB EPT leaf, a guest with 2 MiB pages",
        |_| large(),
    ),
];

const HINT: Policy = Policy::new("hint", "deferred");
const HINT_ONLY: Policy = Policy {
    uncovered: "none",
    ..HINT
};
const PAGES: u64 = 64;
const SAMPLE_US: u64 = 20_000;
const SAMPLES: u64 = 10;
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages";

/// A guest that reads some pages of a gigabyte, which it maps at its own address.
fn prepare(page: GuestPage) -> Result<Scene> {
    if !Capability::read()?.ept_giant {
        skip!("the CPU's EPT has no leaves of 1 GiB");
    }
    if sys::read(FREE).map_or(true, |free| free == "0") {
        skip!("no 1 GiB page: start the machine with hugepagesz=1G hugepages=1");
    }
    let mut setup = Setup::quiet(PAGES);
    setup.config.backing = Backing::Giant;
    setup.config.guest_page = page;
    setup.config.identity = true;
    setup.first = Region {
        gva: setup.config.gva(0),
        pages: PAGES,
    };
    let mut scene = Scene::prepare(setup)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.hello()?;
    scene.start()?;
    Ok(scene)
}

/// The set for so many pages from gfn `gfn` on, mapped at their own address by pages of a size.
fn own_set(gfn: u64, range: GuestPage, page: GuestPage) -> Set {
    let gva = (gfn * PAGE) | page.order();
    Set::new(gfn, range.order(), kind::MAPPED, 1, &[gva])
}

/// What DAMON and the counters say of a while of ageing.
struct Seen {
    /// Samples that found an access, of [`SAMPLES`] a region, over all regions, and how many regions.
    accesses: u64,
    regions: u64,
    cpus: Snapshot,
}

impl Seen {
    fn flushes(&self) -> [u64; 3] {
        let cpus = &self.cpus;
        [cpus.invvpid_addr(), cpus.invvpid_context(), cpus.invept()]
    }
}

/// Lets DAMON watch the gigabyte for two aggregations and a half under a policy. Fails if it ages no
/// leaf, or if KVM made other leaves than one of 1 GiB.
fn watch(scene: &mut Scene, policy: Policy) -> Result<Seen> {
    scene.knobs.policy("clear_young", policy)?;
    sys::sleep_ms(TICKS_MS);
    let before = scene.stat("aged")?;
    let start = scene.vm.memory().hva(0);
    scene.machine.reset()?;
    let all = start..start + GIANT;
    let damon = Damon::start(
        Space::Virtual,
        from_ref(&all),
        SAMPLE_US,
        SAMPLES * SAMPLE_US,
    )?;
    sys::sleep_ms(SAMPLES * SAMPLE_US / 1000 * 5 / 2);
    let regions = damon.regions()?;
    drop(damon);
    sys::sleep_ms(TICKS_MS);
    let cpus = scene.machine.snapshot()?;
    let aged = scene.stat("aged")? - before;
    let seen = Seen {
        accesses: regions.iter().map(|region| region.accesses).sum(),
        regions: regions.len() as u64,
        cpus,
    };
    println!(
        "{} {}: {} accesses in {} regions, {aged} leaves aged, {:?} INVVPID by address, context, INVEPT",
        policy.flush,
        policy.uncovered,
        seen.accesses,
        seen.regions,
        seen.flushes()
    );
    ensure!(seen.regions > 0, "DAMON shows no regions");
    ensure!(aged > 0, "DAMON aged nothing");
    Ok(seen)
}

/// Fails if DAMON sees accesses although nothing was dropped; the other cells would show nothing then.
fn stale(scene: &mut Scene, policy: Policy) -> Result<()> {
    let seen = watch(scene, policy)?;
    ensure!(
        seen.accesses <= 2 * seen.regions,
        "{}: {} accesses in {} regions with nothing dropped",
        policy.flush,
        seen.accesses,
        seen.regions
    );
    Ok(())
}

/// Fails if DAMON misses accesses, or if `may` says 0 for a flush that was executed, or more for one
/// that was not (INVVPID of addresses, of contexts, INVEPT).
fn fresh(scene: &mut Scene, policy: Policy, may: [u64; 3]) -> Result<Seen> {
    let seen = watch(scene, policy)?;
    ensure!(
        seen.accesses >= 7 * seen.regions,
        "{}: only {} accesses in {} regions",
        policy.flush,
        seen.accesses,
        seen.regions
    );
    let executed = seen.flushes().map(|count| u64::from(count > 0));
    ensure!(executed == may, "{:?} flushes, not {may:?}", seen.flushes());
    Ok(seen)
}

/// KVM's own count of leaves of 1 GiB that this VM has.
fn giant_leaves() -> Result<u64> {
    sys::mount("debugfs", "/sys/kernel/debug", "kvm")?;
    let text = sys::read("/sys/kernel/debug/kvm/pages_1g")?;
    text.parse().context("pages_1g")
}

/// Fails if KVM doesn't map the gigabyte by one leaf; if its one gVA is not dropped, or anything else
/// is; if a guest that hides that its page has that size costs less than its context.
fn giant() -> Result<()> {
    let mut scene = prepare(GuestPage::Giant)?;
    let leaves = giant_leaves()?;
    ensure!(leaves == 1, "{leaves} EPT leaves of 1 GiB");
    scene.report(&[own_set(0, GuestPage::Giant, GuestPage::Giant)])?;
    fresh(&mut scene, HINT, [1, 0, 0])?;
    scene.report(&[own_set(0, GuestPage::Giant, GuestPage::Large)])?;
    fresh(&mut scene, HINT, [0, 1, 0])?;
    let uncovered = scene.stat("uncovered")?;
    ensure!(uncovered == 0, "{uncovered} leaves were uncovered");
    stale(&mut scene, Policy::new("none", "now"))
}

/// Fails if one set for the gigabyte, or one for each of its 512 pages, doesn't cover the leaf by a
/// flush of the context; if 511 do, go without an INVEPT, or are not counted; or if `uncovered` = `none`
/// drops anything for them.
fn large() -> Result<()> {
    let mut scene = prepare(GuestPage::Large)?;
    scene.report(&[own_set(0, GuestPage::Giant, GuestPage::Large)])?;
    fresh(&mut scene, HINT, [0, 1, 0])?;
    ensure!(scene.stat("uncovered")? == 0, "the leaf was uncovered");

    let set = |i| own_set(i * LARGE / PAGE, GuestPage::Large, GuestPage::Large);
    let sets: Vec<_> = (0..GIANT / LARGE).map(set).collect();
    scene.report(&sets)?;
    fresh(&mut scene, HINT, [0, 1, 0])?;
    ensure!(scene.stat("uncovered")? == 0, "the leaf was uncovered");

    let gone = Set::of_kind(511 * LARGE / PAGE, kind::REVOKED);
    scene.report(&[gone])?;
    fresh(&mut scene, HINT, [0, 0, 1])?;
    let by_reason = scene.stat("uncovered_large_leaf")?;
    let uncovered = scene.stat("uncovered")?;
    ensure!(
        by_reason > 0 && by_reason == uncovered,
        "{by_reason} large leaves of {uncovered} uncovered"
    );
    stale(&mut scene, HINT_ONLY)
}
