// SPDX-License-Identifier: GPL-2.0
//! Guests whose memory the host backs with huge pages: what stands in the way of them, how they are
//! aged, and what one round of ageing did, in counts.

use crate::scene::{Scene, Setup};
use crate::tap::skip;
use anyhow::{ensure, Result};
use gvahint_vm::code::{After, Region};
use gvahint_vm::hints::{kind, Set};
use gvahint_vm::knobs::Knobs;
use gvahint_vm::memory::Backing;
use gvahint_vm::tables::GuestPage;
use gvahint_vm::{layout, LARGE, PAGE};

/// Small pages of a large one.
pub const PIECES: u64 = LARGE / PAGE;

/// A guest that exits at every sweep and reads `pages` pages of transparent huge pages.
pub fn setup(pages: u64, guest_page: GuestPage) -> Setup {
    let mut setup = Setup::quiet(pages).with(After::Out);
    setup.config.backing = Backing::Huge;
    setup.config.guest_page = guest_page;
    // Page 0 of the data is no multiple of 1 GiB: there is nowhere else to map it.
    setup.config.identity = guest_page == GuestPage::Giant;
    let gva = setup.config.gva(0);
    setup.first = Region { gva, pages };
    setup
}

/// Makes such a scene; skips if the kernel has no huge pages to give.
pub fn prepare(setup: Setup) -> Result<Scene> {
    // The kernel switches them off by itself on a machine with little memory.
    let mut knobs = Knobs::new();
    knobs.set_file("/sys/kernel/mm/transparent_hugepage/enabled", "madvise")?;
    let scene = Scene::prepare(setup)?;
    let huge =
        |run: &[u64]| run[0].is_multiple_of(PIECES) && run[run.len() - 1] - run[0] + 1 == PIECES;
    if !scene.pfns.chunks_exact(PIECES as usize).all(huge) {
        skip!("the kernel gave no huge pages");
    }
    Ok(scene)
}

/// First frames of the data's huge pages: by these page_idle asks for all of them.
pub fn heads(scene: &Scene) -> Vec<u64> {
    scene
        .pfns
        .iter()
        .copied()
        .step_by(PIECES as usize)
        .collect()
}

/// One set for 2 MiB from data page `i` on, reached at `gva` by pages of a size.
pub fn large_set(i: u64, gva: u64, page: GuestPage) -> Set {
    Set::new(
        layout::data(i) / PAGE,
        GuestPage::Large.order(),
        kind::MAPPED,
        1,
        &[gva | page.order()],
    )
}

/// What the CPUs and KVM did in a sweep after ageing, and what was found then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// INVVPID of an address.
    pub addr: u64,
    /// INVVPID of a context.
    pub context: u64,
    /// INVEPT.
    pub invept: u64,
    /// EPT leaves whose accessed bit came back, of those that were aged.
    pub accessed: u64,
    /// Frames that are still idle.
    pub idle: u64,
}

/// Marks frames idle, lets the vCPU run one sweep and asks for the frames. Fails if other than
/// `aged` leaves lost their accessed bits.
pub fn round(scene: &Scene, pfns: &[u64], aged: u64) -> Result<Seen> {
    let before = scene.stat("aged")?;
    scene.idle.mark(pfns)?;
    let lost = scene.stat("aged")? - before;
    ensure!(lost == aged, "{lost} leaves were aged, not {aged}");
    let seen = scene.step()?;
    let idle = scene.idle.count(pfns)?;
    // The look itself aged them once more.
    scene.vcpus[0].step(1)?;
    Ok(Seen {
        addr: seen.invvpid_addr(),
        context: seen.invvpid_context(),
        invept: seen.invept(),
        accessed: seen.accessed(),
        idle,
    })
}
