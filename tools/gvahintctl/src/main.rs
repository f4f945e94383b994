// SPDX-License-Identifier: GPL-2.0
//! `gvahintctl`: what operators of a KVM host see and set of gvahint.
//!
//! It talks to documented interfaces only: the module's files (docs/abi/sysfs-kernel-gvahint), /proc,
//! /sys/module and /dev/cpu. Each verb is a file under `verbs`.

mod cli;
mod counters;
mod failure;
mod host;
mod knobs;
mod newfile;
mod numbers;
mod paint;
mod snapshot;
mod stop;
mod table;
mod verbs;
mod words;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = cli::Options::parse();
    match options.run() {
        Ok(exit) => exit,
        Err(failure) => {
            eprint!("{}", failure.shown(&paint::Paint::of(&std::io::stderr())));
            failure.kind.exit()
        }
    }
}
