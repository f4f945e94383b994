// SPDX-License-Identifier: GPL-2.0
//! Not a test: what tests/host/bpftrace watches. Its numbers are known, and printed.

use super::Test;
use crate::scene::{Scene, Setup};
use anyhow::{ensure, Result};
use gvahint_vm::hints::{errno, kind, op, Mode, Set};
use gvahint_vm::knobs::{Knobs, Policy};
use gvahint_vm::reclaim::{Memcg, Swap};
use gvahint_vm::trace::Recorder;
use gvahint_vm::{layout, module, sys, PAGE};

pub const HELPERS: &[Test] = &[
    Test::new(
        "helper_traced",
        "ages a guest that reports and one that doesn't; the module is loaded, and stays",
        |_| traced(),
    ),
    Test::new("helper_seen", "the same where the module may go", |_| {
        seen()
    }),
];

const PAGES: u64 = 64;
/// Of these: not to be covered, each for another reason.
const UNCOVERED: [u64; 2] = [kind::REVOKED, kind::KERNEL_ONLY];
/// Rounds of each kind.
const ROUNDS: u64 = 4;
/// From ageing to the flush, at least.
const WAIT_MS: u64 = 20;

fn known(name: &str, value: u64) {
    println!("known {name} {value}");
}

/// Ages some pages, lets them wait, and lets the vCPU flush.
fn round(scene: &Scene, pages: u64) -> Result<()> {
    scene.idle.mark(&scene.pfns[..pages as usize])?;
    sys::sleep_ms(WAIT_MS);
    scene.vcpus[0].step(1)
}

/// A guest that reports, aged under `hint` with and without uncovered pages, and once under `invept`.
fn reporting() -> Result<()> {
    let mut scene = Scene::gated(PAGES, Policy::new("hint", "deferred"))?;
    scene.knobs.set("max_delay_ms", 0)?;
    let covered = PAGES - UNCOVERED.len() as u64;
    let sets = (covered..).zip(UNCOVERED);
    let sets: Vec<_> = sets
        .map(|(i, kind)| Set::of_kind(layout::data(i) / PAGE, kind))
        .collect();
    scene.report(&sets)?;
    scene.vcpus[0].step(1)?;
    for _ in 0..ROUNDS {
        round(&scene, PAGES)?;
        round(&scene, covered)?;
    }
    scene
        .knobs
        .policy("clear_young", Policy::new("invept", "deferred"))?;
    // What that owes.
    scene.vcpus[0].step(1)?;
    round(&scene, PAGES)?;
    if let Some(reporter) = &mut scene.reporter {
        let stale = (reporter.session + 1) << 32 | 1;
        let args = [op::REPORT, stale, layout::BUFFER, 8];
        let answer = reporter.caller.call(Mode::Kernel, args)?;
        ensure!(answer == errno::ESTALE, "a stale REPORT answered {answer}");
    }
    let dir = scene.dir()?;
    known("vm", dir.id);
    known("covered", dir.stat("covered")?);
    known("uncovered", dir.stat("uncovered")?);
    known("sets", dir.stat("sets_applied")?);
    known("hints", dir.stat("hints")?);
    known("executed", dir.stat("drained_full")?);
    known("asked_hint", ROUNDS * UNCOVERED.len() as u64);
    known("asked_invept", PAGES);
    known("gva", ROUNDS);
    // Not the vCPU that made the calls: it stood before what no call of a notifier put into the log.
    known("delays", 2 * ROUNDS + 1);
    Ok(())
}

/// A guest that says nothing while its memory is reclaimed.
fn silent() -> Result<()> {
    let mut lru = Knobs::new();
    lru.set_file("/sys/kernel/mm/lru_gen/enabled", "0")?;
    let _swap = Swap::new(64 << 20)?;
    let group = Memcg::enter("gvahint-traced")?;
    let mut scene = Scene::prepare(Setup::quiet(PAGES))?;
    scene.start()?;
    let recorder = Recorder::start("gvahint")?;
    scene.vm.memory().deactivate(layout::DATA, PAGES)?;
    group.reclaim(16 * PAGE)?;
    let calls = recorder.take()?.into_iter();
    let calls = calls.filter(|event| event.name == "plan").count();
    ensure!(calls > 0, "reclaim aged nothing");
    known("left_to_kvm", calls as u64);
    let dir = scene.dir()?;
    known("silent_vm", dir.id);
    known("no_session", dir.stat("uncovered_no_session")?);
    Ok(())
}

fn seen() -> Result<()> {
    reporting()?;
    silent()
}

/// Fails also if the module can be unloaded while bpftrace, or perf, watches.
fn traced() -> Result<()> {
    seen()?;
    ensure!(
        module::remove("gvahint").is_err(),
        "rmmod went through while the events are watched"
    );
    Ok(())
}
