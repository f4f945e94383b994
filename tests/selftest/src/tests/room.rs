// SPDX-License-Identifier: GPL-2.0
//! A VM whose hints take all the memory that they may.

use super::Test;
use crate::scene::{need_profile, user_set, Scene, Setup};
use anyhow::{ensure, Context, Result};
use gvahint_vm::code::After;
use gvahint_vm::hints::{errno, kind, Set};
use gvahint_vm::knobs::Policy;
use gvahint_vm::{layout, PAGE};

pub const TESTS: &[Test] = &[
    Test::new(
        "room_limit",
        "hints refused at max_bytes_per_vm, old ones, and room given back",
        |_| limit(),
    ),
    Test::new(
        "room_gvas",
        "pages for whose gVAs there is no room at max_bytes_per_vm",
        |_| gvas(),
    ),
];

/// The least that the knob takes: room for a dozen nodes.
const LIMIT: u64 = 65_536;
/// Pages of a node of the table.
const BLOCK: u64 = 512;
/// More of them than there is room for.
const BLOCKS: u64 = 24;
/// Pages of a block that are aged.
const AGED: u64 = 4;

const HINT_ONLY: Policy = Policy {
    uncovered: "none",
    ..Policy::new("hint", "deferred")
};

/// A vCPU that stands outside the guest; a session that has the least memory.
fn gated() -> Result<Scene> {
    let setup = Setup::quiet(BLOCKS * BLOCK).with(After::Out);
    let mut scene = Scene::prepare(setup)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.knobs.set("log_entries", 256)?;
    scene.knobs.set("max_bytes_per_vm", LIMIT)?;
    scene.knobs.set("max_delay_ms", 0)?;
    scene.knobs.policy("clear_young", HINT_ONLY)?;
    scene.hello()?;
    scene.start_held()?;
    Ok(scene)
}

/// Reports half of a block, a set for each page, in one call.
fn report_half(scene: &mut Scene, block: u64, half: u64) -> Result<i64> {
    let start = block * BLOCK + half * BLOCK / 2;
    // As many as fit one buffer.
    let sets: Vec<_> = (start..start + BLOCK / 2 - 1).map(user_set).collect();
    let reporter = scene.reporter.as_mut().context("a session")?;
    reporter.report(scene.vm.memory(), &sets)
}

/// Sets that [`report_half`] passes.
const HALF: i64 = BLOCK as i64 / 2 - 1;

/// Ages pages and runs a sweep: INVVPID by address, by context, INVEPT.
fn age(scene: &Scene, pfns: &[u64]) -> Result<(u64, u64, u64)> {
    // What was not dropped before is dropped now, so that every page is walked again; and what the
    // reports owe.
    scene.vm.toggle_dirty_log()?;
    scene.dir()?.flush_all()?;
    scene.vcpus[0].step(2)?;
    scene.idle.mark(pfns)?;
    let seen = scene.step()?;
    Ok((seen.invvpid_addr(), seen.invvpid_context(), seen.invept()))
}

/// Ages some pages of each block, and fails unless exactly the blocks in `covered` are dropped, each by
/// its own gVAs, and found touched.
fn check(scene: &Scene, covered: impl Fn(u64) -> bool) -> Result<()> {
    let pages = (0..BLOCKS).flat_map(|block| (0..AGED).map(move |i| block * BLOCK + i));
    let pfns: Vec<_> = pages.map(|i| scene.pfns[i as usize]).collect();
    let flushes = age(scene, &pfns)?;
    let idle = scene.idle.idle(&pfns)?;
    for (block, idle) in (0..BLOCKS).zip(idle.chunks(AGED as usize)) {
        let due = !covered(block);
        ensure!(
            idle.iter().all(|idle| *idle == due),
            "block {block}: idle {idle:?}, {due} was due"
        );
    }
    let due = AGED * (0..BLOCKS).filter(|block| covered(*block)).count() as u64;
    ensure!(
        flushes == (due, 0, 0),
        "{flushes:?} by address, context, INVEPT; {due} addresses were due"
    );
    Ok(())
}

/// Fails if more memory is taken than allowed; if a refused set isn't answered and counted so, or
/// covers its page; if a set that was there suffers from that, or can't be replaced where it is; or if
/// what is revoked makes no room for others.
fn limit() -> Result<()> {
    let mut scene = gated()?;
    let mut fit = 0;
    while fit < BLOCKS && report_half(&mut scene, fit, 0)? == HALF {
        let answer = report_half(&mut scene, fit, 1)?;
        ensure!(answer == HALF, "half of a block fits: {answer} sets of it");
        fit += 1;
    }
    println!("{fit} blocks of {BLOCK} pages fit {LIMIT} bytes");
    ensure!((4..BLOCKS).contains(&fit), "{fit} blocks fit");
    let (hints, bytes) = (scene.stat("hints")?, scene.stat("bytes")?);
    ensure!(bytes <= LIMIT, "{bytes} bytes are held");
    ensure!(hints == fit * 2 * HALF as u64, "{hints} hints");
    check(&scene, |block| block < fit)?;

    let refused = scene.stat("sets_refused")?;
    for block in fit..BLOCKS {
        let answer = report_half(&mut scene, block, 0)?;
        ensure!(answer == errno::E2BIG, "REPORT answered {answer}");
    }
    let more = scene.stat("sets_refused")? - refused;
    ensure!(more == BLOCKS - fit, "{more} sets counted as refused");
    let seen = (scene.stat("hints")?, scene.stat("bytes")?);
    ensure!(
        seen == (hints, bytes),
        "{seen:?} hints, bytes after sets that were refused"
    );
    for block in 0..fit {
        let answer = report_half(&mut scene, block, 0)?;
        ensure!(answer == HALF, "block {block}: {answer} sets replaced");
    }
    check(&scene, |block| block < fit)?;

    let gone = Set::new(layout::data(0) / PAGE, 9, kind::REVOKED, 0, &[]);
    scene.report(&[gone])?;
    let answer = report_half(&mut scene, fit, 0)?;
    ensure!(answer == HALF, "{answer} sets in the room of those revoked");
    let bytes = scene.stat("bytes")?;
    ensure!(bytes <= LIMIT, "{bytes} bytes are held");
    check(&scene, |block| (1..=fit).contains(&block))?;
    let answer = report_half(&mut scene, 0, 0)?;
    ensure!(answer == errno::E2BIG, "REPORT answered {answer}");
    Ok(())
}

/// Fails if a set of several gVAs is refused for lack of room for these, or not counted; if its page is
/// covered otherwise than by one flush of the context; or if one that has room suffers from that.
fn gvas() -> Result<()> {
    let mut scene = gated()?;
    // The table's nodes first: those for gVAs are what is left.
    let first: Vec<_> = (0..6).map(|block| user_set(block * BLOCK)).collect();
    scene.report(&first)?;
    let gva = |i: u64| layout::USER + i * PAGE;
    // Each page is reached in a second way, which nobody takes.
    let two = |i: u64| Set::mapped(layout::data(i) / PAGE, &[gva(i), gva(BLOCKS * BLOCK + i)]);
    for start in (0..BLOCK).step_by(128) {
        scene.report(&(start..start + 128).map(two).collect::<Vec<_>>())?;
    }
    let [shortened, refused] = ["sets_shortened", "sets_refused"].map(|name| scene.stat(name));
    let (shortened, refused) = (shortened?, refused?);
    println!("{shortened} of {BLOCK} pages without their gVAs");
    ensure!(refused == 0, "{refused} sets were refused");
    ensure!((1..BLOCK).contains(&shortened), "{shortened} shortened");
    for (page, due) in [(0, (2, 0, 0)), (BLOCK - 1, (0, 1, 0))] {
        let pfn = [scene.pfns[page as usize]];
        let flushes = age(&scene, &pfn)?;
        ensure!(flushes == due, "page {page}: {flushes:?}, not {due:?}");
        let idle = scene.idle.count(&pfn)?;
        ensure!(idle == 0, "page {page} is idle");
    }
    Ok(())
}
