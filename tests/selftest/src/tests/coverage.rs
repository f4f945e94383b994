// SPDX-License-Identifier: GPL-2.0
//! What counts as covered, and what happens to everything else.

use super::Test;
use crate::scene::{need_profile, user_set, Scene, Setup};
use crate::tap::skip;
use anyhow::{ensure, Result};
use gvahint_vm::hints::{errno, kind, Reporter, Set};
use gvahint_vm::knobs::{Knobs, Policy};
use gvahint_vm::memory::Backing;
use gvahint_vm::tables::GuestPage;
use gvahint_vm::{layout, sys, PAGE};

pub const TESTS: &[Test] = &[
    Test::new(
        "uncovered_full",
        "one full flush for uncovered pages, none for covered",
        |_| full(),
    ),
    Test::new(
        "uncovered_kinds",
        "too many gVAs, revoked pages, pages of the kernel",
        |_| kinds(),
    ),
    Test::new("large_leaf", "a 2 MiB EPT entry", |_| large_leaf()),
    Test::new("lease_lapsed", "a guest that went silent", |_| lease()),
    Test::new(
        "session_stale",
        "a session that another HELLO ended",
        |_| stale_session(),
    ),
    Test::new(
        "session_keeps_hints",
        "another list of linear ranges",
        |_| another_list(),
    ),
    Test::new("linear_missing", "a session without LINEAR", |_| {
        no_linear()
    }),
];

const HINT: Policy = Policy::new("hint", "deferred");
const HINT_ONLY: Policy = Policy {
    uncovered: "none",
    ..HINT
};

/// Fails if covered pages cause an INVEPT, if uncovered pages cause none or more than one at the
/// next entry, or if either isn't found touched then.
fn full() -> Result<()> {
    let mut scene = Scene::gated(128, HINT)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.hello()?;
    let sets: Vec<_> = (0..64).map(user_set).collect();
    scene.report(&sets)?;
    scene.vcpus[0].step(1)?;
    let (covered, uncovered) = scene.pfns.split_at(64);
    for (pfns, invept, invvpid) in [(covered, 0, 64), (uncovered, 1, 0), (&*scene.pfns, 1, 0)] {
        scene.idle.mark(pfns)?;
        let seen = scene.step()?;
        ensure!(
            (seen.invept(), seen.invvpid_addr()) == (invept, invvpid),
            "{} pages: {} INVEPT, {} INVVPID",
            pfns.len(),
            seen.invept(),
            seen.invvpid_addr()
        );
        let idle = scene.idle.count(pfns)?;
        ensure!(idle == 0, "{idle} of {} pages are falsely idle", pfns.len());
        scene.vcpus[0].step(1)?;
    }
    scene.knobs.policy("clear_young", HINT_ONLY)?;
    scene.idle.mark(&scene.pfns)?;
    let seen = scene.step()?;
    ensure!(
        seen.invept() == 0,
        "uncovered=none: {} INVEPT",
        seen.invept()
    );
    let idle = scene.idle.count(&scene.pfns)?;
    ensure!(
        idle == 64,
        "uncovered=none: {idle} pages idle, 64 are uncovered"
    );
    Ok(())
}

/// Fails if a page whose set was revoked, or says nothing that helps, is taken for covered.
fn kinds() -> Result<()> {
    let mut scene = Scene::gated(64, HINT_ONLY)?;
    need_profile(&scene.machine, &["combined-only"])?;
    let gfn = layout::data(5) / PAGE;
    for kind in [kind::REVOKED, kind::KERNEL_ONLY] {
        scene.report(&[user_set(5)])?;
        scene.report(&[Set::of_kind(gfn, kind)])?;
        scene.vcpus[0].step(1)?;
        scene.idle.mark(&scene.pfns)?;
        let seen = scene.step()?;
        ensure!(
            seen.invvpid_addr() == 63,
            "kind {kind}: {} INVVPID",
            seen.invvpid_addr()
        );
        let idle = scene.idle.idle(&scene.pfns)?;
        ensure!(idle[5], "kind {kind}: the page was found touched");
        let others = idle.iter().filter(|idle| **idle).count() - 1;
        ensure!(
            others == 0,
            "kind {kind}: {others} other pages are falsely idle"
        );
        scene.vcpus[0].step(1)?;
    }
    Ok(())
}

/// Fails if a huge page behind an EPT leaf of 2 MiB, of which the guest hinted every page, isn't
/// covered by a context flush, or is falsely idle where such a flush suffices. Where the CPU keeps
/// guest-physical translations it doesn't, as for small pages: all of them stay idle.
fn large_leaf() -> Result<()> {
    let pages = 2048;
    let mut setup = Setup::quiet(pages);
    setup.config.backing = Backing::Huge;
    // The kernel switches them off by itself on a machine with little memory.
    let mut knobs = Knobs::new();
    knobs.set_file("/sys/kernel/mm/transparent_hugepage/enabled", "madvise")?;
    let mut scene = Scene::prepare(setup)?;
    let profile = need_profile(&scene.machine, &["combined-only", "leaf-cached"])?;
    // page_idle asks for a huge page by its first frame.
    let heads: Vec<_> = scene.pfns.iter().copied().step_by(512).collect();
    if scene
        .pfns
        .chunks(512)
        .any(|run| run[0] % 512 != 0 || run[511] - run[0] != 511)
    {
        skip!("the kernel gave no huge pages");
    }
    scene.report_user()?;
    scene.knobs.policy("clear_young", HINT)?;
    scene.start()?;
    let idle = scene.round(&heads, crate::scene::TICKS_MS)?;
    let expect = match &*profile {
        "leaf-cached" => heads.len() as u64,
        _ => 0,
    };
    ensure!(
        idle == expect,
        "{idle} of {} huge pages are falsely idle, not {expect}",
        heads.len()
    );
    let large = scene.stat("uncovered_large_leaf")?;
    let context = scene.stat("appended_context")?;
    ensure!(
        large == 0 && context > 0,
        "{large} aged 2 MiB leaves were uncovered, {context} context flushes"
    );
    Ok(())
}

/// Fails if hints count after the lease lapsed, or if a valid call doesn't bring them back.
fn lease() -> Result<()> {
    let mut scene = Scene::prepare(Setup::quiet(256))?;
    need_profile(&scene.machine, &["combined-only"])?;
    // Time enough for a round on a kernel that looks for bugs.
    scene.knobs.set("lease_ms", 1000)?;
    scene.report_user()?;
    scene.knobs.policy("clear_young", HINT)?;
    scene.start()?;
    ensure!(
        scene.full_round()? == 0,
        "pages are falsely idle within the lease"
    );
    sys::sleep_ms(1100);
    let idle = scene.full_round()?;
    ensure!(
        idle == 256,
        "{idle} of 256 pages idle after the lease: default drops nothing"
    );
    let state = scene.dir()?.read("state")?;
    ensure!(state.starts_with("lapsed"), "state is {state:?}");
    scene.report(&[user_set(0)])?;
    ensure!(
        scene.full_round()? == 0,
        "pages are falsely idle after the lease's renewal"
    );
    // A longer lease revives a session without a call.
    sys::sleep_ms(1100);
    ensure!(scene.full_round()? == 256, "the lease did not lapse again");
    scene.knobs.set("lease_ms", 600_000)?;
    let state = scene.dir()?.read("state")?;
    ensure!(state == "live", "state is {state:?} under a longer lease");
    ensure!(
        scene.full_round()? == 0,
        "pages are falsely idle under a longer lease"
    );
    Ok(())
}

/// Fails if an old session or sequence number is let in, or HELLO leaves hints behind.
fn stale_session() -> Result<()> {
    let mut scene = Scene::prepare(Setup::quiet(64))?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.report_user()?;
    let mut second = Reporter::new(scene.vm.caller()?);
    let memory = scene.vm.memory();
    ensure!(second.hello(memory)?.is_ok(), "a second HELLO was refused");
    let first = scene.reporter.as_mut().expect("report_user() said HELLO");
    let answer = first.report(memory, &[user_set(0)])?;
    ensure!(
        answer == errno::ESTALE,
        "REPORT of an ended session answered {answer}"
    );
    ensure!(
        second.linear(memory, &[])? == 0,
        "LINEAR of the new session failed"
    );
    second.seq -= 1;
    let answer = second.report(memory, &[user_set(0)])?;
    ensure!(
        answer == errno::ESTALE,
        "a used sequence number answered {answer}"
    );
    scene.knobs.policy("clear_young", HINT_ONLY)?;
    scene.start()?;
    let idle = scene.full_round()?;
    ensure!(
        idle == 64,
        "{idle} of 64 pages idle: HELLO should have dropped their hints"
    );
    Ok(())
}

/// Fails if a guest that declares other linear ranges loses its hints, or if what was aged by the old
/// ones is not flushed once, with the next page that is aged, and no more.
fn another_list() -> Result<()> {
    const PAGES: u64 = 64;
    let mut scene = Scene::gated(PAGES, HINT)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.knobs.set("max_delay_ms", 0)?;
    scene.knobs.set("linear_alias", "never")?;
    let hints = scene.stat("hints")?;
    let (gva, len) = (layout::LINEAR + layout::DATA, PAGES * PAGE);
    scene.linear(layout::DATA, gva, len, GuestPage::Small)?;
    let left = scene.stat("hints")?;
    ensure!(left == hints, "{left} of {hints} hints are left");
    scene.vcpus[0].step(1)?;
    for due in [(0, 1, 0), (PAGES, 0, 0)] {
        scene.idle.mark(&scene.pfns)?;
        let seen = scene.step()?;
        let flushes = (seen.invvpid_addr(), seen.invvpid_context(), seen.invept());
        ensure!(
            flushes == due,
            "{flushes:?} by address, context, INVEPT; {due:?} were due"
        );
        let idle = scene.idle.count(&scene.pfns)?;
        ensure!(idle == 0, "{idle} pages are falsely idle");
        scene.vcpus[0].step(1)?;
    }
    let moved = scene.stat("moved")?;
    ensure!(moved == 1, "{moved} flushes for what moved");
    Ok(())
}

/// Fails if REPORT is open before LINEAR, if such a session counts as live, or if its pages
/// are not uncovered ones.
fn no_linear() -> Result<()> {
    let mut scene = Scene::prepare(Setup::quiet(64))?;
    need_profile(&scene.machine, &["combined-only"])?;
    let mut reporter = Reporter::new(scene.vm.caller()?);
    ensure!(
        reporter.hello(scene.vm.memory())?.is_ok(),
        "HELLO was refused"
    );
    let answer = reporter.report(scene.vm.memory(), &[user_set(0)])?;
    ensure!(
        answer == errno::EINVAL,
        "REPORT before LINEAR answered {answer}"
    );
    scene.start()?;
    scene.knobs.policy("clear_young", HINT)?;
    let idle = scene.full_round()?;
    ensure!(idle == 0, "{idle} of 64 pages idle, uncovered = full");
    scene.knobs.policy("clear_young", HINT_ONLY)?;
    // Looking at them flushed once more.
    scene.full_round()?;
    let idle = scene.full_round()?;
    ensure!(idle == 64, "{idle} of 64 pages idle, uncovered = none");
    let state = scene.dir()?.read("state")?;
    ensure!(state.starts_with("no-linear"), "state is {state:?}");
    Ok(())
}
