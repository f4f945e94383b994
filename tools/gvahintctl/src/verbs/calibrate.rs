// SPDX-License-Identifier: GPL-2.0
//! `calibrate`: does dropping single addresses suffice on this host's CPUs, and what does it cost?

use super::{print, tell};
use crate::failure::{Failure, Kind, Result};
use crate::host::Host;
use crate::newfile::NewFile;
use crate::snapshot::Snapshot;
use crate::stop::Stop;
use clap::Args;
use gvahint_calibrate::refusal::{self, Refusal};
use gvahint_calibrate::report::Report;
use gvahint_calibrate::verdict::Verdict;
use gvahint_calibrate::{apply, Effort, Options, Watcher, FEWEST_TRIALS, TRIALS};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Find out whether dropping single addresses suffices on this host's CPUs, and what it costs
///
/// The architecture does not promise that the accessed bit comes back after INVVPID alone. This starts a tiny VM
/// of its own, trusts no other, and tries: a few seconds, on two CPUs. Other VMs keep running; only if an earlier
/// verdict was `failed`, their hints are used meanwhile. Without --apply nothing is changed. On a host that is
/// itself a virtual machine there is no verdict.
///
/// Cycles are of the TSC, as a guest sees them: costs of an exit, of INVVPID and INVEPT as part of an exit, of
/// walks after them, and from how many addresses on a flush of the whole context is cheaper.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// CPU for the VM, best an isolated one; by default the last one
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// As few trials as can tell, and rough costs
    #[arg(long, conflicts_with = "trials")]
    quick: bool,
    /// Trials for each combination of page sizes; controls get a quarter of them
    #[arg(long, value_name = "N", default_value_t = TRIALS, value_parser = clap::value_parser!(u64).range(FEWEST_TRIALS..=10_000_000))]
    trials: u64,
    /// Only the verdict
    #[arg(long)]
    no_costs: bool,
    /// Write everything that was found to a file, to be shared; `-`: to standard output, instead of text
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the verdict to the module's `calibration`
    #[arg(long)]
    apply: bool,
    /// With --apply: also set max_gvas_per_entry to the number from which on a context flush is cheaper; rough costs
    /// (--quick) do not tell it
    #[arg(long, requires = "apply", conflicts_with_all = ["no_costs", "quick"])]
    set_max_gvas: bool,
    /// With --apply: say what would be written, and write nothing
    #[arg(long, requires = "apply")]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  gvahintctl calibrate
  gvahintctl calibrate --json calibration.json
  gvahintctl calibrate --cpu 7 --apply --set-max-gvas";

impl Arguments {
    /// Measures, shows, and writes what it is asked to.
    pub fn run(self, host: &Host) -> Result<ExitCode> {
        let stop = Stop::on_signals()?;
        // Before anything is measured: what can't be written or understood must not cost the verdict.
        let file = self.file()?;
        look(host)?;
        // A made-up host comes as far as this, for tests.
        if host.file("version") != Path::new("/sys/kernel/gvahint/version") {
            let what = "calibrate measures this machine: it does not take --root or --sysfs";
            return Err(Failure::new(Kind::Usage, what));
        }
        let options = Options {
            cpu: self.cpu,
            trials: if self.quick {
                FEWEST_TRIALS
            } else {
                self.trials
            },
            costs: match (self.no_costs, self.quick) {
                (true, _) => Effort::None,
                (false, true) => Effort::Quick,
                (false, false) => Effort::Whole,
            },
        };
        let mut watcher = Watcher {
            progress: &mut note,
            stop: &|| stop.wanted(),
        };
        let report = gvahint_calibrate::run(&options, &mut watcher).map_err(failure)?;
        self.show(&report, file)?;
        if self.apply {
            self.write(&report)?;
        }
        Ok(match report.verdict {
            Verdict::Passed => ExitCode::SUCCESS,
            Verdict::FailedContext | Verdict::FailedInvept => Kind::HintsFail.exit(),
            Verdict::Inconclusive | Verdict::Nested => Kind::NoVerdict.exit(),
        })
    }

    /// Beside the file that the report goes to, if it is one.
    fn file(&self) -> Result<Option<NewFile>> {
        let path = self.json.as_deref().filter(|path| *path != Path::new("-"));
        path.map(NewFile::beside).transpose()
    }

    fn show(&self, report: &Report, file: Option<NewFile>) -> Result<()> {
        if self.json.is_none() {
            return print(&report.to_string());
        }
        let json = serde_json::to_string_pretty(report).map_err(std::io::Error::from)? + "\n";
        let Some(file) = file else {
            return print(&json);
        };
        print(&report.to_string())?;
        file.replace(&json)
    }

    fn write(&self, report: &Report) -> Result<()> {
        let changes = apply::changes(report, self.set_max_gvas).map_err(failure)?;
        match report.host.cpu_kinds {
            kinds @ 2.. => note(&format!(
                "this host has CPUs of {kinds} kinds, and one was measured: nothing is written. Run it with --cpu N on \
                 one of each, and write the worst verdict to /sys/kernel/gvahint/calibration."
            )),
            _ if changes.is_empty() => note("without a verdict, nothing is written"),
            _ if self.set_max_gvas && report.costs.is_none() => {
                note("without costs, max_gvas_per_entry stays as it is");
            }
            _ => {}
        }
        for change in changes {
            let apply::Change { name, value } = &change;
            if self.dry_run {
                note(&format!("would write {value} to {name}"));
            } else {
                let old = change.make().map_err(failure)?;
                note(&format!("{name}: {old} -> {value}"));
            }
        }
        Ok(())
    }
}

/// Says what happens, beside the output.
fn note(what: &str) {
    tell(&format!("calibrate: {what}\n"));
}

/// Fails if the module's files are not there, may not be read, or hold garbage. Other VMs don't matter.
fn look(host: &Host) -> Result<()> {
    let looked = Snapshot::take(host).map(drop);
    looked.map_err(|failure| match failure.kind {
        Kind::Permission => Failure {
            what: format!("calibrate needs root: {}", failure.what),
            ..failure
        },
        _ => failure,
    })
}

/// In this command's terms.
fn failure(error: gvahint_calibrate::Error) -> Failure {
    let Some(refusal) = error.downcast_ref::<Refusal>() else {
        return Failure::new(Kind::Failed, format!("{error:#}"));
    };
    let kind = match refusal.kind {
        refusal::Kind::NotLoaded => Kind::NotLoaded,
        refusal::Kind::Permission => Kind::Permission,
        refusal::Kind::Unfit | refusal::Kind::Interrupted => Kind::Failed,
    };
    Failure {
        kind,
        what: refusal.what.clone(),
        remedy: refusal.remedy.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fails if a refusal loses its exit code or its remedy on the way, or another error its cause.
    #[test]
    fn refusals_keep_their_remedies() {
        for (kind, due) in [
            (refusal::Kind::NotLoaded, Kind::NotLoaded),
            (refusal::Kind::Permission, Kind::Permission),
            (refusal::Kind::Unfit, Kind::Failed),
        ] {
            let refusal = Refusal::new(kind, "what", "remedy");
            let shown = failure(gvahint_calibrate::Error::new(refusal.clone()));
            assert_eq!(shown, Failure::new(due, "what").remedy("remedy"));
            let wrapped = std::io::Error::other("cause");
            let error = gvahint_calibrate::Error::new(wrapped).context(refusal);
            assert_eq!(failure(error), shown);
        }
        let other = gvahint_calibrate::Error::new(std::io::Error::other("cause")).context("doing");
        assert_eq!(failure(other).what, "doing: cause");
    }
}
