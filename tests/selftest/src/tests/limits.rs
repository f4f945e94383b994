// SPDX-License-Identifier: GPL-2.0
//! How old hints may be, and how much memory they may take.

use super::Test;
use crate::scene::{need_profile, user_set, Scene};
use anyhow::{ensure, Context, Result};
use gvahint_vm::hints::errno;
use gvahint_vm::knobs::Policy;
use gvahint_vm::sys;

pub const TESTS: &[Test] = &[
    Test::new("hint_aged", "hints older than hint_max_age_ms", |_| aged()),
    Test::new(
        "memory_limit",
        "a limit that not even the VM's log fits into",
        |_| memory_limit(),
    ),
];

const HINT_ONLY: Policy = Policy {
    uncovered: "none",
    ..Policy::new("hint", "deferred")
};
const PAGES: u64 = 64;

/// Fails if a hint still covers its page when it is too old, if pages are then uncovered for another
/// reason, if young hints suffer, or if a REPORT doesn't make an old one young. Or if pages whose hints
/// are old stay idle where uncovered pages are: nothing would ever flush for them.
fn aged() -> Result<()> {
    let mut scene = Scene::gated(PAGES, HINT_ONLY)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.knobs.set("max_delay_ms", 0)?;
    scene.knobs.set("hint_max_age_ms", 400)?;
    sys::sleep_ms(500);
    let young: Vec<_> = (0..PAGES / 4).map(user_set).collect();
    let all: Vec<_> = (0..PAGES).map(user_set).collect();
    for (sets, old) in [(&[][..], PAGES), (&young, PAGES - PAGES / 4), (&all, 0)] {
        if !sets.is_empty() {
            scene.report(sets)?;
        }
        // What was not dropped last time is dropped now, so that every page is walked again.
        scene.vm.toggle_dirty_log()?;
        scene.vcpus[0].step(2)?;
        let before = (scene.stat("uncovered_aged")?, scene.stat("uncovered")?);
        scene.idle.mark(&scene.pfns)?;
        let after = (scene.stat("uncovered_aged")?, scene.stat("uncovered")?);
        let more = (after.0 - before.0, after.1 - before.1);
        ensure!(
            more == (old, old),
            "{more:?} pages uncovered by age, in all; {old} are old"
        );
        let seen = scene.step()?;
        let flushes = (seen.invvpid_addr(), seen.invvpid_context(), seen.invept());
        let due = if old > 0 { (0, 1, 0) } else { (PAGES, 0, 0) };
        ensure!(
            flushes == due,
            "{flushes:?} by address, context, INVEPT; {old} hints are old"
        );
        let idle = scene.idle.count(&scene.pfns)?;
        ensure!(idle == 0, "{idle} pages are idle, {old} hints are old");
    }
    Ok(())
}

/// Fails if a HELLO gets more memory than it may, leaves the old session or its hints in force when it
/// is refused, or is refused although the limit was raised.
fn memory_limit() -> Result<()> {
    let mut scene = Scene::gated(PAGES, HINT_ONLY)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.knobs.set("max_delay_ms", 0)?;
    let dir = scene.dir()?;
    // The log alone takes twice that.
    scene.knobs.set("log_entries", 16384)?;
    scene.knobs.set("max_bytes_per_vm", 65536)?;
    let answer = {
        let reporter = scene.reporter.as_mut().context("a session")?;
        reporter.hello(scene.vm.memory())?
    };
    ensure!(answer == Err(errno::E2BIG), "HELLO answered {answer:?}");
    for name in ["hints", "bytes"] {
        let left = dir.stat(name)?;
        ensure!(left == 0, "{name} is {left} after a HELLO that was refused");
    }
    let state = dir.read("state")?;
    ensure!(state == "silent", "state is {state:?}");
    let reporter = scene.reporter.as_mut().context("a session")?;
    let answer = reporter.report(scene.vm.memory(), &[user_set(0)])?;
    ensure!(
        answer == errno::ESTALE,
        "REPORT of the old session answered {answer}"
    );

    for limit in [262_144, 0] {
        scene.knobs.set("max_bytes_per_vm", limit)?;
        scene.report_user()?;
        let bytes = dir.stat("bytes")?;
        ensure!(
            bytes > 0 && (limit == 0 || bytes <= limit),
            "{bytes} bytes with a limit of {limit}"
        );
        scene.vm.toggle_dirty_log()?;
        scene.vcpus[0].step(2)?;
        scene.idle.mark(&scene.pfns)?;
        let seen = scene.step()?.invvpid_addr();
        ensure!(seen == PAGES, "limit {limit}: {seen} INVVPID");
        let idle = scene.idle.count(&scene.pfns)?;
        ensure!(idle == 0, "limit {limit}: {idle} pages are falsely idle");
    }
    Ok(())
}
