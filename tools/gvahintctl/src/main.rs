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
use paint::Paint;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match cli::Options::try_parse() {
        Ok(options) => options,
        Err(text) => return say(&text),
    };
    match options.run() {
        Ok(exit) => exit,
        Err(failure) => {
            verbs::tell(&failure.shown(&Paint::of(&std::io::stderr())));
            failure.kind.exit()
        }
    }
}

/// Prints what clap has to say, help or what is wrong with the usage; the exit code is clap's. Painted by our
/// rule: clap's own has more in it, such as colour on a dumb terminal where `CI` is set.
fn say(text: &clap::Error) -> ExitCode {
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    let (stream, paint): (&mut dyn Write, _) = match text.use_stderr() {
        true => (&mut stderr, Paint::of(&std::io::stderr())),
        false => (&mut stdout, Paint::of(&std::io::stdout())),
    };
    // Nothing is left to be done for a reader that has gone.
    let _ = stream.write_all(paint.styled(&text.render()).as_bytes());
    text.exit_code()
        .try_into()
        .map_or(ExitCode::FAILURE, |code: u8| code.into())
}
