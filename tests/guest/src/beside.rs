// SPDX-License-Identifier: GPL-2.0
//! A guest beside one that has lost its canary.

use crate::ager::{Ager, Found};
use crate::guest::{Guest, Plan, REPORTER};
use anyhow::{ensure, Result};
use gvahint_vm::knobs::risen;
use gvahint_vm::sys;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Machine time in which a guest begins a session, or is covered.
const SOON: Duration = Duration::from_millis(2_500);

/// Ages a guest that is degraded, under `hint`, together with one that is not because it asks no canary.
/// Fails unless one is aged as exactly as by INVEPT and uses no hint, and the other uses nothing else
/// and is aged as badly as hints do on this host: then none of the first one's flushes reaches it.
pub fn check(ager: &mut Ager, degraded: &mut Guest) -> Result<()> {
    let mut plan = Plan::new("random", 4);
    plan.append = "gvahint.orders=1".to_owned();
    // Another process: that is how a guest finds its VM.
    plan.qemu = Some("microvm".to_owned());
    let mut other = Guest::boot(&plan)?;
    for (file, value) in [("canary_ms", 0), ("enabled", 0), ("enabled", 1)] {
        other.order(&format!("write {REPORTER}/{file} {value}"))?;
        if file == "enabled" {
            await_state(&other, ["silent", "live"][value])?;
        }
    }
    let start = Instant::now();
    loop {
        let found = age(ager, &mut other)?;
        // Nor is anything flushed in full for what it has reported just now.
        if found.coverage().unwrap_or(0.0) >= 0.99 && stat(&found.stats, "turned") == 0 {
            break;
        }
        ensure!(
            start.elapsed() < degraded.patience(SOON),
            "the other guest is not covered"
        );
    }
    for round in 0..3 {
        let before = other.dir()?.stats()?;
        let found = age(ager, degraded)?;
        let rose = risen(&before, other.dir()?.stats()?);
        println!("beside another, degraded: {found}");
        ensure!(
            found.share() <= 0.001 && stat(&found.stats, "covered") == 0,
            "round {round}: {} of {} pages of the degraded guest are falsely idle, {} were covered",
            found.false_idle,
            found.touched,
            stat(&found.stats, "covered")
        );
        let full = stat(&found.stats, "appended_full");
        ensure!(full > 0, "round {round}: the degraded guest is not flushed");
        ensure!(
            stat(&rose, "aged") == 0 && stat(&rose, "appended_full") == 0,
            "round {round}: ageing one guest ages the other: {rose:?}"
        );
        let found = age(ager, &mut other)?;
        println!("beside a degraded one: {found}");
        ensure!(
            found.share() >= 0.9 && found.coverage().unwrap_or(0.0) >= 0.99,
            "round {round}: the other guest does without its hints: {found}"
        );
        let state = (degraded.dir()?.read("state")?, other.dir()?.read("state")?);
        ensure!(
            state == ("degraded".to_owned(), "live".to_owned()),
            "round {round}: the guests are {state:?}"
        );
    }
    other.finish()?;
    other.check_console()
}

/// Ages a guest of which no page is old.
fn age(ager: &mut Ager, guest: &mut Guest) -> Result<Found> {
    guest.forget()?;
    guest.await_sweeps(2, SOON)?;
    let before = guest.dir()?.stats()?;
    let mut found = ager.again(guest)?;
    found.stats = risen(&before, guest.dir()?.stats()?);
    Ok(found)
}

fn stat(stats: &BTreeMap<String, u64>, name: &str) -> u64 {
    stats.get(name).copied().unwrap_or(0)
}

fn await_state(guest: &Guest, goal: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let state = guest.dir()?.read("state")?;
        if state == goal {
            return Ok(());
        }
        ensure!(
            start.elapsed() < guest.patience(SOON),
            "the other guest is {state}, not {goal}"
        );
        sys::sleep_ms(5);
    }
}
