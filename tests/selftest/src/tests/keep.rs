// SPDX-License-Identifier: GPL-2.0
//! Page tables, which no gVA leads to: kept young within a quota.

use super::Test;
use crate::scene::{need_profile, user_set, Scene};
use anyhow::{ensure, Context, Result};
use gvahint_vm::hints::{kind, Set};
use gvahint_vm::knobs::Policy;
use gvahint_vm::{age, layout, sys, PAGE};

pub const TESTS: &[Test] = &[
    Test::new(
        "page_tables",
        "pages that the guest's CPU walks through, within the quota and beyond",
        |_| page_tables(),
    ),
    Test::new(
        "keep_quota",
        "a guest that declares everything a page table",
        |_| quota(),
    ),
    Test::new("keep_ends", "what ends the veto", |_| ends()),
    Test::new(
        "keep_former",
        "pages that were page tables and are reported as data",
        |_| former(),
    ),
];

const HINT: Policy = Policy::new("hint", "deferred");
const HINT_ONLY: Policy = Policy {
    uncovered: "none",
    ..HINT
};
const PAGES: u64 = 1024;

/// Pages of a VM that may be kept young.
fn limit(scene: &Scene) -> u64 {
    scene.vm.memory().len() / PAGE / 256
}

fn page_table(gpa: u64) -> Set {
    Set::of_kind(gpa / PAGE, kind::PAGE_TABLE)
}

/// A vCPU that reads data through two leaf tables, and stands outside the guest.
struct Walked {
    scene: Scene,
    gpas: Vec<u64>,
    pfns: Vec<u64>,
}

impl Walked {
    fn new(policy: Policy) -> Result<Self> {
        let mut scene = Scene::gated(PAGES, policy)?;
        need_profile(&scene.machine, &["combined-only"])?;
        let tables = [0, 512].map(|i| scene.vm.leaf_table(layout::USER + i * PAGE));
        let gpas = tables.into_iter().collect::<Result<Vec<_>>>()?;
        let pfns = age::pfns(scene.vm.memory(), gpas.iter().copied())?;
        Ok(Self { scene, gpas, pfns })
    }

    /// A new session in which the data has hints, `first` frames were declared page tables, then
    /// the tables that are some; everything is young and in the TLB.
    fn report(&mut self, first: u64) -> Result<()> {
        let scene = &mut self.scene;
        scene.report_user()?;
        let spare = layout::DATA - first * PAGE;
        let tables = (0..first).map(|i| spare + i * PAGE);
        let sets: Vec<_> = tables
            .chain(self.gpas.iter().copied())
            .map(page_table)
            .collect();
        scene.report(&sets)?;
        self.refresh()
    }

    /// Says something else of the tables.
    fn now(&mut self, kind: u64) -> Result<()> {
        let sets = self.gpas.iter().map(|gpa| Set::of_kind(gpa / PAGE, kind));
        let sets: Vec<_> = sets.collect();
        self.scene.report_only(&sets)
    }

    fn refresh(&self) -> Result<()> {
        self.scene.vm.toggle_dirty_log()?;
        self.scene.vcpus[0].step(1)
    }

    /// Ages the tables and the data, runs one sweep; how many INVEPT, how many tables are idle.
    fn round(&self) -> Result<(u64, u64)> {
        self.scene.idle.mark(&self.pfns)?;
        self.scene.idle.mark(&self.scene.pfns)?;
        let invept = self.scene.step()?.invept();
        Ok((invept, self.scene.idle.count(&self.pfns)?))
    }
}

/// Fails if table pages that the CPU walked are idle, or cost an INVEPT, although the quota has room
/// for them; if beyond it they are idle although an INVEPT was due, or if the data's own flushes age
/// them right (then the model keeps less than the SDM allows).
fn page_tables() -> Result<()> {
    let mut walked = Walked::new(HINT)?;
    let limit = limit(&walked.scene);
    for (policy, first, expected) in [
        (HINT, limit, (1, 0)),
        (HINT_ONLY, limit, (0, 2)),
        (HINT, limit - 2, (0, 0)),
        (HINT_ONLY, limit - 2, (0, 0)),
        (HINT_ONLY, limit - 1, (0, 1)),
    ] {
        walked.scene.knobs.policy("clear_young", policy)?;
        walked.report(first)?;
        let pages = walked.scene.stat("kept_pages")?;
        ensure!(pages == limit, "{pages} pages kept, the quota is {limit}");
        let before = walked.scene.stat("kept")?;
        let found = walked.round()?;
        ensure!(
            found == expected,
            "uncovered={}, {first} frames before the tables: {found:?} INVEPT, idle tables",
            policy.uncovered
        );
        // When they were marked, and when they were looked at.
        let kept = walked.scene.stat("kept")? - before;
        let due = 2 * (limit - first).min(2);
        ensure!(kept == due, "{kept} times kept, not {due}");
    }
    Ok(())
}

/// Fails if a guest that declares all its memory to be page tables has another number of pages kept
/// young than the quota, while it touches none; or any, once it says something else of them.
fn quota() -> Result<()> {
    let mut scene = Scene::gated(PAGES, HINT)?;
    let limit = limit(&scene);
    let frames = scene.vm.memory().len() / PAGE;
    let all = (layout::DATA / PAGE..frames).chain(0..layout::DATA / PAGE);
    let sets: Vec<_> = all.map(|gfn| page_table(gfn * PAGE)).collect();
    for round in 0..3 {
        scene.report(&sets)?;
        let pages = scene.stat("kept_pages")?;
        ensure!(pages == limit, "{pages} pages kept, the quota is {limit}");
        scene.idle.mark(&scene.pfns)?;
        let young = PAGES - scene.idle.count(&scene.pfns)?;
        println!("{young} of {PAGES} idle pages stay young, the quota is {limit}");
        ensure!(
            young == limit,
            "round {round}: {young} untouched pages are young, the quota is {limit}"
        );
    }
    let ranges = (0..frames).step_by(512);
    let sets: Vec<_> = ranges
        .map(|gfn| Set::new(gfn, 9, kind::PAGE_TABLE, 0, &[]))
        .collect();
    scene.report(&sets)?;
    let pages = scene.stat("kept_pages")?;
    ensure!(
        pages == 0,
        "by 2 MiB: {pages} pages kept, the quota is {limit}"
    );
    scene.idle.mark(&scene.pfns)?;
    let young = PAGES - scene.idle.count(&scene.pfns)?;
    ensure!(young == 0, "by 2 MiB: {young} untouched pages are young");
    Ok(())
}

/// Fails if a page is kept after the guest took it back, fell silent or left, or under another policy; is
/// not kept where nothing is flushed though its hint is too old; or if its memslot's end gives no place back.
fn ends() -> Result<()> {
    type End = fn(&mut Walked) -> Result<()>;
    let cases: [(&str, End); 5] = [
        ("revoked", |walked| walked.now(kind::REVOKED)),
        ("aged", |walked| {
            walked.scene.knobs.set("hint_max_age_ms", 200)?;
            sys::sleep_ms(300);
            Ok(())
        }),
        ("lapsed", |walked| {
            walked.scene.knobs.set("lease_ms", 200)?;
            sys::sleep_ms(300);
            Ok(())
        }),
        ("policy none", |walked| {
            walked.scene.knobs.set("clear_young/flush", "none")
        }),
        ("bye", |walked| {
            let reporter = walked.scene.reporter.as_mut().context("a session")?;
            let answer = reporter.bye()?;
            ensure!(answer == 0, "BYE answered {answer}");
            let pages = walked.scene.stat("kept_pages")?;
            ensure!(pages == 0, "{pages} pages kept after BYE");
            Ok(())
        }),
    ];
    let mut walked = Walked::new(HINT_ONLY)?;
    for (name, end) in cases {
        walked.scene.knobs.policy("clear_young", HINT_ONLY)?;
        walked.scene.knobs.set("hint_max_age_ms", 60_000)?;
        walked.scene.knobs.set("lease_ms", 10_000)?;
        walked.report(0)?;
        let found = walked.round()?;
        ensure!(
            found == (0, 0),
            "before {name}: {found:?} INVEPT, idle tables"
        );
        walked.refresh()?;
        end(&mut walked)?;
        let found = walked.round()?;
        // Nothing is flushed for what is uncovered; so what is only too old stays young.
        let due = if name == "aged" { 0 } else { 2 };
        ensure!(found.1 == due, "{name}: {} of 2 tables idle", found.1);
    }
    let scene = &mut walked.scene;
    scene.hello()?;
    scene.report(&[page_table(walked.gpas[0])])?;
    scene.vm.set_window(true)?;
    let window = scene.vm.window();
    scene.report(&[page_table(window), page_table(window + PAGE), user_set(0)])?;
    let before = scene.stat("kept_pages")?;
    scene.vm.set_window(false)?;
    let after = scene.stat("kept_pages")?;
    ensure!(
        (before, after) == (3, 1),
        "{before} pages kept with the memslot, {after} without"
    );
    Ok(())
}

/// Fails if a page that the CPU walked through while it was a page table, or was not known, is aged as
/// data by a flush that leaves the CPU how it got there; or if more than one INVEPT is spent on that,
/// however many such pages a report has. Nothing but the CPU's walks touches them: so they are idle
/// unless that flush made it walk anew, and idle in the round after.
fn former() -> Result<()> {
    let mut walked = Walked::new(HINT_ONLY)?;
    for before in [kind::PAGE_TABLE, kind::REVOKED] {
        walked.report(0)?;
        walked.now(before)?;
        let found = walked.round()?;
        let idle = if before == kind::REVOKED { 2 } else { 0 };
        ensure!(
            found == (0, idle),
            "kind {before}: {found:?} INVEPT, idle tables"
        );
        walked.now(kind::ANYWHERE)?;
        for expected in [(1, 0), (0, 2)] {
            let found = walked.round()?;
            ensure!(
                found == expected,
                "ANYWHERE after kind {before}: {found:?} INVEPT, idle tables"
            );
        }
    }
    let turned = walked.scene.stat("turned")?;
    ensure!(turned == 2, "counted as {turned}");
    Ok(())
}
