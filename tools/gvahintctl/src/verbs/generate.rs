// SPDX-License-Identifier: GPL-2.0
//! `generate`: manual pages and shell completions, from what `--help` shows.

use super::print;
use crate::cli::Options;
use crate::failure::Result;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write manual pages and shell completions into a directory
#[derive(Args, Debug)]
#[command(
    hide = true,
    after_help = "\
Examples:
  gvahintctl generate build/tools"
)]
pub struct Arguments {
    /// Gets man1/*.1 and completions/*
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Arguments {
    /// Writes them.
    pub fn run(self) -> Result<ExitCode> {
        let mut command = Options::command();
        command.build();
        let manuals = self.directory.join("man1");
        fs::create_dir_all(&manuals)?;
        manual(&command, "NOTES", &manuals)?;
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            manual(verb, "EXAMPLES", &manuals)?;
        }
        let completions = self.directory.join("completions");
        fs::create_dir_all(&completions)?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut command, "gvahintctl", &completions)?;
        }
        print(&format!(
            "{}: manual pages and completions\n",
            self.directory.display()
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes one page; what stands after the help has a heading of its own.
fn manual(command: &Command, extra: &str, directory: &Path) -> Result<()> {
    let man = Man::new(command.clone()).section("1").manual("gvahint");
    let name = man.get_filename();
    let mut page = Vec::new();
    man.render(&mut page)?;
    let page = String::from_utf8_lossy(&page).replace(".SH EXTRA", &format!(".SH {extra}"));
    Ok(fs::write(directory.join(name), page)?)
}
