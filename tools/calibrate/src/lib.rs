// SPDX-License-Identifier: GPL-2.0
//! Whether dropping single gVAs brings accessed bits back on this host's CPUs, and what it costs.
//!
//! The architecture does not promise it (docs/design.md), and a guest may lie: so the host asks a VM of
//! its own. docs/calibration.md says what is measured and what the verdict means.
//!
//! | module | what it is |
//! |---|---|
//! | [`host`] | the host: can it be measured, on which CPUs |
//! | [`cells`] | page sizes that are combined, and the pages that stand for them |
//! | [`tables`] | the guest's page tables, which show whether a miss would be seen |
//! | [`rig`] | the VM under the ager |
//! | [`trials`] | one page aged, dropped, touched, looked at; again and again |
//! | [`shares`], [`verdict`] | what that allows to conclude |
//! | [`costs`] | cycles |
//! | [`report`] | all of it, for people and as JSON |
//! | [`apply`] | what is written to the module |

pub mod apply;
pub mod cells;
pub mod costs;
pub mod host;
pub mod refusal;
pub mod report;
pub mod rig;
pub mod shares;
pub mod tables;
pub mod trials;
pub mod verdict;

pub use anyhow::{Error, Result};

use cells::Stage;
use host::{Cpus, Host};
use refusal::Refusal;
use report::{CellReport, Report};
use rig::Rig;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Host CPU of the guest; the last one if nobody cares.
    pub cpu: Option<usize>,
    /// Trials of each arm that decides; controls get a quarter.
    pub trials: u64,
    /// Whether costs are measured, and with how much effort.
    pub costs: Effort,
}

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Nothing.
    None,
    /// Little: figures are rough.
    Quick,
    /// As much as it takes.
    Whole,
}

/// Trials that decide, by default.
pub const TRIALS: u64 = 2000;
/// As few as can show that a page stays idle in less than one of a hundred trials.
pub const FEWEST_TRIALS: u64 = 400;

/// Who is told what goes on, and says whether it should.
pub struct Watcher<'a> {
    /// Gets a line now and then.
    pub progress: &'a mut dyn FnMut(&str),
    /// Whether somebody wants an end.
    pub stop: &'a dyn Fn() -> bool,
}

impl Watcher<'_> {
    /// Fails if somebody wants an end.
    fn check(&self) -> Result<()> {
        match (self.stop)() {
            true => Err(Refusal::interrupted().into()),
            false => Ok(()),
        }
    }
}

/// Measures. Whatever happens, the module's settings are as before when this returns.
pub fn run(options: &Options, watcher: &mut Watcher<'_>) -> Result<Report> {
    host::check()?;
    let _alone = apply::alone()?;
    let cpus = Cpus::choose(options.cpu)?;
    let host = Host::read(cpus.vcpu)?;
    // A failed verdict would keep the module from dropping single gVAs.
    let _suspended = apply::Suspended::new(watcher)?;
    gvahint_vm::sys::pin(0, cpus.ager)?;
    let mut cells = Vec::new();
    for stage in cells::stages() {
        cells.extend(show(stage, cpus, options.trials, watcher)?);
    }
    let page_tables = show(tables::stage(), cpus, options.trials, watcher)?;
    let costs = match options.costs {
        Effort::None => None,
        effort => {
            (watcher.progress)("costs");
            match costs::run(cpus, effort == Effort::Quick, watcher) {
                Ok(costs) => Some(costs),
                Err(error) if (watcher.stop)() => return Err(error),
                // The verdict does not depend on them.
                Err(error) => {
                    (watcher.progress)(&format!("no costs: {error:#}"));
                    None
                }
            }
        }
    };
    let findings: Vec<_> = cells.iter().map(|cell| cell.finding.clone()).collect();
    Ok(Report {
        schema: 1,
        tool: env!("CARGO_PKG_VERSION"),
        verdict: verdict::verdict(host.nested, &findings),
        host,
        confidence: shares::CONFIDENCE,
        allowed_stale: verdict::ALLOWED_STALE,
        cells,
        page_tables,
        costs,
    })
}

/// Runs the cells of one VM.
fn show(
    stage: Stage,
    cpus: Cpus,
    trials: u64,
    watcher: &mut Watcher<'_>,
) -> Result<Vec<CellReport>> {
    let (mut rig, cells) = Rig::new(stage.config, cpus, stage.cells)?;
    let mut reports = Vec::new();
    for cell in cells {
        let name = format!(
            "EPT leaf {}, guest page {}: {}",
            cell.leaf, cell.guest, cell.dropped
        );
        (watcher.progress)(&name);
        let outcome = trials::run(&mut rig, &cell, trials, watcher)?;
        reports.push(CellReport {
            leaf: cell.leaf,
            guest: cell.guest,
            dropped: cell.dropped,
            stale_after_hint: verdict::stale_after(&outcome.back, trials::Arm::Hint),
            stale_after_context: verdict::stale_after(&outcome.back, trials::Arm::Context),
            finding: verdict::finding(&outcome.back),
            came_back: outcome.back,
            void: outcome.void,
        });
    }
    Ok(reports)
}
