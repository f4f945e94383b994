// SPDX-License-Identifier: GPL-2.0
//! Hints that go: one page of many, a range with its memslot, all of them with a reset.

use super::Test;
use crate::large::{large_set, PIECES};
use crate::scene::{need_profile, user_set, Scene, Setup};
use anyhow::{ensure, Result};
use gvahint_vm::code::{After, Region};
use gvahint_vm::hints::{kind, Set};
use gvahint_vm::knobs::Policy;
use gvahint_vm::tables::GuestPage;
use gvahint_vm::{layout, PAGE};

pub const TESTS: &[Test] = &[
    Test::new(
        "revoked_page",
        "one page of many that are hinted one by one",
        |_| page(),
    ),
    Test::new("revoked_in_run", "one page of a set for 512", |_| in_run()),
    Test::new("revoked_reset", "a guest that says HELLO again", |_| {
        reset()
    }),
    Test::new(
        "revoked_memslot",
        "a set for 512 pages whose memslot goes and comes back",
        |_| memslot(),
    ),
];

const HINT_ONLY: Policy = Policy {
    uncovered: "none",
    ..Policy::new("hint", "deferred")
};
/// Two runs.
const PAGES: u64 = 2 * PIECES;
const VICTIM: u64 = PIECES + 37;

/// A vCPU that stands outside the guest and reads all pages; a session without hints.
fn gated(setup: Setup) -> Result<Scene> {
    let mut scene = Scene::prepare(setup)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.hello()?;
    scene.knobs.policy("clear_young", HINT_ONLY)?;
    scene.knobs.set("max_delay_ms", 0)?;
    scene.knobs.set("max_gvas_per_entry", 4096)?;
    Ok(scene)
}

fn setup() -> Setup {
    Setup::quiet(PAGES).with(After::Out)
}

/// The set for a run of small pages.
fn run_set(run: u64) -> Set {
    let gva = layout::USER + run * PIECES * PAGE;
    large_set(run * PIECES, gva, GuestPage::Small)
}

fn revocation(i: u64) -> Set {
    Set::of_kind(layout::data(i) / PAGE, kind::REVOKED)
}

/// Ages everything and fails unless exactly the pages in `covered` are dropped and found touched, and
/// the others counted as without a hint.
fn check(scene: &Scene, what: &str, covered: impl Fn(u64) -> bool) -> Result<()> {
    // What was not dropped before is dropped now, so that every page is walked again.
    scene.vm.toggle_dirty_log()?;
    scene.vcpus[0].step(2)?;
    let before = scene.stat("uncovered_no_hint")?;
    scene.idle.mark(&scene.pfns)?;
    let uncovered = scene.stat("uncovered_no_hint")? - before;
    let seen = scene.step()?;
    let idle = scene.idle.idle(&scene.pfns)?;
    let wrong = (0..).zip(&idle).find(|(i, idle)| covered(*i) == **idle);
    ensure!(wrong.is_none(), "{what}: page and whether idle: {wrong:?}");
    let due = (0..PAGES).filter(|i| covered(*i)).count() as u64;
    let flushes = (seen.invvpid_addr(), seen.invvpid_context(), seen.invept());
    ensure!(
        flushes == (due, 0, 0) && uncovered == PAGES - due,
        "{what}: {flushes:?} by address, context, INVEPT, {uncovered} uncovered; {due} are covered"
    );
    let hints = scene.stat("hints")?;
    ensure!(hints >= due, "{what}: {hints} hints, {due} are covered");
    Ok(())
}

/// Fails if a page is still covered once it was revoked, if another one isn't any more, or if a REPORT
/// doesn't cover it again.
fn page() -> Result<()> {
    let mut scene = gated(setup())?;
    let sets: Vec<_> = (0..PAGES).map(user_set).collect();
    scene.report(&sets)?;
    scene.start_held()?;
    check(&scene, "all reported", |_| true)?;
    scene.report(&[revocation(VICTIM)])?;
    let hints = scene.stat("hints")?;
    ensure!(hints == PAGES - 1, "{hints} hints");
    check(&scene, "one revoked", |i| i != VICTIM)?;
    scene.report(&[user_set(VICTIM)])?;
    check(&scene, "reported again", |_| true)
}

/// Fails if a set for 512 pages covers any of them once one was revoked (there is no hint left that
/// says of which it holds), if that takes memory, or if the other run suffers; if a page of the run
/// can't be reported alone then; or if a page's own set within a run uncovers the rest of that.
fn in_run() -> Result<()> {
    let mut scene = gated(setup())?;
    scene.report(&[run_set(0), run_set(1)])?;
    scene.start_held()?;
    check(&scene, "two runs", |_| true)?;
    let bytes = scene.stat("bytes")?;
    scene.report(&[revocation(VICTIM)])?;
    let held = scene.stat("bytes")?;
    ensure!(held <= bytes, "a revocation took {bytes} to {held} bytes");
    let hints = scene.stat("hints")?;
    ensure!(hints == PIECES, "{hints} hints");
    check(&scene, "a page revoked", |i| i < PIECES)?;
    scene.report(&[user_set(VICTIM)])?;
    check(&scene, "that page alone", |i| i < PIECES || i == VICTIM)?;
    // A set within a run splits it; what is revoked then is one of its pieces.
    scene.report(&[run_set(1), user_set(VICTIM), revocation(VICTIM)])?;
    check(&scene, "a piece revoked", |i| i != VICTIM)
}

/// Fails if HELLO, which is all that a reset guest says, leaves a hint in force, or if memory is still
/// taken for what it dropped once new hints are there; or if these don't work.
fn reset() -> Result<()> {
    let mut scene = gated(setup())?;
    let sets: Vec<_> = (0..PIECES).map(user_set).collect();
    scene.report(&sets)?;
    scene.report(&[run_set(1)])?;
    scene.start_held()?;
    check(&scene, "before", |_| true)?;
    let bytes = scene.stat("bytes")?;
    for round in 0..3 {
        scene.hello()?;
        let hints = scene.stat("hints")?;
        ensure!(hints == 0, "round {round}: {hints} hints after HELLO");
        check(&scene, "after HELLO", |_| false)?;
        scene.report(&sets)?;
        check(&scene, "reported in part", |i| i < PIECES)?;
        scene.report(&[run_set(1)])?;
        check(&scene, "reported again", |_| true)?;
        let held = scene.stat("bytes")?;
        ensure!(held <= bytes, "round {round}: {bytes} became {held} bytes");
    }
    Ok(())
}

/// Fails if sets for 512 pages survive their memslot or come back with it.
fn memslot() -> Result<()> {
    let mut setup = setup();
    setup.first = Region {
        gva: layout::ALIAS,
        pages: PAGES,
    };
    let mut scene = gated(setup)?;
    scene.vm.set_window(true)?;
    let (window, len) = (scene.vm.window(), PAGES * PAGE);
    scene
        .vm
        .map_gpa(layout::ALIAS, window, len, GuestPage::Small)?;
    let order = GuestPage::Large.order();
    let run = |run: u64| {
        let (gfn, gva) = (window / PAGE, layout::ALIAS);
        let gva = gva + run * PIECES * PAGE;
        Set::new(gfn + run * PIECES, order, kind::MAPPED, 1, &[gva])
    };
    let sets = [run(0), run(1)];
    scene.report(&sets)?;
    scene.start_held()?;
    check(&scene, "a memslot of its own", |_| true)?;
    scene.vm.set_window(false)?;
    let hints = scene.stat("hints")?;
    ensure!(hints == 0, "{hints} hints without the memslot");
    scene.vm.set_window(true)?;
    check(&scene, "the memslot is back", |_| false)?;
    scene.report(&sets[..1])?;
    check(&scene, "a run is reported again", |i| i < PIECES)
}
