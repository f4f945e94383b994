// SPDX-License-Identifier: GPL-2.0
//! The trace events of ageing, `aged`, `plan` and `flush`, against what was aged, the module's counters
//! and what the CPUs did.

use super::Test;
use crate::large::{self, large_set, PIECES};
use crate::scene::{need_profile, Scene, Setup};
use anyhow::{ensure, Context, Result};
use gvahint_vm::hints::{kind, Set};
use gvahint_vm::knobs::{Knobs, Policy, VmDir};
use gvahint_vm::machine::Snapshot;
use gvahint_vm::reclaim::{Memcg, Swap};
use gvahint_vm::tables::GuestPage;
use gvahint_vm::trace::{Event, Recorder};
use gvahint_vm::{layout, sys, PAGE};
use std::collections::BTreeMap;

pub const TESTS: &[Test] = &[
    Test::new(
        "trace_aged",
        "each aged page, why it is uncovered, and each call",
        |_| aged(),
    ),
    Test::new("trace_policies", "what each policy plans", |_| policies()),
    Test::new("trace_kicks", "when vCPUs are kicked", |_| kicks()),
    Test::new("trace_flush", "why a vCPU flushes more than gVAs", |_| {
        flushes()
    }),
    Test::new("trace_large", "a leaf of 2 MiB", |_| large_leaf()),
    Test::new("trace_reclaim", "clear_flush_young by reclaim", |_| {
        reclaim()
    }),
];

const PAGES: u64 = 64;
const HINT: Policy = Policy::new("hint", "deferred");

/// Fails unless the fields of these names are printed so.
pub fn expect(event: &Event, due: &[(&str, &str)]) -> Result<()> {
    for (name, word) in due {
        ensure!(
            event.word(name) == *word,
            "{name} is not {word} in {event:?}"
        );
    }
    Ok(())
}

/// The events of one name, all of them of VM `dir` and its owner, this process.
pub fn of<'a>(events: &'a [Event], name: &str, dir: &VmDir) -> Result<Vec<&'a Event>> {
    let (vm, pid) = (dir.id.to_string(), std::process::id().to_string());
    let all: Vec<_> = events.iter().filter(|event| event.name == name).collect();
    all.iter()
        .try_for_each(|event| expect(event, &[("vm", &vm), ("pid", &pid)]))?;
    Ok(all)
}

fn sum(events: &[&Event], name: &str) -> Result<i64> {
    events.iter().map(|event| event.number(name)).sum()
}

fn gated(policy: Policy) -> Result<Scene> {
    let mut scene = Scene::gated(PAGES, policy)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.knobs.set("max_delay_ms", 0)?;
    Ok(scene)
}

/// The only flush of a step, and what the CPUs counted.
fn step(scene: &Scene, recorder: &Recorder) -> Result<(Event, Snapshot)> {
    let seen = scene.step()?;
    let events = recorder.take()?;
    let flushes = of(&events, "flush", &scene.dir()?)?;
    ensure!(flushes.len() == 1, "{} flushes: {events:?}", flushes.len());
    Ok((flushes[0].clone(), seen))
}

/// By how much the counters went up.
fn more(dir: &VmDir, before: &BTreeMap<String, u64>, name: &str) -> Result<i64> {
    Ok((dir.stat(name)? - before[name]) as i64)
}

/// Fails if a page that is aged has no event, two, or one of another frame, task, level or notifier; if
/// it is said to be covered when it isn't, or uncovered for another reason than the guest gave; if the
/// calls' sums are not those of the pages and of the module's counters; if log positions have holes; or
/// if the vCPU's flush is not of all of it.
fn aged() -> Result<()> {
    let mut scene = gated(HINT)?;
    let frame = |i| layout::data(i) / PAGE;
    let reasons = [
        (61, kind::REVOKED, "no_hint"),
        (62, kind::KERNEL_ONLY, "kernel_only"),
    ];
    let mut sets = vec![Set::of_kind(frame(60), kind::ANYWHERE)];
    let others = reasons.iter();
    sets.extend(others.map(|(i, kind, _)| Set::of_kind(frame(*i), *kind)));
    scene.report(&sets)?;
    scene.vcpus[0].step(1)?;
    let dir = scene.dir()?;
    let recorder = Recorder::start("gvahint")?;
    let before = dir.stats()?;
    scene.idle.mark(&scene.pfns)?;
    let events = recorder.take()?;

    let aged = of(&events, "aged", &dir)?;
    let mut frames = BTreeMap::new();
    for event in &aged {
        let gfn = event.number("gfn")? as u64;
        let reason = reasons.iter().find(|(i, ..)| frame(*i) == gfn);
        let (coverage, reason) =
            reason.map_or(("covered", "-"), |(.., reason)| ("uncovered", reason));
        let due = [
            ("level", "4K"),
            ("which", "clear_young"),
            ("coverage", coverage),
            ("reason", reason),
        ];
        expect(event, &due)?;
        ensure!(event.task == sys::gettid(), "another task: {event:?}");
        ensure!(frames.insert(gfn, ()).is_none(), "twice: {event:?}");
    }
    ensure!(
        frames.keys().copied().eq((0..PAGES).map(frame)),
        "{} pages were aged, {PAGES} are due: {frames:x?}",
        frames.len()
    );

    let plans = of(&events, "plan", &dir)?;
    let mut head = plans.first().context("no plan")?.number("head")? - 1;
    let from = head;
    for plan in &plans {
        let covered = plan.word("covered") == "1";
        let (gvas, mark) = match plan.word("gvas") {
            "0" if covered => ("0", "context"),
            _ if covered => ("1", "none"),
            _ => ("0", "full"),
        };
        let due = [
            ("which", "clear_young"),
            ("flush", "hint"),
            ("timing", "deferred"),
            ("aged", "1"),
            ("other", "0"),
            ("uncovered", if covered { "0" } else { "1" }),
            ("gvas", gvas),
            ("mark", mark),
            ("verdict", "handled"),
            ("kick", "no"),
        ];
        expect(plan, &due)?;
        head += 1;
        ensure!(
            plan.number("head")? == head,
            "head {head} was due: {plan:?}"
        );
    }
    for (name, counter) in [
        ("aged", "aged"),
        ("covered", "covered"),
        ("uncovered", "uncovered"),
        ("gvas", "appended_gva"),
    ] {
        let (told, counted) = (sum(&plans, name)?, more(&dir, &before, counter)?);
        ensure!(
            told == counted,
            "{name}: {told}, {counted} by stats/{counter}"
        );
    }
    let context = more(&dir, &before, "covered_context")?;
    ensure!(context == 1, "stats/covered_context: {context} more");
    for (_, _, reason) in reasons {
        let counted = more(&dir, &before, &format!("uncovered_{reason}"))?;
        ensure!(counted == 1, "stats/uncovered_{reason}: {counted} more");
    }
    let (flush, seen) = step(&scene, &recorder)?;
    ensure!(seen.invept() == 1, "{} INVEPT", seen.invept());
    let (from, head) = (from.to_string(), head.to_string());
    expect(
        &flush,
        &[
            ("kind", "full"),
            ("why", "-"),
            ("gvas", "0"),
            ("from", &from),
            ("to", &head),
        ],
    )
}

/// Fails if a policy's plan, or the flush that follows, is said to be another; or if pages count as
/// uncovered though nobody asked.
fn policies() -> Result<()> {
    let mut scene = gated(HINT)?;
    let dir = scene.dir()?;
    let recorder = Recorder::start("gvahint")?;
    let pages = PAGES.to_string();
    for (flush, coverage, gvas, mark, verdict, kind) in [
        ("hint", "covered", "1", "none", "handled", "gva"),
        ("context", "unasked", "0", "context", "handled", "context"),
        ("invept", "unasked", "0", "full", "handled", "full"),
        ("none", "unasked", "0", "none", "handled", ""),
        ("default", "unasked", "0", "none", "default", ""),
    ] {
        let policy = Policy::new(flush, "deferred");
        scene.knobs.policy("clear_young", policy)?;
        // Pages that were aged without a flush are not young before this.
        scene.vm.toggle_dirty_log()?;
        scene.vcpus[0].step(2)?;
        recorder.take()?;
        scene.idle.mark(&scene.pfns)?;
        let events = recorder.take()?;
        for event in of(&events, "aged", &dir)? {
            expect(event, &[("coverage", coverage), ("reason", "-")])?;
        }
        let plans = of(&events, "plan", &dir)?;
        ensure!(
            plans.len() as u64 == PAGES,
            "{flush}: {} plans",
            plans.len()
        );
        for plan in plans {
            let due = [
                ("flush", flush),
                ("uncovered", "0"),
                ("gvas", gvas),
                ("mark", mark),
                ("verdict", verdict),
            ];
            expect(plan, &due)?;
        }
        if kind.is_empty() {
            continue;
        }
        let (flush, seen) = step(&scene, &recorder)?;
        expect(&flush, &[("kind", kind), ("why", "-")])?;
        let counts = (seen.invvpid_addr(), seen.invvpid_context(), seen.invept());
        let (gvas, due) = match kind {
            "gva" => (pages.as_str(), (PAGES, 0, 0)),
            "context" => ("0", (0, 1, 0)),
            _ => ("0", (0, 0, 1)),
        };
        expect(&flush, &[("gvas", gvas)])?;
        ensure!(
            counts == due,
            "{flush:?}, but {counts:?} by address, context, INVEPT"
        );
    }
    Ok(())
}

/// Fails if a call that kicks isn't said to, or one that doesn't is.
fn kicks() -> Result<()> {
    let mut scene = gated(HINT)?;
    let dir = scene.dir()?;
    let recorder = Recorder::start("gvahint")?;
    scene.knobs.set("batch_pages", 4)?;
    for (timing, delay, due) in [
        ("now", 0, ["now", "now", "now", "now"]),
        ("batched", 0, ["no", "no", "no", "now"]),
        ("deferred", 0, ["no", "no", "no", "no"]),
        ("deferred", 1000, ["within", "within", "within", "within"]),
    ] {
        scene.knobs.set("max_delay_ms", delay)?;
        let policy = Policy::new("hint", timing);
        scene.knobs.policy("clear_young", policy)?;
        scene.vcpus[0].step(1)?;
        recorder.take()?;
        let before = dir.stats()?;
        scene.idle.mark(&scene.pfns[..4])?;
        let events = recorder.take()?;
        let plans = of(&events, "plan", &dir)?;
        plans
            .iter()
            .try_for_each(|plan| expect(plan, &[("timing", timing)]))?;
        let said: Vec<_> = plans.iter().map(|plan| plan.word("kick")).collect();
        ensure!(said == due, "{timing}, {delay} ms: {said:?}");
        let now = said.iter().filter(|kick| **kick == "now").count() as i64;
        let kicks = more(&dir, &before, "kicks")?;
        ensure!(
            kicks == now,
            "{timing}, {delay} ms: {kicks} kicks, {now} said"
        );
    }
    Ok(())
}

/// Fails if a flush of the context for want of room, or of KVM's own, is not told from one that was
/// asked for, or is told though it was not.
fn flushes() -> Result<()> {
    let pages = 512;
    let mut scene = Scene::gated(pages, HINT)?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.knobs.set("max_delay_ms", 0)?;
    scene.knobs.set("max_gvas_per_entry", 256)?;
    // A log gets its size at HELLO.
    scene.knobs.set("log_entries", 256)?;
    scene.report_user()?;
    scene.vcpus[0].step(1)?;
    let dir = scene.dir()?;
    let recorder = Recorder::start("gvahint")?;
    for (pages, max_gvas, own_flush, kind, why, counter) in [
        (16, 16, false, "gva", "-", "drains"),
        (17, 16, false, "context", "too_many", "too_many"),
        (256, 256, false, "gva", "-", "drains"),
        (257, 256, false, "context", "lagged", "lagged"),
        (17, 16, true, "superseded", "-", "superseded"),
    ] {
        scene.knobs.set("max_gvas_per_entry", max_gvas)?;
        scene.idle.mark(&scene.pfns[..pages])?;
        recorder.take()?;
        let before = dir.stats()?;
        if own_flush {
            scene.vm.toggle_dirty_log()?;
        }
        let (flush, _) = step(&scene, &recorder)?;
        expect(&flush, &[("kind", kind), ("why", why)])?;
        let entries = flush.number("to")? - flush.number("from")?;
        ensure!(
            entries == pages as i64,
            "{pages} entries were due: {flush:?}"
        );
        let gvas = if kind == "gva" { entries } else { 0 };
        ensure!(
            flush.number("gvas")? == gvas,
            "{gvas} gVAs were due: {flush:?}"
        );
        let counted = more(&dir, &before, counter)?;
        ensure!(counted == 1, "stats/{counter}: {counted} more");
        scene.vcpus[0].step(1)?;
        recorder.take()?;
    }
    Ok(())
}

/// Fails if a leaf of 2 MiB is said to be of another size or to begin elsewhere.
fn large_leaf() -> Result<()> {
    let mut scene = large::prepare(large::setup(2 * PIECES, GuestPage::Large))?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.hello()?;
    let gva = scene.setup.first.gva;
    scene.report(&[large_set(0, gva, GuestPage::Large)])?;
    scene.knobs.policy("clear_young", HINT)?;
    scene.start_held()?;
    let recorder = Recorder::start("gvahint")?;
    scene.idle.mark(&large::heads(&scene))?;
    let events = recorder.take()?;
    let aged = of(&events, "aged", &scene.dir()?)?;
    ensure!(aged.len() == 2, "{} leaves: {aged:?}", aged.len());
    for (i, coverage, reason) in [(0, "covered", "-"), (PIECES, "uncovered", "no_hint")] {
        let gfn = format!("0x{:x}", layout::data(i) / PAGE);
        let event = aged.iter().find(|event| event.word("gfn") == gfn);
        let event = event.with_context(|| format!("no event of {gfn}: {aged:?}"))?;
        let due = [("level", "2M"), ("coverage", coverage), ("reason", reason)];
        expect(event, &due)?;
    }
    Ok(())
}

/// Fails if what reclaim ages is not said to be aged by clear_flush_young, by the task that reclaims, or
/// if a VM that does not report is not left to KVM.
fn reclaim() -> Result<()> {
    // Dropped last: the group after everything in it.
    let mut lru = Knobs::new();
    lru.set_file("/sys/kernel/mm/lru_gen/enabled", "0")?;
    let _swap = Swap::new(64 << 20)?;
    let group = Memcg::enter("gvahint-trace")?;
    let mut scene = Scene::prepare(Setup::quiet(PAGES))?;
    scene.start()?;
    let recorder = Recorder::start("gvahint")?;
    scene.vm.memory().deactivate(layout::DATA, PAGES)?;
    group.reclaim(16 * PAGE)?;
    let events = recorder.take()?;
    let plans = of(&events, "plan", &scene.dir()?)?;
    ensure!(!plans.is_empty(), "reclaim aged nothing");
    for plan in plans {
        let due = [
            ("which", "clear_flush_young"),
            ("timing", "batched"),
            ("verdict", "default"),
            ("kick", "no"),
        ];
        expect(plan, &due)?;
        ensure!(plan.task == sys::gettid(), "another task: {plan:?}");
    }
    for event in of(&events, "aged", &scene.dir()?)? {
        expect(
            event,
            &[("which", "clear_flush_young"), ("reason", "no_session")],
        )?;
    }
    Ok(())
}
