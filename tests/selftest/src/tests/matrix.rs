// SPDX-License-Identifier: GPL-2.0
//! Every policy on a TLB-resident hot set, on guests that exit and on guests that don't.

use super::Test;
use crate::hotset::{policies, HotSet, Share};
use crate::scene::{self, need_cpus, need_profile, tickless};
use anyhow::{ensure, Result};
use gvahint_vm::code::After;
use gvahint_vm::row::Row;
use gvahint_vm::sys;

pub const TESTS: &[Test] = &[
    Test::new(
        "hotset_all",
        "every policy, all pages aged, a guest that never exits",
        |full| check(&matrix(|p| HotSet::new(p, Share::All), full)?),
    ),
    Test::new(
        "hotset_sixteenth",
        "the same with a sixteenth aged a round",
        |full| {
            let full = full || !sys::kernel_looks_for_bugs();
            check(&matrix(|p| HotSet::new(p, Share::Sixteenth), full)?)
        },
    ),
    Test::new(
        "hotset_exits",
        "a guest that exits at every sweep",
        |full| {
            let run = |p| HotSet {
                after: After::Out,
                ..HotSet::new(p, Share::Sixteenth)
            };
            check(&matrix(run, full)?)
        },
    ),
    Test::new(
        "hotset_reentry",
        "a guest that exits on KVM's fast path at every sweep",
        |full| {
            let run = |p| HotSet {
                after: After::FastReentry,
                ..HotSet::new(p, Share::Sixteenth)
            };
            check(&matrix(run, full)?)
        },
    ),
    Test::new(
        "hotset_own_flush",
        "a guest that flushes its own TLB at every sweep",
        |full| {
            let run = |p| HotSet {
                after: After::OwnFlush,
                ..HotSet::new(p, Share::Sixteenth)
            };
            check_fresh(&matrix(run, full)?)
        },
    ),
    Test::new(
        "hotset_halts",
        "a guest that halts at every sweep",
        |full| {
            let run = |p| HotSet {
                after: After::Halt,
                ..HotSet::new(p, Share::Sixteenth)
            };
            check(&matrix(run, full)?)
        },
    )
    .only_full(),
    Test::new(
        "hotset_vcpus",
        "several vCPUs that read the same pages",
        |full| {
            let run = |p| HotSet {
                vcpus: 3,
                ..HotSet::new(p, Share::Sixteenth)
            };
            check(&matrix(run, full)?)
        },
    ),
    Test::new("hotset_moving", "vCPUs that move from CPU to CPU", |full| {
        need_cpus(2)?;
        let run = |p| HotSet {
            vcpus: 2,
            moving: true,
            ..HotSet::new(p, Share::Sixteenth)
        };
        check_fresh(&matrix(run, full)?)
    })
    .only_full(),
];

/// Rows of all policies, or of those that no other stands in for.
fn matrix(of: impl Fn(gvahint_vm::knobs::Policy) -> HotSet, full: bool) -> Result<Vec<Row>> {
    need_profile(&scene::machine()?, &["combined-only", "leaf-cached"])?;
    let picked = |p: &gvahint_vm::knobs::Policy| {
        full || p.flush == "none"
            || (p.flush == "hint" && p.uncovered == "full")
            || p.timing == "deferred"
    };
    policies()
        .into_iter()
        .filter(picked)
        .map(|policy| {
            let row = of(policy).run()?;
            row.print()?;
            Ok(row)
        })
        .collect()
}

/// Fails if a policy that flushes what the CPU caches leaves a touched page idle, or one that
/// doesn't shows it as touched (the test would then see nothing); if `hint` executes an INVEPT or
/// costs more than the pages' own refills; if `deferred` kicks.
fn check(rows: &[Row]) -> Result<()> {
    for row in rows {
        let name = format!("{} {}", row.scenario, row.policy());
        let (idle, touched) = (row.false_idle, row.touched);
        match expected(row) {
            Expected::Stale => {
                ensure!(
                    row.false_share() >= 0.95,
                    "{name}: only {idle} of {touched} are stale"
                );
            }
            Expected::Fresh => ensure!(idle == 0, "{name}: {idle} of {touched} are falsely idle"),
        }
        if row.flush == "hint" {
            ensure!(
                row.invept == 0,
                "{name}: {} INVEPT for covered pages",
                row.invept
            );
            exact(row)?;
        }
        if row.timing == "deferred" {
            // Where the host schedules as well, its own interrupts have the same vectors.
            let others = match tickless() {
                _ if sys::kernel_looks_for_bugs() => row.aged / 100,
                true => 0,
                false => row.vcpus as u64,
            };
            ensure!(row.kicks <= others, "{name}: {} kicks", row.kicks);
        }
    }
    batched_is_cheap(rows)
}

/// Fails if `hint` drops anything but the aged pages' translations, one at a time. Only where all pages
/// wait for the next entry may there be more than `max_gvas_per_entry`: it depends on how many of them
/// the host ages between two ticks.
fn exact(row: &Row) -> Result<()> {
    let name = format!("{} {}", row.scenario, row.policy());
    let crowded = row.timing == "deferred" && row.scenario.contains("/all");
    ensure!(
        crowded || row.invvpid_context == 0,
        "{name}: {} context flushes",
        row.invvpid_context
    );
    if row.invvpid_context == 0 {
        let (due, done) = (row.aged * row.vcpus as u64, row.invvpid_addr);
        ensure!(
            done == due,
            "{name}: {done} INVVPID for {} aged pages",
            row.aged
        );
        let each = row.misses_per_clear() / row.vcpus as f64;
        ensure!(each < 1.5, "{name}: {each:.1} TLB misses a cleared page");
    }
    Ok(())
}

/// For guests whose staleness something else hides (a move to another CPU, their own CR3 writes): only
/// what must come back is checked, and INVEPT may be the move's own.
/// Fails if a policy that flushes leaves a touched page idle.
fn check_fresh(rows: &[Row]) -> Result<()> {
    for row in rows
        .iter()
        .filter(|row| matches!(expected(row), Expected::Fresh))
    {
        let name = format!("{} {}", row.scenario, row.policy());
        ensure!(
            row.false_idle == 0,
            "{name}: {} are falsely idle",
            row.false_idle
        );
    }
    Ok(())
}

enum Expected {
    Stale,
    Fresh,
}

/// On leaf-cached, dropping combined mappings doesn't suffice: the refill hits the cached leaf.
fn expected(row: &Row) -> Expected {
    match (row.flush.as_str(), row.profile.as_str()) {
        ("default" | "none", _) | ("hint" | "context", "leaf-cached") => Expected::Stale,
        _ => Expected::Fresh,
    }
}

/// Fails if a kick per batch costs more than a twentieth of the exits of a kick per page, beyond those
/// that there are without any. Only a guest that doesn't exit by itself can show it.
fn batched_is_cheap(rows: &[Row]) -> Result<()> {
    let exits = |timing: &str| {
        let same =
            |row: &&Row| row.flush == "hint" && row.uncovered == "full" && row.timing == timing;
        let row = rows.iter().find(same)?;
        row.scenario
            .starts_with("hotset/4096/all")
            .then_some(row.vm_exits)
    };
    let all = (exits("now"), exits("batched"), exits("deferred"));
    if let (Some(now), Some(batched), Some(others)) = all {
        ensure!(
            batched.saturating_sub(others) * 20 <= now.saturating_sub(others),
            "now: {now} exits, batched: {batched}, deferred: {others}"
        );
    }
    Ok(())
}
