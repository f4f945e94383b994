// SPDX-License-Identifier: GPL-2.0
//! Tests and demo of gvahint: one static binary that runs inside the VMX machine.
//!
//! `selftest run` prints TAP version 13. Each test runs in a process of its own, so that one that
//! hangs or dies takes nothing along, and none passes while the kernel complains.

mod demo;
mod hotset;
mod large;
mod meter;
mod render;
mod scene;
mod tap;
mod tests;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "selftest",
    about = "Tests and demo of gvahint for the VMX machine"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the tests
    List,
    /// Run tests and print TAP
    Run {
        /// Every cell instead of a selection
        #[arg(long)]
        full: bool,
        /// Names or prefixes of tests; without any, all
        names: Vec<String>,
    },
    /// Run one test in this process
    #[command(hide = true)]
    Exec {
        #[arg(long)]
        full: bool,
        name: String,
    },
    /// Age a hot set under every policy; prints one row a run
    Demo {
        /// More runs of the matrix: guests that exit at every sweep
        #[arg(long)]
        full: bool,
    },
    /// Print the rows of demo runs as a table and write report.json
    Render {
        /// Where the report goes
        #[arg(long, default_value = "build/demo/report.json")]
        report: PathBuf,
        /// Emulator of the runs, for the report
        #[arg(long)]
        bochs: Option<String>,
        /// Commit of the runs, for the report
        #[arg(long)]
        commit: Option<String>,
        /// Outputs of `selftest demo`
        files: Vec<PathBuf>,
    },
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().verb {
        Verb::List => {
            for test in tests::all() {
                println!("{:32} {}", test.name, test.about);
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Run { full, names } => tap::run(full, &names),
        Verb::Exec { full, name } => Ok(tap::exec(full, &name)),
        Verb::Demo { full } => demo::run(full).map(|()| ExitCode::SUCCESS),
        Verb::Render {
            report,
            bochs,
            commit,
            files,
        } => render::run(&files, &report, bochs, commit).map(|()| ExitCode::SUCCESS),
    }
}
