// SPDX-License-Identifier: GPL-2.0
//! Linux guests in the machine: one static binary that is the VMM and the ager on the host, and init
//! with the workloads in the guest.

mod ager;
mod beside;
mod cases;
mod demo;
mod frames;
mod guest;
mod inside;
mod life;
mod mailbox;
mod matrix;
mod operator;
mod stale;
mod stay;
mod tap;
mod tax;
mod tests;
mod vmm;

use ager::{Ager, Kind};
use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use demo::Share;
use guest::{Guest, Plan};
use gvahint_vm::knobs::Policy;
use gvahint_vm::machine::Machine;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(
    name = "guest",
    about = "Linux guests with known workloads, for the VMX machine"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Boot a guest and say what that cost
    Boot(PlanArguments),
    /// Age a guest under some policies, and say what is falsely idle
    Age {
        #[command(flatten)]
        plan: PlanArguments,
        #[command(flatten)]
        how: HowArguments,
    },
    /// Age workloads under each policy, and print rows for report.json
    Demo {
        /// Every cell of the matrix instead of a selection
        #[arg(long)]
        full: bool,
        /// Of N machines this is the Kth: only every Nth guest
        #[arg(long, value_name = "K/N", default_value = "1/1")]
        share: Share,
        /// These workloads only
        works: Vec<String>,
    },
    /// Change the addresses of pages, and see how long the host is wrong about them
    Stale {
        /// These changes only
        changes: Vec<String>,
    },
    /// Keep a guest at work and age it by page_idle under whatever policy is set, a line a round
    Stay {
        #[command(flatten)]
        plan: PlanArguments,
        /// The guest does not report
        #[arg(long)]
        silent: bool,
        /// Milliseconds between two rounds
        #[arg(long, default_value_t = 250)]
        pause: u64,
    },
    /// Count what reporting costs a guest, and print it for report.json
    Tax,
    /// Run tests and print TAP
    Test(Choice),
    /// Run tests of what happens in a guest's life, and print TAP
    Life(Choice),
    /// Run tests of gvahintctl beside such guests, and print TAP
    Operator,
    /// Run one test in this process
    #[command(hide = true)]
    Exec { name: String },
}

#[derive(Args)]
struct Choice {
    /// Every test instead of a selection
    #[arg(long)]
    full: bool,
    /// Names or beginnings of names
    names: Vec<String>,
}

#[derive(Args)]
struct PlanArguments {
    /// Workload
    #[arg(default_value = "random")]
    work: String,
    /// MiB of guest memory
    #[arg(long, default_value_t = 128)]
    memory: u64,
    /// MiB that the workload uses
    #[arg(long, default_value_t = 16)]
    mib: u64,
    /// Number of vCPUs
    #[arg(long, default_value_t = 1)]
    vcpus: u8,
    /// Back guest memory by transparent huge pages
    #[arg(long)]
    host_huge: bool,
    /// The workload asks for transparent huge pages
    #[arg(long)]
    guest_huge: bool,
    /// Processes of workloads that have several
    #[arg(long, default_value_t = 2)]
    processes: usize,
    /// QEMU with this machine type instead of the small VMM
    #[arg(long)]
    qemu: Option<String>,
}

#[derive(Args)]
struct HowArguments {
    /// Who ages
    #[arg(long, value_enum, value_delimiter = ',', default_value = "page_idle")]
    ager: Vec<Kind>,
    /// Flush policies
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "none,context,invept,hint"
    )]
    flush: Vec<String>,
    /// What is done for pages without a hint
    #[arg(long, default_value = "full")]
    uncovered: String,
    /// When it is flushed
    #[arg(long, default_value = "now")]
    timing: String,
    /// Whether linear ranges count
    #[arg(long, value_delimiter = ',', default_value = "always")]
    linear_alias: Vec<String>,
    /// Times that pages are marked and looked at, if not as often as the ager needs
    #[arg(long)]
    rounds: Option<usize>,
}

impl From<PlanArguments> for Plan {
    fn from(a: PlanArguments) -> Self {
        Self {
            memory: a.memory,
            vcpus: a.vcpus,
            host_huge: a.host_huge,
            guest_huge: a.guest_huge,
            processes: a.processes,
            qemu: a.qemu,
            ..Self::new(&a.work, a.mib)
        }
    }
}

fn main() -> Result<ExitCode> {
    if std::process::id() == 1 {
        inside::main();
    }
    if std::env::args_os()
        .next()
        .is_some_and(|name| name.as_encoded_bytes() == tax::NOTHING.to_bytes())
    {
        return Ok(ExitCode::SUCCESS);
    }
    match Arguments::parse().verb {
        Verb::Boot(plan) => boot(&plan.into()),
        Verb::Age { plan, how } => age(&plan.into(), how),
        Verb::Demo { full, share, works } => {
            demo::run(full, share, &works).map(|()| ExitCode::SUCCESS)
        }
        Verb::Stale { changes } => stale::run(&changes).map(|()| ExitCode::SUCCESS),
        Verb::Stay {
            plan,
            silent,
            pause,
        } => {
            let mut plan = Plan::from(plan);
            plan.reporter &= !silent;
            stay::run(&plan, Duration::from_millis(pause)).map(|()| ExitCode::SUCCESS)
        }
        Verb::Tax => tax::run().map(|()| ExitCode::SUCCESS),
        Verb::Test(Choice { full, names }) => {
            let tests = tests::chosen(full, &names);
            let tests: Vec<_> = tests.iter().map(|test| test.name.as_str()).collect();
            tap::run(&tests, &names)
        }
        Verb::Life(Choice { full, names }) => {
            let tests: Vec<_> = life::chosen(full, &names).map(|test| test.name).collect();
            tap::run(&tests, &names)
        }
        Verb::Operator => tap::run(&operator::TESTS.map(|(name, _)| name), &[]),
        Verb::Exec { name } => {
            exec(name)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn exec(name: String) -> Result<()> {
    if let Some((_, run)) = operator::TESTS.into_iter().find(|test| test.0 == name) {
        return run();
    }
    let names = [name];
    if let Some(test) = life::chosen(true, &names).find(|test| test.name == names[0]) {
        return test.run();
    }
    let tests = tests::chosen(true, &names);
    let exact = tests.iter().find(|test| names.contains(&test.name));
    exact.context("no such test")?.run()
}

fn boot(plan: &Plan) -> Result<ExitCode> {
    gvahint_vm::sys::pin(0, 0)?;
    let machine = Machine::open();
    if let Some(machine) = &machine {
        machine.reset()?;
    }
    let start = Instant::now();
    let guest = Guest::boot(plan)?;
    println!(
        "boot: {:.3} s of machine time",
        start.elapsed().as_secs_f64()
    );
    if let Some(machine) = &machine {
        let now = machine.snapshot()?;
        println!(
            "boot: {} guest instructions, {} exits",
            now.instructions(),
            now.exits()
        );
    }
    println!("{}", guest.console());
    Ok(ExitCode::SUCCESS)
}

fn age(plan: &Plan, how: HowArguments) -> Result<ExitCode> {
    gvahint_vm::sys::pin(0, 0)?;
    let mut ager = Ager::new()?;
    let (uncovered, timing) = (how.uncovered.leak(), how.timing.leak());
    let flushes: Vec<&'static str> = how.flush.into_iter().map(|flush| &*flush.leak()).collect();
    let mut guest = Guest::boot(plan)?;
    for kind in how.ager {
        ager.choose(kind)?;
        let ways = flushes
            .iter()
            .flat_map(|flush| how.linear_alias.iter().map(move |alias| (*flush, alias)));
        for (flush, alias) in ways {
            ager.linear_alias(alias)?;
            let policy = Policy {
                flush,
                uncovered,
                timing,
            };
            let rounds = how.rounds.unwrap_or(kind.rounds());
            let found = ager.run(&mut guest, policy, rounds)?;
            println!("{} {} {flush} {alias}: {found}", plan.work, kind.name());
        }
    }
    for line in ager::module_view(&guest)? {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}
