// SPDX-License-Identifier: GPL-2.0
//! A terminal, which `script` of bsdutils makes.

use super::{Host, Ran};
use std::process::{Command, Stdio};

/// A shell's command line on a terminal of its own, to be started. The exit code is the command line's.
pub fn script(run: &str) -> Command {
    let mut script = Command::new("script");
    script
        .args(["-q", "-e", "-c", run, "/dev/null"])
        .env("TERM", "xterm")
        .env("SHELL", "/bin/bash");
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        script.env_remove(name);
    }
    script
}

/// The program and its arguments, for a shell.
pub fn quoted(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    words.join(" ")
}

impl Host {
    /// Runs the program on a terminal, with this in its environment; `out` is all that the terminal got.
    pub fn run_on_terminal(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        let words = quoted(&self.program(arguments));
        script(&format!("exec {words}"))
            .env_remove("GVAHINT_ROOT")
            .env_remove("GVAHINT_SYSFS")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .into()
    }
}
