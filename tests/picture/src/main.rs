// SPDX-License-Identifier: GPL-2.0
//! Pictures of what runs in the machine showed: a terminal's screen, a chart and a table of a report.

mod chart;
mod screen;
mod table;

use anyhow::{Context, Result};
use clap::Parser;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

#[derive(Parser)]
#[command(
    name = "picture",
    about = "Draw what a run in the machine showed, as SVG"
)]
enum What {
    /// The last screen of a full-screen program, from its output on standard input
    Screen {
        /// Lines of its terminal
        #[arg(long)]
        rows: u16,
        /// Columns of its terminal
        #[arg(long)]
        columns: u16,
        svg: PathBuf,
    },
    /// Whether ages were right and what they cost, from the demo's report.json
    Chart { report: PathBuf, svg: PathBuf },
    /// What ageing the hot set costs under each policy, from the demo's report.json
    Table { report: PathBuf, svg: PathBuf },
}

fn read(report: &Path) -> Result<String> {
    fs::read_to_string(report).with_context(|| format!("{}: run make demo first", report.display()))
}

fn main() -> Result<()> {
    match What::parse() {
        What::Screen { rows, columns, svg } => {
            let mut output = Vec::new();
            io::stdin().read_to_end(&mut output)?;
            screen::draw(&screen::last(&output, rows, columns)?, &svg)
        }
        What::Chart { report, svg } => chart::draw(&chart::bars(&read(&report)?)?, &svg),
        What::Table { report, svg } => table::draw(&table::parts(&read(&report)?)?, &svg),
    }
}
