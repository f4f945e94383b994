// SPDX-License-Identifier: GPL-2.0
//! Canaries: a guest asks whether an accessed bit comes back once one gVA was dropped.

use super::Test;
use crate::scene::{need_cpus, need_profile, Scene, Setup};
use crate::tap::skip;
use anyhow::{ensure, Context, Result};
use gvahint_vm::code::{After, Region};
use gvahint_vm::hints::{canary, errno};
use gvahint_vm::knobs::{Knobs, Policy};
use gvahint_vm::memory::Backing;
use gvahint_vm::tables::GuestPage;
use gvahint_vm::{layout, sys, PAGE};

pub const TESTS: &[Test] = &[
    Test::new("canary_fine", "a bit that comes back", |_| fine()),
    Test::new(
        "canary_lost",
        "a bit that doesn't, and the VM beside it",
        |_| lost(),
    ),
    Test::new(
        "canary_handed_back",
        "the young bit that a canary took",
        |_| handed_back(),
    ),
    Test::new(
        "canary_inconclusive",
        "somebody else aged the page, or it went",
        |_| inconclusive(),
    ),
    Test::new("canary_rate", "more canaries than a second allows", |_| {
        rate()
    }),
];

const HINT: Policy = Policy::new("hint", "deferred");
const HINT_ONLY: Policy = Policy {
    uncovered: "none",
    ..HINT
};
const PAGES: u64 = 64;
/// After that the next canary may begin.
const SECOND_MS: u64 = 1000;
/// The page that each hypercall's code is fetched from, mapped at its own address: whoever calls
/// touches it behind the call.
const CODE: (u64, u64) = (layout::CODE / PAGE, layout::CODE);

/// Data page `i` and its gVA; the vCPU that calls never touches it.
fn data(i: u64) -> (u64, u64) {
    (layout::data(i) / PAGE, layout::USER + i * PAGE)
}

fn ask(scene: &mut Scene, (gfn, gva): (u64, u64), step: u64) -> Result<i64> {
    let reporter = scene.reporter.as_mut().context("a session")?;
    reporter.canary(scene.vm.memory(), gfn, gva, step)
}

/// Both steps, with `between` in between; the first has to succeed.
fn both(
    scene: &mut Scene,
    page: (u64, u64),
    between: impl FnOnce(&mut Scene) -> Result<()>,
) -> Result<i64> {
    sys::sleep_ms(SECOND_MS);
    let answer = ask(scene, page, 0)?;
    ensure!(answer == canary::OK, "step 0 answered {answer}");
    between(scene)?;
    ask(scene, page, 1)
}

/// Fails if a canary is lost though its page was touched, costs more than one INVVPID by address, or
/// changes the VM's state.
fn fine() -> Result<()> {
    let mut scene = Scene::prepare(Setup::quiet(PAGES))?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.hello()?;
    for round in 0..3 {
        scene.machine.reset()?;
        let answer = both(&mut scene, CODE, |_| Ok(()))?;
        let seen = scene.machine.snapshot()?;
        ensure!(
            answer == canary::OK,
            "round {round}: step 1 answered {answer}"
        );
        let flushes = (seen.invvpid_addr(), seen.invept());
        ensure!(flushes == (1, 0), "{flushes:?} INVVPID by address, INVEPT");
    }
    let dir = scene.dir()?;
    let state = dir.read("state")?;
    ensure!(state.starts_with("live"), "state is {state:?}");
    let counts = ["canary", "canary_lost"].map(|name| dir.stat(name).unwrap_or(99));
    ensure!(counts == [6, 0], "{counts:?} calls, lost");
    Ok(())
}

/// Fails if a canary comes back where it can't, if the VM that lost it is less accurate than under
/// `invept` or goes on with hints, if the other VM doesn't, or if HELLO gives no other try.
fn lost() -> Result<()> {
    need_cpus(2)?;
    let mut other = Scene::prepare(Setup::quiet(PAGES))?;
    need_profile(&other.machine, &["leaf-cached"])?;
    other.report_user()?;
    let others = other.dir()?;
    let mut scene = Scene::prepare(Setup::quiet(PAGES))?;
    scene.report_user()?;
    let dir = scene.dir()?;
    scene.knobs.policy("clear_young", HINT_ONLY)?;
    other.start()?;
    scene.start()?;
    let idle = scene.full_round()?;
    ensure!(
        idle == PAGES,
        "before: {idle} of {PAGES} pages idle, hints can't help here"
    );
    for round in 0..2 {
        let answer = both(&mut scene, CODE, |_| Ok(()))?;
        ensure!(
            answer == canary::LOST,
            "round {round}: step 1 answered {answer}"
        );
        let state = dir.read("state")?;
        ensure!(state.starts_with("degraded"), "state is {state:?}");
        // The other VM's pages are young again: idle ones are not aged.
        other.vm.toggle_dirty_log()?;
        other.warm(2)?;
        let before = (dir.stats()?, others.stats()?);
        let idle = scene.full_round()?;
        ensure!(idle == 0, "degraded: {idle} pages are falsely idle");
        let idle = other.full_round()?;
        println!("degraded: 0 of {PAGES} idle; the other VM, by hints: {idle}");
        let after = (dir.stats()?, others.stats()?);
        for (name, more) in [
            ("covered", false),
            ("uncovered_degraded", true),
            ("appended_full", true),
        ] {
            ensure!(
                (after.0[name] > before.0[name]) == more,
                "the degraded VM: {name} was {}, is {}",
                before.0[name],
                after.0[name]
            );
            ensure!(
                (after.1[name] > before.1[name]) != more,
                "the other VM: {name} was {}, is {}",
                before.1[name],
                after.1[name]
            );
        }
        let state = others.read("state")?;
        ensure!(state.starts_with("live"), "the other VM is {state:?}");
        // Guests go on to report: it keeps the lease.
        scene.report(&[crate::scene::user_set(0)])?;
        scene.report_user()?;
        let state = dir.read("state")?;
        ensure!(state.starts_with("live"), "after HELLO: {state:?}");
    }
    Ok(())
}

/// Fails if page_idle finds a page idle because a canary took its young bit, or touched because of
/// one that it didn't.
fn handed_back() -> Result<()> {
    let mut scene = Scene::gated(PAGES, HINT)?;
    need_profile(&scene.machine, &["combined-only"])?;
    let pfns = scene.pfns.clone();
    // Pages 5 and 7 are touched after they were marked, page 6 isn't.
    for (page, sweeps, idle) in [(5, 1, 0), (6, 0, 1), (7, 1, 0)] {
        scene.idle.mark(&pfns[page..=page])?;
        scene.vcpus[0].step(sweeps)?;
        // The vCPU that asks touches none of them: the guest lies.
        let answer = both(&mut scene, data(page as u64), |_| Ok(()))?;
        ensure!(
            answer == canary::LOST,
            "page {page}: step 1 answered {answer}"
        );
        let found = scene.idle.count(&pfns[page..=page])?;
        ensure!(found == idle, "page {page} is idle: {found}, not {idle}");
    }
    // Given up for another one, and by HELLO.
    for end in ["another", "hello"] {
        scene.idle.mark(&pfns[8..9])?;
        scene.vcpus[0].step(1)?;
        sys::sleep_ms(SECOND_MS);
        let answer = ask(&mut scene, data(8), 0)?;
        ensure!(answer == canary::OK, "step 0 answered {answer}");
        if end == "hello" {
            scene.hello()?;
        } else {
            sys::sleep_ms(SECOND_MS);
            let answer = ask(&mut scene, data(9), 0)?;
            ensure!(answer == canary::OK, "step 0 answered {answer}");
        }
        let answer = ask(&mut scene, data(8), 1)?;
        ensure!(
            answer == errno::EINVAL,
            "{end}: step 1 of a canary that was given up answered {answer}"
        );
        let found = scene.idle.count(&pfns[8..9])?;
        ensure!(found == 0, "{end}: the young bit was not handed back");
    }
    Ok(())
}

/// Fails if anything is concluded from a page that somebody else aged, whose memslot came and went,
/// or that isn't mapped by itself; or if ageing other pages spoils a canary.
fn inconclusive() -> Result<()> {
    let mut setup = Setup::quiet(PAGES).with(After::Out);
    setup.second = Region {
        gva: layout::ALIAS,
        pages: PAGES,
    };
    let mut scene = Scene::prepare(setup)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.vm.set_window(true)?;
    let window = scene.vm.window();
    scene
        .vm
        .map_gpa(layout::ALIAS, window, PAGES * PAGE, GuestPage::Small)?;
    scene.report_user()?;
    scene.knobs.policy("clear_young", HINT)?;
    scene.start()?;
    scene.vcpus[0].hold()?;
    scene.vcpus[0].step(1)?;
    let pfns = scene.pfns.clone();

    let aged = |scene: &mut Scene, page: usize| {
        scene.vcpus[0].step(1)?;
        scene.idle.mark(&pfns[page..=page])
    };
    let answer = both(&mut scene, data(5), |scene| aged(scene, 5))?;
    ensure!(answer == canary::INCONCLUSIVE, "aged: answered {answer}");
    let answer = both(&mut scene, data(6), |scene| aged(scene, 7))?;
    ensure!(
        answer == canary::OK,
        "another page was aged: answered {answer}"
    );
    let answer = both(&mut scene, (window / PAGE, layout::ALIAS), |scene| {
        scene.vm.set_window(false)?;
        scene.vm.set_window(true)?;
        // It is mapped again, and young.
        scene.vcpus[0].step(1)
    })?;
    ensure!(
        answer == canary::INCONCLUSIVE,
        "the memslot went: answered {answer}"
    );
    sys::sleep_ms(SECOND_MS);
    let answer = ask(&mut scene, (layout::DATA / PAGE - 1, layout::USER), 0)?;
    ensure!(
        answer == canary::INCONCLUSIVE,
        "a page that nobody touched: answered {answer}"
    );
    let state = scene.dir()?.read("state")?;
    ensure!(state.starts_with("live"), "state is {state:?}");
    large()
}

/// The same for a page in an EPT leaf of 2 MiB.
fn large() -> Result<()> {
    let mut setup = Setup::quiet(1024);
    setup.config.backing = Backing::Huge;
    let mut knobs = Knobs::new();
    knobs.set_file("/sys/kernel/mm/transparent_hugepage/enabled", "madvise")?;
    let mut scene = Scene::prepare(setup)?;
    scene.hello()?;
    scene.start()?;
    if scene.pfns[511] - scene.pfns[0] != 511 {
        skip!("the kernel gave no huge pages");
    }
    let answer = ask(&mut scene, data(5), 0)?;
    ensure!(
        answer == canary::INCONCLUSIVE,
        "a page of 2 MiB: answered {answer}"
    );
    Ok(())
}

/// Fails if a second brings more than one canary, or the next one none.
fn rate() -> Result<()> {
    let mut scene = Scene::gated(PAGES, HINT)?;
    scene.hello()?;
    let mut begun = 0;
    for _ in 0..50 {
        match ask(&mut scene, data(5), 0)? {
            canary::OK => begun += 1,
            errno::E2BIG => {}
            other => anyhow::bail!("step 0 answered {other}"),
        }
    }
    // The 50 take no time to speak of, but may meet the end of a second.
    ensure!((1..=2).contains(&begun), "{begun} of 50 canaries begun");
    sys::sleep_ms(SECOND_MS);
    let answer = ask(&mut scene, data(5), 0)?;
    ensure!(
        answer == canary::OK,
        "a second later step 0 answered {answer}"
    );
    Ok(())
}
