// SPDX-License-Identifier: GPL-2.0
//! What is written to the module's files: nothing but the verdict and one number, and only if asked.

use crate::host::GVAS_AT_ONCE;
use crate::refusal::Refusal;
use crate::report::Report;
use crate::Watcher;
use anyhow::{ensure, Result};
use gvahint_vm::{knobs, sys};
use std::fs::File;
use std::io::{stderr, Write};
use std::path::PathBuf;

const CALIBRATION: &str = "calibration";
const MAX_GVAS: &str = "max_gvas_per_entry";

fn file(name: &str) -> PathBuf {
    PathBuf::from(knobs::ROOT).join(name)
}

/// Fails if another calibrate is at work, until what this returns is dropped: each would take the
/// other's doings for a disturbance.
pub(crate) fn alone() -> Result<File> {
    let lock = File::open(file(CALIBRATION))?;
    ensure!(
        sys::lock(&lock)?,
        Refusal::unfit("another calibrate is at work", "wait for it to end")
    );
    Ok(lock)
}

/// A failed verdict of an earlier run, which does not hold until this is dropped.
pub struct Suspended(Option<String>);

impl Suspended {
    /// Takes it out of force, if there is one.
    pub(crate) fn new(watcher: &mut Watcher<'_>) -> Result<Self> {
        let verdict = sys::read(file(CALIBRATION))?;
        if !verdict.starts_with("failed") {
            return Ok(Self(None));
        }
        let note = format!("while this runs, {verdict} does not hold: hints of all VMs are used");
        (watcher.progress)(&note);
        sys::write(file(CALIBRATION), "uncalibrated")?;
        Ok(Self(Some(verdict)))
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        // Whoever wrote another one meanwhile knows better.
        let is_ours = || sys::read(file(CALIBRATION)).is_ok_and(|now| now == "uncalibrated");
        if let Some(verdict) = self.0.as_ref().filter(|_| is_ours()) {
            if let Err(error) = sys::write(file(CALIBRATION), verdict) {
                // Not eprintln!, which panics where nobody reads.
                let _ = writeln!(stderr(), "{CALIBRATION} is not {verdict} again: {error:#}");
            }
        }
    }
}

/// One file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name below the module's directory.
    pub name: &'static str,
    /// What it gets.
    pub value: String,
}

impl Change {
    /// Writes it; returns what it held.
    pub fn make(&self) -> Result<String> {
        let old = sys::read(file(self.name))?;
        sys::write(file(self.name), &self.value)?;
        Ok(old)
    }
}

/// What a report changes; `max_gvas` says whether the break-even count is set, too. Nothing without a
/// verdict, or where it was reached on one of several kinds of CPUs.
pub fn changes(report: &Report, max_gvas: bool) -> Result<Vec<Change>> {
    let log_entries = sys::read(file("log_entries"))?.parse()?;
    Ok(changes_for(report, max_gvas, log_entries))
}

fn changes_for(report: &Report, max_gvas: bool, log_entries: u64) -> Vec<Change> {
    let Some(verdict) = report.verdict.value() else {
        return Vec::new();
    };
    if report.host.cpu_kinds > 1 {
        return Vec::new();
    }
    let mut changes = vec![Change {
        name: CALIBRATION,
        value: verdict.to_owned(),
    }];
    if let (true, Some(costs)) = (max_gvas, &report.costs) {
        // Where single gVAs are never dearer, as many as there can be; never so few that no later run
        // of this could drop what it has to.
        let gvas = costs.break_even.unwrap_or(log_entries);
        let gvas = gvas.max(GVAS_AT_ONCE);
        changes.push(Change {
            name: MAX_GVAS,
            value: gvas.min(log_entries).to_string(),
        });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::costs::Costs;
    use crate::host::Host;
    use crate::verdict::Verdict;

    fn report(verdict: Verdict, break_even: Option<u64>) -> Report {
        Report {
            schema: 1,
            tool: "0",
            host: Host::default(),
            confidence: 0.95,
            allowed_stale: 0.01,
            cells: Vec::new(),
            page_tables: Vec::new(),
            costs: Some(Costs {
                working_set: 1,
                exit: 0.0,
                invvpid_address: 0.0,
                invvpid_context: 0.0,
                invept: 0.0,
                walk_after_context: 0.0,
                walk_after_invept: 0.0,
                by_gvas: Vec::new(),
                by_context: 0.0,
                break_even,
            }),
            verdict,
        }
    }

    // Fails if anything is set without a verdict, or a number that the module or a later run refuses.
    #[test]
    fn only_a_verdict_is_written() {
        for verdict in [Verdict::Inconclusive, Verdict::Nested] {
            assert!(changes_for(&report(verdict, Some(9)), true, 4096).is_empty());
        }
        let values = |break_even, max_gvas| {
            let changes = changes_for(&report(Verdict::FailedInvept, break_even), max_gvas, 4096);
            changes
                .into_iter()
                .map(|change| change.value)
                .collect::<Vec<_>>()
        };
        assert_eq!(values(Some(9), false), ["failed-invept"]);
        assert_eq!(values(Some(9), true), ["failed-invept", "9"]);
        assert_eq!(values(Some(1), true), ["failed-invept", "3"]);
        assert_eq!(values(Some(99_999), true), ["failed-invept", "4096"]);
        assert_eq!(values(None, true), ["failed-invept", "4096"]);
        let mut mixed = report(Verdict::Passed, None);
        mixed.host.cpu_kinds = 2;
        assert!(changes_for(&mixed, true, 4096).is_empty());
    }
}
