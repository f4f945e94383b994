// SPDX-License-Identifier: GPL-2.0
//! clear_flush_young by real reclaim, clear_young by DAMON.

use super::Test;
use crate::meter::Meter;
use crate::scene::{need_profile, Scene, Setup};
use anyhow::{ensure, Result};
use gvahint_vm::code::Region;
use gvahint_vm::damon::{Damon, Space};
use gvahint_vm::hints::{kind, Set};
use gvahint_vm::knobs::{Knobs, Policy};
use gvahint_vm::reclaim::{Memcg, Swap};
use gvahint_vm::row::Row;
use gvahint_vm::trace::{Counter, AGE_HVA};
use gvahint_vm::{layout, sys, PAGE};
use std::slice::from_ref;

pub const TESTS: &[Test] = &[
    Test::new(
        "reclaim_policies",
        "memcg reclaim to zram while a hot set is in use",
        |_| policies(),
    ),
    Test::new(
        "damon_accesses",
        "DAMON sees the accesses that a policy shows it",
        |_| damon(),
    ),
];

/// Pages that the guest keeps reading.
const HOT: u64 = 512;
/// Pages that this process writes to before each step: reclaim passes them by the first time and
/// comes to the hot ones.
const COLD: u64 = 512;
const STEPS: u64 = 6;
/// Less than is cold, or reclaim would go round and round over the hot set.
const STEP: u64 = 64 * PAGE;

/// EPT violations on hot pages: each was unmapped although in use.
fn lost_hot() -> Result<Counter> {
    let end = layout::DATA + HOT * PAGE;
    let filter = format!("fault_address >= {} && fault_address < {end}", layout::DATA);
    Counter::start(("kvm/kvm_page_fault", &filter))
}

fn reclaim(policy: Policy) -> Result<Row> {
    // Dropped last: the group after everything in it.
    let mut lru = Knobs::new();
    lru.set_file("/sys/kernel/mm/lru_gen/enabled", "0")?;
    let _swap = Swap::new(64 << 20)?;
    let group = Memcg::enter("gvahint-reclaim")?;
    let mut setup = Setup::quiet(HOT + COLD);
    setup.first = Region {
        gva: layout::USER,
        pages: HOT,
    };
    let mut scene = Scene::prepare(setup)?;
    scene.report_user()?;
    // Its code and its tables are pages like any other to reclaim.
    let own = |gpa| Set::mapped(gpa / PAGE, &[gpa]);
    let sets: Vec<_> = (0..layout::IDENTITY_END)
        .step_by(PAGE as usize)
        .map(own)
        .collect();
    scene.report(&sets)?;
    let table = |gpa| Set::of_kind(gpa / PAGE, kind::PAGE_TABLE);
    let end = layout::TABLES + 32 * PAGE;
    let sets: Vec<_> = (layout::TABLES..end)
        .step_by(PAGE as usize)
        .map(table)
        .collect();
    scene.report(&sets)?;
    scene.knobs.policy("clear_flush_young", policy)?;
    let (calls, lost) = (Counter::start(AGE_HVA)?, lost_hot()?);
    let meter = Meter::start(&mut scene, "reclaim")?;
    lost.reset()?;
    let swapped = gvahint_vm::reclaim::vmstat("pswpout")?;
    for _ in 0..STEPS {
        scene.vm.memory().deactivate(layout::DATA, HOT)?;
        scene.vm.memory().populate(layout::data(HOT), COLD);
        // The kernel may give less than asked for.
        group.reclaim(STEP)?;
        sys::sleep_ms(crate::scene::TICKS_MS);
        // All of it is touched in each step.
        scene.warm(1)?;
    }
    let row = meter.row(&scene, format!("reclaim/{HOT}"), policy)?;
    let (calls, false_idle) = (calls.count()?, lost.count()?);
    let swapped = gvahint_vm::reclaim::vmstat("pswpout")? - swapped;
    println!(
        "{}: {calls} notifier calls, {swapped} pages swapped out",
        row.policy()
    );
    ensure!(calls > 0, "reclaim did not ask KVM");
    ensure!(swapped > 0, "nothing was reclaimed");
    Ok(Row {
        touched: HOT * STEPS,
        false_idle,
        ..row
    })
}

/// One row a policy: reclaim under memory pressure while a hot set is in use.
pub fn rows() -> Result<Vec<Row>> {
    let policies = [
        Policy::new("default", "now"),
        Policy::new("none", "now"),
        Policy::new("hint", "now"),
        Policy::new("hint", "batched"),
        Policy::new("context", "batched"),
        Policy::new("invept", "batched"),
    ];
    policies.into_iter().map(reclaim).collect()
}

/// Fails if `default` doesn't execute INVEPTs by the hundred, if `hint` needs more than a tenth of
/// them, if either reclaims the hot set, or if `none` doesn't (then nothing would have been stale).
fn policies() -> Result<()> {
    let profile = need_profile(&crate::scene::machine()?, &["combined-only", "leaf-cached"])?;
    let rows = rows()?;
    rows.iter().try_for_each(Row::print)?;
    let of = |flush: &str, timing: &str| {
        let same = |row: &&Row| row.flush == flush && row.timing == timing;
        rows.iter().find(same).expect("rows() holds it")
    };
    let default = of("default", "now");
    ensure!(
        default.invept >= HOT,
        "default: only {} INVEPT",
        default.invept
    );
    // Not more: each hot page that is unmapped flushes in full, and uncovers what all others hide.
    let lost = of("none", "now").false_idle;
    ensure!(lost >= STEPS, "none: only {lost} hot pages reclaimed");
    ensure!(
        default.false_idle <= HOT / 100,
        "default: {} hot reclaimed",
        default.false_idle
    );
    if profile == "leaf-cached" {
        return Ok(());
    }
    for hint in [of("hint", "now"), of("hint", "batched")] {
        let (name, lost) = (hint.policy(), hint.false_idle);
        ensure!(lost <= HOT / 100, "{name}: {lost} hot pages reclaimed");
        ensure!(
            hint.invept * 10 <= default.invept,
            "{name}: {} INVEPT",
            hint.invept
        );
    }
    Ok(())
}

/// Fails if DAMON doesn't reach KVM, sees accesses although nothing is flushed, or misses them
/// although the pages' translations are.
fn damon() -> Result<()> {
    let seen = |policy| -> Result<(u64, u64)> {
        let mut scene = Scene::prepare(Setup::quiet(HOT))?;
        need_profile(&scene.machine, &["combined-only"])?;
        scene.report_user()?;
        scene.knobs.policy("clear_young", policy)?;
        scene.start()?;
        let calls = Counter::start(AGE_HVA)?;
        let start = scene.vm.memory().hva(layout::DATA);
        let all = start..start + HOT * PAGE;
        let damon = Damon::start(Space::Virtual, from_ref(&all), 20_000, 200_000)?;
        sys::sleep_ms(450);
        let regions = damon.regions()?;
        drop(damon);
        ensure!(calls.count()? > 0, "DAMON did not ask KVM");
        ensure!(!regions.is_empty(), "DAMON shows no regions");
        let accesses = regions.iter().map(|region| region.accesses).sum();
        scene.warm(1)?;
        println!(
            "{}: {accesses} accesses in {} regions",
            policy.flush,
            regions.len()
        );
        Ok((accesses, regions.len() as u64))
    };
    let (none, regions) = seen(Policy::new("none", "now"))?;
    ensure!(
        none <= regions,
        "none: {none} accesses in {regions} regions"
    );
    let (hint, regions) = seen(Policy::new("hint", "deferred"))?;
    ensure!(
        hint >= 7 * regions,
        "hint: only {hint} accesses in {regions} regions"
    );
    Ok(())
}
