// SPDX-License-Identifier: GPL-2.0
//! The command line: options of all verbs, and the verbs, each of which describes itself.

use crate::failure::{Result, EXIT_CODES};
use crate::host::Host;
use crate::verbs;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// See and set how gvahint drops translations of aged guest pages.
///
/// gvahint is a kernel module for KVM hosts. When the host ages guest memory (page_idle, DAMON, MGLRU,
/// reclaim) it drops the translations of exactly the aged pages, for guests that report under which
/// virtual addresses their pages are reached. This command shows whether that works, for which VMs, what
/// it costs, and why full flushes (INVEPT) happened all the same; it sets the policies, for all VMs or one.
#[derive(Parser, Debug)]
#[command(
    name = "gvahintctl",
    version,
    after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}\n\n{FILES}"),
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Options {
    /// Where the module's files are, if not in /sys/kernel/gvahint
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "GVAHINT_SYSFS",
        hide_env_values = true,
        help_heading = ELSEWHERE
    )]
    sysfs: Option<PathBuf>,
    /// What stands for / in front of /proc, /sys and /dev
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "GVAHINT_ROOT",
        hide_env_values = true,
        default_value = "/",
        hide_default_value = true,
        help_heading = ELSEWHERE
    )]
    root: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

/// Heading of the options that nobody needs on the host itself.
const ELSEWHERE: &str = "For tests, and to look at a saved copy";

const EXAMPLES: &str = "\
Examples:
  gvahintctl doctor                    # does this host have what it takes?
  gvahintctl status                    # which VMs report, and how much is covered
  gvahintctl explain --interval 10     # why full flushes happened all the same
  gvahintctl set --vm 3 clear_young/flush invept";

/// For the manual page.
const FILES: &str = "\
Environment:
  GVAHINT_SYSFS, GVAHINT_ROOT  as --sysfs and --root
  NO_COLOR                     no colour, on terminals either (elsewhere there never is any)

Files:
  /sys/kernel/gvahint/         the module's knobs, states and counters, for root only
  /dev/cpu/0/msr               what the CPU can do (doctor)";

/// What to do.
#[derive(Subcommand, Debug)]
enum Verb {
    Status(verbs::status::Arguments),
    Top(verbs::top::Arguments),
    Get(verbs::get::Arguments),
    Set(verbs::set::Arguments),
    Explain(verbs::explain::Arguments),
    Doctor(verbs::doctor::Arguments),
    Calibrate(verbs::calibrate::Arguments),
    Export(verbs::export::Arguments),
    Generate(verbs::generate::Arguments),
}

impl Options {
    /// Does it.
    pub fn run(self) -> Result<ExitCode> {
        let host = Host::new(self.root, self.sysfs);
        match self.verb {
            Verb::Status(arguments) => arguments.run(&host),
            Verb::Top(arguments) => arguments.run(&host),
            Verb::Get(arguments) => arguments.run(&host),
            Verb::Set(arguments) => arguments.run(&host),
            Verb::Explain(arguments) => arguments.run(&host),
            Verb::Doctor(arguments) => arguments.run(&host),
            Verb::Calibrate(arguments) => arguments.run(&host),
            Verb::Export(arguments) => arguments.run(&host),
            Verb::Generate(arguments) => arguments.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    // Fails if options contradict each other, or a verb shows no examples.
    #[test]
    fn verbs_show_examples() {
        let command = Options::command();
        command.clone().debug_assert();
        for verb in command.get_subcommands().chain([&command]) {
            let help = verb
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains("Examples:\n  gvahintctl "),
                "{}: {help:?}",
                verb.get_name()
            );
        }
    }
}
