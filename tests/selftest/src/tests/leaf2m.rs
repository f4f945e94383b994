// SPDX-License-Identifier: GPL-2.0
//! EPT leaves of 2 MiB (transparent huge pages on the host) under guests that map them by pages of
//! 4 KiB, 2 MiB and 1 GiB: what is dropped, and that the leaf's accessed bit comes back.

use super::Test;
use crate::large::{heads, large_set, prepare, round, setup, Seen, PIECES};
use crate::scene::{need_profile, Scene};
use anyhow::{ensure, Result};
use gvahint_vm::code::Region;
use gvahint_vm::hints::{kind, Set};
use gvahint_vm::knobs::Policy;
use gvahint_vm::tables::GuestPage;
use gvahint_vm::{layout, PAGE};

pub const TESTS: &[Test] = &[
    Test::new(
        "leaf2m_small",
        "2 MiB EPT leaves, a guest with 4 KiB pages, in order and scattered",
        |_| small(),
    ),
    Test::new(
        "leaf2m_partly",
        "2 MiB EPT leaves, all pages hinted but one",
        |_| partly(),
    ),
    Test::new(
        "leaf2m_page_table",
        "2 MiB EPT leaves with page tables, within the quota and beyond",
        |_| page_table(),
    ),
    Test::new(
        "leaf2m_anywhere",
        "2 MiB EPT leaves with pages whose gVAs are not listed",
        |_| anywhere(),
    ),
    Test::new(
        "leaf2m_large",
        "2 MiB EPT leaves, a guest with 2 MiB and with 1 GiB pages",
        |_| large(),
    ),
    Test::new(
        "leaf2m_linear",
        "2 MiB EPT leaves that a linear range of the guest reaches as well",
        |_| linear(),
    ),
];

const HINT: Policy = Policy::new("hint", "deferred");
const HINT_ONLY: Policy = Policy {
    uncovered: "none",
    ..HINT
};
/// Two huge pages.
const PAGES: u64 = 2 * PIECES;

/// What covers both huge pages by a flush of the context, and that it suffices.
const BY_CONTEXT: Seen = Seen {
    addr: 0,
    context: 1,
    invept: 0,
    accessed: 2,
    idle: 0,
};
/// One gVA each.
const BY_ADDRESS: Seen = Seen {
    addr: 2,
    context: 0,
    ..BY_CONTEXT
};

/// A vCPU that stands outside the guest, whose pages are not hinted yet.
fn gated(page: GuestPage, scattered: bool) -> Result<Scene> {
    gated_of(PAGES, page, scattered)
}

/// The same with so many pages of data.
fn gated_of(pages: u64, page: GuestPage, scattered: bool) -> Result<Scene> {
    let mut setup = setup(pages, page);
    if scattered {
        setup.first.gva = layout::ALIAS;
    }
    let mut scene = prepare(setup)?;
    need_profile(&scene.machine, &["combined-only"])?;
    if scattered {
        for i in 0..PAGES {
            let gva = scattered_gva(i);
            scene.vm.map(gva, i, 1, GuestPage::Small)?;
        }
    }
    scene.hello()?;
    scene.knobs.policy("clear_young", HINT)?;
    scene.knobs.set("max_delay_ms", 0)?;
    scene.start_held()?;
    Ok(scene)
}

/// No two neighbours are neighbours there.
fn scattered_gva(i: u64) -> u64 {
    let (run, at) = (i / PIECES, i % PIECES);
    layout::ALIAS + (run * PIECES + at * 37 % PIECES) * PAGE
}

/// Reports the sets, and lets the vCPU drop what is pending.
fn report(scene: &mut Scene, sets: &[Set]) -> Result<()> {
    scene.report(sets)?;
    scene.vcpus[0].step(1)
}

/// Ages both huge pages. Fails unless exactly `due` is seen, or if there is other than one CONTEXT
/// entry for each notifier call, which page_idle makes for each huge page, where contexts are dropped.
fn expect(scene: &Scene, what: &str, due: Seen) -> Result<()> {
    let before = scene.stat("appended_context")?;
    let seen = round(scene, &heads(scene), 2)?;
    ensure!(seen == due, "{what}: {seen:?}, not {due:?}");
    // The look is another two calls.
    let appended = scene.stat("appended_context")? - before;
    ensure!(
        appended == 4 * due.context,
        "{what}: {appended} CONTEXT entries"
    );
    Ok(())
}

/// Fails if a leaf whose 512 small pages are all hinted (by one set as neighbours, or each by a set of
/// its own, scattered or not) is uncovered, is dropped by anything but one flush of the context, or is
/// falsely idle after that.
fn small() -> Result<()> {
    for scattered in [false, true] {
        let mut scene = gated(GuestPage::Small, scattered)?;
        let gva = match scattered {
            false => |i| layout::USER + i * PAGE,
            true => scattered_gva,
        };
        let own = |i| Set::mapped(layout::data(i) / PAGE, &[gva(i)]);
        let own: Vec<_> = (0..PAGES).map(own).collect();
        report(&mut scene, &own)?;
        expect(&scene, "a set for each page", BY_CONTEXT)?;
        if !scattered {
            let run = |i| large_set(i, gva(i), GuestPage::Small);
            report(&mut scene, &[0, PIECES].map(run))?;
            expect(&scene, "one set for 512 pages", BY_CONTEXT)?;
        }
        let uncovered = scene.stat("uncovered")?;
        ensure!(uncovered == 0, "{uncovered} leaves were uncovered");
    }
    Ok(())
}

/// Fails if one page without a hint among 512 doesn't uncover the leaf (its translation could be the
/// one in use), if the reason isn't counted, if no INVEPT follows, or if the other leaf suffers.
fn partly() -> Result<()> {
    let mut scene = gated(GuestPage::Small, false)?;
    let heads = heads(&scene);
    let missing = PIECES + 77;
    for kind in [None, Some(kind::PAGE_TABLE)] {
        scene.knobs.policy("clear_young", HINT)?;
        let set = |i| Set::mapped(layout::data(i) / PAGE, &[layout::USER + i * PAGE]);
        let mut sets: Vec<_> = (0..PAGES).map(set).collect();
        let gone = kind.unwrap_or(kind::REVOKED);
        sets.push(Set::of_kind(layout::data(missing) / PAGE, gone));
        report(&mut scene, &sets)?;
        let before = scene.stat("uncovered_large_leaf")?;
        let due = Seen {
            context: 0,
            invept: 1,
            ..BY_CONTEXT
        };
        let seen = round(&scene, &heads, 2)?;
        ensure!(seen == due, "kind {gone}: {seen:?}, not {due:?}");
        // The look aged both leaves again.
        let more = scene.stat("uncovered_large_leaf")? - before;
        ensure!(more == 2, "kind {gone}: {more} leaves of 4 were uncovered");

        scene.knobs.policy("clear_young", HINT_ONLY)?;
        scene.vcpus[0].step(1)?;
        let first = round(&scene, &heads[..1], 1)?;
        let second = round(&scene, &heads[1..], 1)?;
        let due = [(1, 1, 0), (0, 0, 1)];
        let seen = [first, second].map(|seen| (seen.context, seen.accessed, seen.idle));
        ensure!(
            seen == due,
            "kind {gone}, uncovered=none: {seen:?} contexts, bits, idle; not {due:?}"
        );
        // What stayed stale must not stay so for the next kind.
        scene.vm.toggle_dirty_log()?;
        scene.vcpus[0].step(2)?;
    }
    Ok(())
}

/// Fails if a leaf with a page table isn't left young while the quota has room for it (one leaf, in a VM
/// of 64 MiB), if it is left so after the page became something else, if a leaf beyond the quota is
/// taken for covered, or if the place of a leaf that was kept a moment ago goes to another.
fn page_table() -> Result<()> {
    // One leaf in 32 may be kept: one of these.
    let mut scene = gated_of(12 << 10, GuestPage::Small, false)?;
    let heads = &heads(&scene)[..2];
    let of = |kind, i, order| Set::new(layout::data(i) / PAGE, order, kind, 0, &[]);
    let anywhere = [0, PIECES].map(|i| of(kind::ANYWHERE, i, 9));
    let tables = [77, PIECES + 511].map(|i| of(kind::PAGE_TABLE, i, 0));
    report(&mut scene, &anywhere)?;
    report(&mut scene, &tables)?;
    let beyond = Seen {
        context: 0,
        invept: 1,
        accessed: 1,
        ..BY_CONTEXT
    };
    let unflushed = Seen {
        invept: 0,
        accessed: 0,
        idle: 1,
        ..beyond
    };
    for (policy, due) in [(HINT, beyond), (HINT_ONLY, unflushed)] {
        scene.knobs.policy("clear_young", policy)?;
        scene.vcpus[0].step(1)?;
        let before = scene.stat("kept")?;
        let seen = round(&scene, heads, 1)?;
        ensure!(seen == due, "{}: {seen:?}, not {due:?}", policy.uncovered);
        // When they were marked, and when they were looked at.
        let kept = scene.stat("kept")? - before;
        ensure!(kept == 2, "{}: {kept} times kept", policy.uncovered);
    }
    scene.knobs.policy("clear_young", HINT)?;
    scene.vm.toggle_dirty_log()?;
    report(&mut scene, &anywhere[..1])?;
    scene.vcpus[0].step(1)?;
    let seen = round(&scene, heads, 2)?;
    let due = Seen {
        accessed: 2,
        ..beyond
    };
    ensure!(seen == due, "no page table any more: {seen:?}, not {due:?}");
    Ok(())
}

/// Fails if pages of which the guest can't tell the gVAs (one, most, all, in sets of any size) make a
/// leaf uncovered, cost more than one flush of the context, or leave the leaf falsely idle.
fn anywhere() -> Result<()> {
    let mut scene = gated(GuestPage::Small, false)?;
    let mapped = |i| Set::mapped(layout::data(i) / PAGE, &[layout::USER + i * PAGE]);
    let of = |kind, i, order| Set::new(layout::data(i) / PAGE, order, kind, 0, &[]);
    report(&mut scene, &(0..PAGES).map(mapped).collect::<Vec<_>>())?;
    for kind in [kind::ANYWHERE, kind::TOO_MANY] {
        for sets in [
            vec![of(kind, 77, 0), of(kind, PIECES, 0)],
            vec![of(kind, 0, 8), of(kind, PIECES + 256, 8)],
            vec![of(kind, 0, 10)],
            vec![of(kind, 0, 9), mapped(5), mapped(PIECES + 511)],
        ] {
            report(&mut scene, &sets)?;
            expect(
                &scene,
                &format!("kind {kind}, {} sets", sets.len()),
                BY_CONTEXT,
            )?;
        }
    }
    let uncovered = scene.stat("uncovered")?;
    ensure!(uncovered == 0, "{uncovered} leaves were uncovered");
    Ok(())
}

/// TLB misses of a sweep after one of the two leaves was aged.
fn misses_of_one(scene: &Scene) -> Result<u64> {
    scene.idle.mark(&heads(scene)[..1])?;
    Ok(scene.step()?.tlb_misses())
}

/// Fails if a leaf that the guest maps by one page (of its size or larger) needs more than one INVVPID
/// of an address, or if that takes along what is not in the guest's page; if it is dropped by the context although the guest said that size; or if it isn't
/// when it said less: that is what the size in a report saves.
fn large() -> Result<()> {
    for page in [GuestPage::Large, GuestPage::Giant] {
        let mut scene = gated(page, false)?;
        let gva = |i| scene.setup.config.gva(i);
        let gvas = [0, PIECES].map(|i| (i, gva(i)));
        let said = |page| gvas.map(|(i, gva)| large_set(i, gva, page));
        report(&mut scene, &said(page))?;
        expect(&scene, "mapped by one page", BY_ADDRESS)?;
        let misses = misses_of_one(&scene)?;
        // One INVVPID takes the whole of the guest's page along.
        let due = if page == GuestPage::Large {
            PIECES
        } else {
            PAGES
        };
        ensure!(
            (due..due + 8).contains(&misses),
            "{page:?}: {misses} TLB misses for a leaf dropped by its address"
        );
        report(&mut scene, &said(GuestPage::Small))?;
        expect(&scene, "said to be mapped by 4 KiB pages", BY_CONTEXT)?;
        let misses = misses_of_one(&scene)?;
        ensure!(misses >= PAGES, "{misses} TLB misses of a whole context");
        let uncovered = scene.stat("uncovered")?;
        ensure!(uncovered == 0, "{uncovered} leaves were uncovered");
    }
    Ok(())
}

/// Fails if the direct map's page size doesn't decide: one that maps the leaf whole (`always`) costs
/// one more address, one of 4 KiB pages the context. The guest reads the huge pages through the direct
/// map only, so that a drop of their user gVAs alone would leave them falsely idle.
fn linear() -> Result<()> {
    let base = layout::LINEAR + layout::DATA;
    for (page, due) in [
        (
            GuestPage::Large,
            Seen {
                addr: 4,
                ..BY_ADDRESS
            },
        ),
        (GuestPage::Small, BY_CONTEXT),
    ] {
        let mut setup = setup(PAGES, GuestPage::Large);
        setup.first = Region {
            gva: base,
            pages: PAGES,
        };
        let mut scene = prepare(setup)?;
        need_profile(&scene.machine, &["combined-only"])?;
        scene.vm.map(base, 0, PAGES, page)?;
        scene.hello()?;
        scene.knobs.set("linear_alias", "always")?;
        scene.knobs.set("max_delay_ms", 0)?;
        scene.knobs.policy("clear_young", HINT)?;
        scene.linear(layout::DATA, base, PAGES * PAGE, page)?;
        let gva = |i| layout::USER + i * PAGE;
        let sets = [0, PIECES].map(|i| large_set(i, gva(i), GuestPage::Large));
        scene.report(&sets)?;
        scene.start_held()?;
        expect(&scene, "through a linear range", due)?;
    }
    Ok(())
}
