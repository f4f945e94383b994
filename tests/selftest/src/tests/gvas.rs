// SPDX-License-Identifier: GPL-2.0
//! A page under many gVAs, all of them in use: as many as a set holds, as many as a lookup holds, and
//! one more of each.

use super::Test;
use crate::scene::{need_profile, Scene, Setup};
use anyhow::{ensure, Context, Result};
use gvahint_vm::code::{After, Region};
use gvahint_vm::hints::{errno, kind, Linear, Set, LINEAR_KEPT};
use gvahint_vm::knobs::Policy;
use gvahint_vm::tables::GuestPage;
use gvahint_vm::{layout, PAGE};

pub const TESTS: &[Test] = &[
    Test::new(
        "gvas_in_set",
        "1 to 7 gVAs of a page, all or all but one reported",
        |_| in_set(),
    ),
    Test::new("gvas_too_many", "more gVAs than a set holds", |_| {
        too_many()
    }),
    Test::new(
        "gvas_with_linear",
        "a set and linear ranges, as many as a lookup holds and one more",
        |_| with_linear(),
    ),
];

const HINT: Policy = Policy::new("hint", "deferred");
/// Pages besides the one with many gVAs: page 0.
const OTHERS: u64 = 31;
/// gVAs of a set, as HELLO must say.
const SET_GVAS: u64 = 7;
/// gVAs that a lookup returns at most.
const LOOKUP_GVAS: u64 = 16;

const fn alias(j: u64) -> u64 {
    layout::ALIAS + j * PAGE
}

/// A vCPU that stands outside the guest and reads page 0 under `gvas` gVAs, the others under one each.
fn gated(gvas: u64) -> Result<Scene> {
    let mut setup = Setup::quiet(1 + OTHERS).with(After::Out);
    setup.first = Region {
        gva: layout::USER + PAGE,
        pages: OTHERS,
    };
    setup.second = Region {
        gva: alias(0),
        pages: gvas,
    };
    let mut scene = Scene::prepare(setup)?;
    need_profile(&scene.machine, &["combined-only"])?;
    for j in 0..gvas {
        scene.vm.map(alias(j), 0, 1, GuestPage::Small)?;
    }
    scene.hello()?;
    scene.knobs.policy("clear_young", HINT)?;
    scene.knobs.set("max_delay_ms", 0)?;
    scene.start_held()?;
    Ok(scene)
}

/// The set of page 0 with the first `count` of its gVAs.
fn set_of(count: u64) -> Set {
    let gvas: Vec<_> = (0..count).map(alias).collect();
    Set::mapped(layout::data(0) / PAGE, &gvas)
}

/// Ages page 0 and runs a sweep: INVVPIDs of an address, INVEPTs, TLB misses. Fails if it is idle then.
fn sweep(scene: &Scene) -> Result<(u64, u64, u64)> {
    scene.vcpus[0].step(2)?;
    scene.idle.mark(&scene.pfns[..1])?;
    let seen = scene.step()?;
    let idle = scene.idle.count(&scene.pfns[..1])?;
    ensure!(idle == 0, "the page is falsely idle");
    Ok((seen.invvpid_addr(), seen.invept(), seen.tlb_misses()))
}

/// Fails if not each reported gVA is dropped, exactly those, once (a gVA that was left out doesn't
/// miss), or if it costs an INVEPT.
fn in_set() -> Result<()> {
    for gvas in 1..=SET_GVAS {
        let mut scene = gated(gvas)?;
        for reported in [gvas, gvas - 1].into_iter().filter(|count| *count > 0) {
            scene.report(&[set_of(reported)])?;
            let seen = sweep(&scene)?;
            let due = (reported, 0, reported);
            ensure!(
                seen == due,
                "{reported} of {gvas} reported: {seen:?} INVVPID, INVEPT, TLB misses; not {due:?}"
            );
        }
        let uncovered = scene.stat("uncovered")?;
        ensure!(uncovered == 0, "uncovered {uncovered} times");
    }
    Ok(())
}

/// Fails if a set with one gVA too many is taken, or part of it; if a page of which the guest says just
/// that, or that it can't tell its gVAs, takes other than one flush of the context; or if the page's
/// ages are wrong meanwhile.
fn too_many() -> Result<()> {
    let mut scene = gated(SET_GVAS + 1)?;
    let reporter = scene.reporter.as_mut().context("a session")?;
    let memory = scene.vm.memory();
    let hello = reporter.hello(memory)?;
    let max = hello.map(|hello| u64::from(hello.max_gvas));
    ensure!(max == Ok(SET_GVAS), "a set holds {max:?} gVAs");
    ensure!(reporter.linear(memory, &[])? == 0, "LINEAR failed");
    let answer = reporter.report(memory, &[set_of(SET_GVAS + 1)])?;
    ensure!(answer == errno::E2BIG, "REPORT answered {answer}");
    let hints = scene.stat("hints")?;
    ensure!(hints == 0, "{hints} hints after a set that was refused");

    for kind in [kind::TOO_MANY, kind::ANYWHERE] {
        scene.report(&[Set::of_kind(layout::data(0) / PAGE, kind)])?;
        by_context(&scene)?;
    }
    Ok(())
}

/// Ages page 0. Fails if other than one flush of the context is seen, or counted for each notifier call.
fn by_context(scene: &Scene) -> Result<()> {
    let counted = || -> Result<_> {
        let stats = ["uncovered", "covered_context", "appended_context"];
        let counts: Result<Vec<_>> = stats.into_iter().map(|name| scene.stat(name)).collect();
        counts
    };
    let before = counted()?;
    let (addr, invept, _) = sweep(scene)?;
    ensure!((addr, invept) == (0, 0), "{addr} INVVPID, {invept} INVEPT");
    let rose: Vec<_> = counted()?
        .iter()
        .zip(before)
        .map(|(now, then)| now - then)
        .collect();
    // The look aged it once more.
    ensure!(rose == [0, 2, 2], "uncovered, covered, appended: {rose:?}");
    Ok(())
}

/// Fails if the gVAs of a set and those of overlapping linear ranges are not dropped together, each
/// once, up to the limit of a lookup; or if with one more the page takes other than the context.
fn with_linear() -> Result<()> {
    let ranges_at_limit = LOOKUP_GVAS - SET_GVAS;
    for ranges in [1, ranges_at_limit, ranges_at_limit + 1] {
        let gvas = SET_GVAS + ranges;
        let mut scene = gated(gvas)?;
        scene.knobs.set("linear_alias", "always")?;
        let range = |j| Linear {
            gpa: layout::data(0),
            gva: alias(j),
            len: PAGE,
            page_size: PAGE,
        };
        let list: Vec<_> = (SET_GVAS..gvas).map(range).collect();
        let reporter = scene.reporter.as_mut().context("a session")?;
        let answer = reporter.linear(scene.vm.memory(), &list)?;
        ensure!(answer == LINEAR_KEPT, "LINEAR answered {answer}");
        scene.report(&[set_of(SET_GVAS)])?;
        if gvas > LOOKUP_GVAS {
            by_context(&scene)?;
            continue;
        }
        let (addr, invept, misses) = sweep(&scene)?;
        ensure!(
            (addr, invept, misses) == (gvas, 0, gvas),
            "{gvas} gVAs: {addr} INVVPID, {invept} INVEPT, {misses} TLB misses"
        );
    }
    Ok(())
}
