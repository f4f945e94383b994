// SPDX-License-Identifier: GPL-2.0
//! Rows to a table for people and to report.json for programs.

mod tax;

use anyhow::{ensure, Context, Result};
use gvahint_vm::row::Row;
use gvahint_vm::stale::Stale;
use gvahint_vm::tax::{Reporter, Tax};
use serde_json::{json, Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

const LEGEND: &str = "\
How to read it: `aged` pages lost their accessed bit while the guest kept touching them; `false idle`
are those it had touched again that the host still took for idle, by the guest's own account;
`covered` is the share with a complete hint. INVEPT and INVVPID are flushes that the CPUs executed
(all VMs, all CPUs), `kicks` the exits that one CPU forced on another. `misses` are the guest's TLB
misses, `per clear` for each aged page: 1.0 is the price of knowing, more is collateral. Where more
pages are pending at an entry than max_gvas_per_entry allows (`hint` deferred with all pages aged),
one context flush serves them all.
`work` are the guest's sweeps over its set in the time of the run.
On profile leaf-cached the CPU keeps guest-physical translations that INVVPID does not drop: `hint` and
`context` stay blind there, as the architecture allows; only INVEPT helps.";

/// Reads outputs of demo runs, prints tables and writes the report. Fails at last if reporting costs guests
/// more than is promised.
pub fn run(
    files: &[PathBuf],
    report: &Path,
    bochs: Option<String>,
    commit: Option<String>,
) -> Result<()> {
    let mut machine = Map::new();
    let mut rows: Vec<Row> = Vec::new();
    let mut taxes: Vec<Tax> = Vec::new();
    let mut reporters: Vec<Reporter> = Vec::new();
    let mut stale: Vec<Stale> = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        for line in text.lines() {
            if let Some(json) = line.strip_prefix("MACHINE ") {
                machine = serde_json::from_str(json).context("MACHINE line")?;
            } else if let Some(json) = line.strip_prefix("TAX ") {
                taxes.push(serde_json::from_str(json).with_context(|| format!("tax {json}"))?);
            } else if let Some(json) = line.strip_prefix("REPORTER ") {
                let reporter = serde_json::from_str(json);
                reporters.push(reporter.with_context(|| format!("reporter {json}"))?);
            } else if let Some(json) = line.strip_prefix("STALE ") {
                stale.push(serde_json::from_str(json).with_context(|| format!("stale {json}"))?);
            } else if let Some(json) = line
                .strip_prefix("ROW ")
                .or(line.strip_prefix('{').and(Some(line)))
            {
                rows.push(serde_json::from_str(json).with_context(|| format!("row {json}"))?);
            }
        }
    }
    ensure!(!rows.is_empty(), "no rows in these files");
    for (name, value) in [("bochs", bochs), ("commit", commit)] {
        if let Some(value) = value {
            machine.insert(name.into(), Value::String(value));
        }
    }
    print_tables(&rows);
    println!("\n{LEGEND}");
    tax::print(&taxes, &reporters);
    tax::print_stale(&stale);
    let value = json!({
        "schema": 1,
        "machine": machine,
        "rows": rows,
        "tax": taxes,
        "reporter": reporters,
        "stale": stale,
    });
    if let Some(parent) = report.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(report, serde_json::to_string_pretty(&value)? + "\n")?;
    println!("\n{} rows in {}", rows.len(), report.display());
    let excess: Vec<_> = taxes.iter().filter_map(Tax::excess).collect();
    ensure!(
        excess.is_empty(),
        "reporting costs guests more than 1 %: {}",
        excess.join(", ")
    );
    Ok(())
}

fn print_tables(rows: &[Row]) {
    for same in rows.chunk_by(|a, b| {
        let key = |row: &'_ Row| {
            (
                row.profile.clone(),
                row.scenario.clone(),
                row.backing.clone(),
                row.ager.clone(),
            )
        };
        key(a) == key(b)
    }) {
        let first = &same[0];
        println!(
            "\n{}, profile {}, backed by {}, ager {}",
            first.scenario, first.profile, first.backing, first.ager
        );
        println!(
            "{:24} {:>6} {:>8} {:>11} {:>7} {:>8} {:>7} {:>7} {:>7} {:>9} {:>9} {:>10} {:>7}",
            "flush/uncovered/timing",
            "aged",
            "covered",
            "false idle",
            "INVEPT",
            "INVVPID",
            "context",
            "exits",
            "kicks",
            "misses",
            "per clear",
            "walk refs",
            "work"
        );
        for row in same {
            let share = 100.0 * row.false_share();
            println!(
                "{:24} {:>6} {:>8} {:>5} {:>4.0}% {:>7} {:>8} {:>7} {:>7} {:>7} {:>9} {:>9.1} {:>10} {:>7}",
                row.policy(),
                row.aged,
                row.coverage.map_or("-".to_owned(), |share| format!("{:.2}%", 100.0 * share)),
                row.false_idle,
                share,
                row.invept,
                row.invvpid_addr,
                row.invvpid_context,
                row.vm_exits,
                row.kicks,
                row.tlb_misses,
                row.misses_per_clear(),
                row.walk_refs,
                row.guest_work
            );
        }
    }
}
