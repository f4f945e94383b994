// SPDX-License-Identifier: GPL-2.0
//! `doctor`: whether this host can use hints, whether it does, and what stands in the way.

mod cpu;
mod guests;
mod kernel;
mod memory;
mod module;

use super::{json_line, print};
use crate::failure::{Kind, Result};
use crate::host::Host;
use crate::numbers::counted;
use crate::paint::Paint;
use crate::snapshot::Snapshot;
use crate::table::wrapped;
use clap::Args;
use serde::Serialize;
use std::process::ExitCode;

/// Lines of prose end here.
const WIDTH: usize = 100;
/// Where the rest is to be read: of the package, and of who built it.
const OPERATIONS: &str = "operations.md (/usr/share/doc/gvahint, docs/ of the source)";

/// Check this host: kernel, CPU, KVM, module, guests, and what works against them
///
/// Each finding is ok, a note or a problem; the latter two with a remedy. Changes nothing. The exit code says
/// the worst: 0 all ok, 7 notes, 1 a problem. A missing module, missing permission and garbage are problems.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gvahintctl doctor
  gvahintctl doctor --quiet             # notes and problems only
  gvahintctl doctor --json | jq '.findings[] | select(.level == \"problem\")'")]
pub struct Arguments {
    /// Leave out what is ok
    #[arg(short, long)]
    quiet: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Note,
    Problem,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    /// What was looked at.
    about: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// What was found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, about: &'static str, text: impl Into<String>) {
        self.add(Level::Ok, about, text.into(), None);
    }

    fn note(&mut self, about: &'static str, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::Note, about, text.into(), Some(remedy.into()));
    }

    fn problem(&mut self, about: &'static str, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::Problem, about, text.into(), Some(remedy.into()));
    }

    fn add(&mut self, level: Level, about: &'static str, text: String, remedy: Option<String>) {
        self.0.push(Finding {
            level,
            about,
            text,
            remedy,
        });
    }

    fn worst(&self) -> Level {
        self.0
            .iter()
            .map(|finding| finding.level)
            .max()
            .unwrap_or(Level::Ok)
    }
}

#[derive(Serialize)]
struct Report<'a> {
    worst: Level,
    findings: Vec<&'a Finding>,
}

impl Arguments {
    /// Looks and reports.
    pub fn run(self, host: &Host) -> Result<ExitCode> {
        let mut findings = Findings::default();
        kernel::check(host, &mut findings);
        cpu::check(host, &mut findings);
        kernel::check_kvm(host, &mut findings);
        module::check(host, &mut findings);
        if host.is_loaded() {
            match Snapshot::take(host) {
                Ok(snapshot) => {
                    module::check_policies(host, &snapshot, &mut findings);
                    guests::check(&snapshot, &mut findings);
                    memory::check_guests(host, &snapshot, &mut findings);
                }
                Err(failure) => findings.problem(
                    "module",
                    failure.what,
                    failure
                        .remedy
                        .unwrap_or_else(|| "see the kernel's log".to_owned()),
                ),
            }
        }
        memory::check(host, &mut findings);
        let worst = findings.worst();
        match self.json {
            true => print(&json_line(Report {
                worst,
                findings: self.shown(&findings).collect(),
            })?)?,
            false => print(&self.text(&findings, &Paint::of(&std::io::stdout())))?,
        }
        Ok(match worst {
            Level::Ok => ExitCode::SUCCESS,
            Level::Note => Kind::Notes.exit(),
            Level::Problem => Kind::Failed.exit(),
        })
    }

    /// What is not left out.
    fn shown<'a>(&self, findings: &'a Findings) -> impl Iterator<Item = &'a Finding> {
        let least = if self.quiet { Level::Note } else { Level::Ok };
        let all = findings.0.iter();
        all.filter(move |finding| finding.level >= least)
    }

    fn text(&self, findings: &Findings, paint: &Paint) -> String {
        let mut text = String::new();
        let (mut notes, mut problems) = (0, 0);
        for finding in self.shown(findings) {
            let word = match finding.level {
                Level::Ok => paint.green("ok     "),
                Level::Note => {
                    notes += 1;
                    paint.yellow("note   ")
                }
                Level::Problem => {
                    problems += 1;
                    paint.red("problem")
                }
            };
            let body = wrapped(&finding.text, WIDTH, "                    ");
            text += &format!("{word}  {:9}  {}", finding.about, body.trim_start());
            if let Some(remedy) = &finding.remedy {
                text += &wrapped(&format!("-> {remedy}"), WIDTH, "                    ");
            }
        }
        let notes = counted(notes, "note", "notes");
        let problems = counted(problems, "problem", "problems");
        text + &format!("{} checks, {notes}, {problems}\n", findings.0.len())
    }
}
