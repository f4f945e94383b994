// SPDX-License-Identifier: GPL-2.0
//! EPT leaves of 4 KiB under guests that map them by larger pages. One INVVPID takes along what the
//! CPU cached of a guest's page, so that one a page and notifier call is enough.
//!
//! page_idle asks for a transparent huge page by one notifier call, while KVM maps it by 512 leaves:
//! because its dirty log is on, or because the memslot is not aligned as the host's memory is.

use super::Test;
use crate::large::{heads, large_set, prepare, round, setup, Seen, PIECES};
use crate::scene::{need_profile, vcpu_cpu, Scene, Setup};
use anyhow::{ensure, Result};
use gvahint_vm::code::Region;
use gvahint_vm::hints::{kind, Set};
use gvahint_vm::knobs::Policy;
use gvahint_vm::tables::GuestPage;
use gvahint_vm::{layout, PAGE};

pub const TESTS: &[Test] = &[
    Test::new(
        "leaf4k_once",
        "4 KiB EPT leaves, guest pages of each size: INVVPIDs for one notifier call",
        |_| once(),
    ),
    Test::new(
        "leaf4k_two_pages",
        "one notifier call for halves of two guest pages",
        |_| two_pages(),
    ),
    Test::new(
        "leaf4k_one_piece",
        "a guest that reads one 4 KiB piece of its large page",
        |_| one_piece(),
    ),
];

const HINT: Policy = Policy::new("hint", "deferred");

fn gated(setup: Setup, map: impl Fn(&mut Scene) -> Result<()>) -> Result<Scene> {
    let mut scene = prepare(setup)?;
    need_profile(&scene.machine, &["combined-only"])?;
    map(&mut scene)?;
    scene.hello()?;
    scene.knobs.policy("clear_young", HINT)?;
    scene.knobs.set("max_delay_ms", 0)?;
    scene.knobs.set("max_gvas_per_entry", 4096)?;
    Ok(scene)
}

/// Fails if a guest's large page needs more than one entry a notifier call, if a small one needs other
/// than one each, or if any of the 1,024 leaves' accessed bits doesn't come back after that.
fn once() -> Result<()> {
    let pages = 2 * PIECES;
    for (page, entries) in [
        (GuestPage::Small, pages),
        (GuestPage::Large, 2),
        (GuestPage::Giant, 2),
    ] {
        let mut setup = setup(pages, page);
        setup.config.small_leaves = true;
        let mut scene = gated(setup, |_| Ok(()))?;
        let gva = |i| scene.setup.config.gva(i);
        let sets: Vec<_> = match page {
            GuestPage::Small => (0..pages).map(crate::scene::user_set).collect(),
            _ => [0, PIECES].map(|i| large_set(i, gva(i), page)).into(),
        };
        scene.report(&sets)?;
        scene.start_held()?;
        let before = (scene.stat("appended_gva")?, scene.stat("uncovered")?);
        let seen = round(&scene, &heads(&scene), pages)?;
        let due = Seen {
            addr: entries,
            context: 0,
            invept: 0,
            accessed: pages,
            idle: 0,
        };
        ensure!(seen == due, "{page:?}: {seen:?}, not {due:?}");
        let after = (scene.stat("appended_gva")?, scene.stat("uncovered")?);
        // The look is as much once more.
        let due = (before.0 + 2 * entries, before.1);
        ensure!(
            after == due,
            "{page:?}: {after:?} entries, uncovered; not {due:?}"
        );
    }
    Ok(())
}

/// Fails if the leaves of one call that belong to two guest pages need other than two entries, or if
/// an accessed bit of either page's half doesn't come back.
fn two_pages() -> Result<()> {
    // The window's guest pages begin in the middle of the host's first and second huge page.
    let (half, shown) = (PIECES / 2, 2 * PIECES);
    let mut setup = setup(3 * PIECES, GuestPage::Large);
    setup.first = Region {
        gva: layout::ALIAS,
        pages: shown,
    };
    let mut scene = gated(setup, |scene| {
        scene.vm.show(half, shown)?;
        let (window, len) = (scene.vm.window(), shown * PAGE);
        scene
            .vm
            .map_gpa(layout::ALIAS, window, len, GuestPage::Large)
    })?;
    let set = |i: u64| {
        let gfn = scene.vm.window() / PAGE + i;
        let gva = layout::ALIAS + i * PAGE;
        let order = GuestPage::Large.order();
        Set::new(gfn, order, kind::MAPPED, 1, &[gva | order])
    };
    let sets = [0, PIECES].map(set);
    scene.report(&sets)?;
    scene.start_held()?;
    let heads = heads(&scene);
    for (huge, aged, entries) in [(0, half, 1), (1, PIECES, 2), (2, half, 1)] {
        let seen = round(&scene, &heads[huge..=huge], aged)?;
        let due = Seen {
            addr: entries,
            context: 0,
            invept: 0,
            accessed: aged,
            idle: 0,
        };
        ensure!(seen == due, "huge page {huge}: {seen:?}, not {due:?}");
    }
    Ok(())
}

/// Fails if the piece in use is falsely idle because the one entry for its guest page names another
/// piece, or if any other piece's accessed bit comes back, which the guest doesn't touch any more.
fn one_piece() -> Result<()> {
    for page in [GuestPage::Large, GuestPage::Giant] {
        for used in [0, 200, PIECES - 1] {
            let mut setup = setup(PIECES, page);
            setup.config.small_leaves = true;
            let all = setup.sweep();
            setup.first = Region {
                gva: setup.config.gva(used),
                pages: 1,
            };
            let mut scene = gated(setup, |_| Ok(()))?;
            let gva = scene.setup.config.gva(0);
            scene.report(&[large_set(0, gva, page)])?;
            scene.start_held()?;
            // Another vCPU touches all pieces, and then stands still.
            scene.add_held(&all, vcpu_cpu(0))?;
            let seen = round(&scene, &heads(&scene), PIECES)?;
            let due = Seen {
                addr: 1,
                context: 0,
                invept: 0,
                accessed: 1,
                idle: 0,
            };
            ensure!(seen == due, "{page:?}, piece {used}: {seen:?}, not {due:?}");
        }
    }
    Ok(())
}
