// SPDX-License-Identifier: GPL-2.0
//! What the host tells the guest: which pages it aged lately without a hint.

use super::Test;
use crate::scene::{need_profile, user_set, Scene};
use anyhow::{ensure, Context, Result};
use gvahint_vm::hints::errno;
use gvahint_vm::knobs::Policy;
use gvahint_vm::sys;
use std::collections::BTreeSet;

pub const TESTS: &[Test] = &[
    Test::new(
        "wanted_told",
        "a guest that reports what WANTED names",
        |_| told(),
    ),
    Test::new(
        "wanted_rate",
        "more WANTED calls than a second allows",
        |_| rate(),
    ),
];

const HINT_ONLY: Policy = Policy {
    uncovered: "none",
    ..Policy::new("hint", "deferred")
};
const PAGES: u64 = 64;
const REPORTED: u64 = 24;

fn gfn(page: u64) -> u64 {
    user_set(page).header & ((1 << 40) - 1)
}

/// Asks for as many as `words`; what the host answered.
fn wanted(scene: &mut Scene, words: usize) -> Result<std::result::Result<Vec<u64>, i64>> {
    let reporter = scene.reporter.as_mut().context("a session")?;
    reporter.wanted(scene.vm.memory(), words)
}

/// Fails if a page that was aged without a hint is not named, one that is covered is, one is named
/// twice or again, the later of two comes second, or a report of what was named doesn't cover it.
fn told() -> Result<()> {
    let mut scene = Scene::gated(PAGES, HINT_ONLY)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.knobs.set("max_delay_ms", 0)?;
    scene.hello()?;
    let sets: Vec<_> = (0..REPORTED).map(user_set).collect();
    scene.report(&sets)?;
    scene.vm.toggle_dirty_log()?;
    scene.vcpus[0].step(2)?;
    let before = wanted(&mut scene, 512)?;
    ensure!(before == Ok(vec![]), "before ageing: {before:x?}");

    // One page first, so that it is the oldest of all; then all of them, it as well.
    let pfns = scene.pfns.clone();
    scene.idle.mark(&pfns[PAGES as usize - 1..])?;
    scene.idle.mark(&pfns[..PAGES as usize - 1])?;
    let first = wanted(&mut scene, 8)?.map_err(|answer| anyhow::anyhow!("answer {answer}"))?;
    let rest = wanted(&mut scene, 512)?.map_err(|answer| anyhow::anyhow!("answer {answer}"))?;
    ensure!(first.len() == 8, "8 asked for, {} named", first.len());
    ensure!(
        rest.last() == Some(&gfn(PAGES - 1)),
        "the oldest is not the last: {rest:x?}"
    );
    let named: Vec<u64> = first.iter().chain(&rest).copied().collect();
    let expected: BTreeSet<u64> = (REPORTED..PAGES).map(gfn).collect();
    ensure!(
        named.len() == expected.len() && named.iter().copied().collect::<BTreeSet<_>>() == expected,
        "named {named:x?}, not {expected:x?}"
    );
    let again = wanted(&mut scene, 512)?;
    ensure!(again == Ok(vec![]), "named twice: {again:x?}");

    let missing: Vec<_> = (0..PAGES)
        .filter(|page| named.contains(&gfn(*page)))
        .map(user_set)
        .collect();
    scene.report(&missing)?;
    scene.vm.toggle_dirty_log()?;
    scene.vcpus[0].step(2)?;
    scene.idle.mark(&pfns)?;
    let seen = scene.step()?.invvpid_addr();
    ensure!(seen == PAGES, "{seen} INVVPID after the report");
    let idle = scene.idle.count(&pfns)?;
    ensure!(idle == 0, "{idle} pages are falsely idle");
    let after = wanted(&mut scene, 512)?;
    ensure!(after == Ok(vec![]), "covered and named: {after:x?}");
    Ok(())
}

/// Fails if the host answers more than 100 calls a second, or none in the next one.
fn rate() -> Result<()> {
    let mut scene = Scene::gated(PAGES, HINT_ONLY)?;
    scene.hello()?;
    let mut refused = None;
    for calls in 0..1000 {
        match wanted(&mut scene, 1)? {
            Ok(_) => {}
            Err(answer) => {
                ensure!(answer == errno::E2BIG, "answer {answer}");
                refused = Some(calls);
                break;
            }
        }
    }
    // Two seconds' worth if one of them began in between.
    ensure!(
        refused.is_some_and(|calls| (100..=200).contains(&calls)),
        "refused after {refused:?} calls"
    );
    sys::sleep_ms(1_100);
    let later = wanted(&mut scene, 1)?;
    ensure!(later == Ok(vec![]), "a second later: {later:x?}");
    Ok(())
}
