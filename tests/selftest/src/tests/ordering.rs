// SPDX-License-Identifier: GPL-2.0
//! The orders that the flush log stands on: clear, publish, kick; head before flush. Short, because
//! tests/mutants breaks each of them once and expects one of these to notice.

use super::Test;
use crate::scene::{need_cpus, need_profile, Scene, Setup, TICKS_MS};
use anyhow::{ensure, Result};
use gvahint_vm::code::After;
use gvahint_vm::knobs::Policy;

pub const TESTS: &[Test] = &[
    Test::new(
        "ordering_now",
        "what is kicked for is in the log already",
        |_| every_page_comes_back(After::Nothing, "now"),
    ),
    Test::new(
        "ordering_deferred",
        "what a draining vCPU counts as served was cleared before and dropped",
        |_| every_page_comes_back(After::Out, "deferred"),
    ),
];

const PAGES: u64 = 512;
const ROUNDS: usize = 4;

/// Ages on one CPU while a vCPU drains on another. Fails if one page stays idle: its entry was
/// served before its bit was cleared, published after the only kick, or skipped by a drain.
fn every_page_comes_back(after: After, timing: &'static str) -> Result<()> {
    need_cpus(2)?;
    let policy = Policy {
        flush: "hint",
        uncovered: "full",
        timing,
    };
    let mut scene = Scene::prepare(Setup::quiet(PAGES).with(after))?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.report_user()?;
    scene.knobs.policy("clear_young", policy)?;
    // No second kick may hide that the first was for nothing.
    scene.knobs.set("max_delay_ms", "0")?;
    scene.start()?;
    for round in 0..ROUNDS {
        let idle = scene.round(&scene.pfns, TICKS_MS)?;
        ensure!(
            idle == 0,
            "round {round}: {idle} of {PAGES} pages are falsely idle"
        );
    }
    // One at a time: looking at the first of many pages ages it again, and with it serves the rest.
    for pfn in scene.pfns.iter().step_by(64) {
        let idle = scene.round(&[*pfn], TICKS_MS)?;
        ensure!(idle == 0, "a page aged alone is falsely idle");
    }
    Ok(())
}
