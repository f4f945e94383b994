// SPDX-License-Identifier: GPL-2.0
//! Pages that can be reached under several gVAs.

use super::Test;
use crate::scene::{need_profile, user_set, Scene, Setup, TICKS_MS};
use anyhow::{ensure, Result};
use gvahint_vm::code::Region;
use gvahint_vm::hints::{kind, Set};
use gvahint_vm::knobs::Policy;
use gvahint_vm::tables::GuestPage;
use gvahint_vm::{layout, PAGE};

pub const TESTS: &[Test] = &[
    Test::new(
        "alias_reported",
        "two gVAs of a page, both reported",
        |_| two_gvas(true),
    ),
    Test::new(
        "alias_hidden",
        "two gVAs of a page, the one in use hidden",
        |_| two_gvas(false),
    ),
    Test::new(
        "alias_linear",
        "a page reached through a linear range",
        |_| linear(),
    ),
    Test::new(
        "alias_order",
        "a 2 MiB set and a gVA of a 2 MiB mapping",
        |_| orders(),
    ),
];

const PAGES: u64 = 256;
const HINT: Policy = Policy::new("hint", "deferred");

/// Page 0 has a second gVA and is reached under that only, all others under their first.
fn aliased(gva: u64) -> Result<Scene> {
    let mut setup = Setup::quiet(PAGES);
    setup.first = Region {
        gva: layout::USER + PAGE,
        pages: PAGES - 1,
    };
    setup.second = Region { gva, pages: 1 };
    let mut scene = Scene::prepare(setup)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.vm.map(gva, 0, 1, GuestPage::Small)?;
    scene.hello()?;
    scene.knobs.policy("clear_young", HINT)?;
    scene.knobs.set("max_delay_ms", 0)?;
    Ok(scene)
}

/// Fails if the second gVA of a complete set isn't dropped; or, with it hidden, if the page is
/// found touched (something flushed more than the hints say) or another page is falsely idle.
fn two_gvas(both: bool) -> Result<()> {
    let mut scene = aliased(layout::ALIAS)?;
    let mut sets: Vec<_> = (0..PAGES).map(user_set).collect();
    if both {
        sets[0] = Set::mapped(layout::data(0) / PAGE, &[layout::USER, layout::ALIAS]);
    }
    scene.report(&sets)?;
    scene.start()?;
    scene.idle.mark(&scene.pfns)?;
    gvahint_vm::sys::sleep_ms(TICKS_MS);
    scene.warm(1)?;
    let idle = scene.idle.idle(&scene.pfns)?;
    ensure!(
        idle[0] != both,
        "page 0 is {}idle",
        if idle[0] { "" } else { "not " }
    );
    let others = idle[1..].iter().filter(|idle| **idle).count();
    ensure!(others == 0, "{others} pages with one gVA are falsely idle");
    ensure!(
        scene.stat("uncovered")? == 0,
        "reported pages count as uncovered"
    );
    Ok(())
}

/// Fails if a page without a gVA of its own isn't dropped under its linear address (`auto`), if one
/// with a gVA is (then `auto` would cost what `always` does), or if `always` doesn't drop both.
fn linear() -> Result<()> {
    let gva = layout::LINEAR + layout::DATA;
    for (alias, kernel_only, fresh) in [
        ("auto", true, true),
        ("auto", false, false),
        ("always", false, true),
    ] {
        let mut scene = aliased(gva)?;
        scene.knobs.set("linear_alias", alias)?;
        scene.linear(layout::DATA, gva, PAGES * PAGE, GuestPage::Small)?;
        let mut sets: Vec<_> = (0..PAGES).map(user_set).collect();
        if kernel_only {
            sets[0] = Set::of_kind(layout::data(0) / PAGE, kind::KERNEL_ONLY);
        }
        scene.report(&sets)?;
        scene.start()?;
        let idle = scene.full_round()?;
        ensure!(
            idle == u64::from(!fresh),
            "linear_alias={alias}, kernel only: {kernel_only}: {idle} pages idle"
        );
    }
    Ok(())
}

/// Fails if 4 KiB pieces of a 2 MiB guest mapping aren't dropped by their own addresses.
fn orders() -> Result<()> {
    let pages = 1024;
    let mut setup = Setup::quiet(pages);
    setup.config.guest_page = GuestPage::Large;
    let mut scene = Scene::prepare(setup)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.hello()?;
    let set = |i| Set::mapped(layout::data(i) / PAGE, &[(layout::USER + i * PAGE) | 9]);
    let sets: Vec<_> = (0..pages).map(set).collect();
    scene.report(&sets)?;
    scene.knobs.policy("clear_young", HINT)?;
    scene.start()?;
    let idle = scene.full_round()?;
    ensure!(
        idle == 0,
        "{idle} pages in 2 MiB guest mappings are falsely idle"
    );
    ensure!(
        scene.stat("uncovered")? == 0,
        "reported pages count as uncovered"
    );
    Ok(())
}
