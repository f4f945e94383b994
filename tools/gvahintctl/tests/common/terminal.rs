// SPDX-License-Identifier: GPL-2.0
//! A terminal, and a program on it. All that it wrote is read, until nobody has the terminal open any more.

use super::{Host, Ran};
use pty_process::blocking::{open, Command, Pty};
use std::io::Read;
use std::process::Child;

/// What reading says when nobody has the terminal open any more (pty(7), EIO).
const GONE: i32 = 5;

/// Starts this on a terminal of its own, which has colour, with this in its environment.
pub fn start(command: std::process::Command, environment: &[(&str, &str)]) -> (Pty, Child) {
    let (pty, pts) = open().unwrap();
    let command = Command::from(command)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .envs(environment.iter().copied());
    (pty, command.spawn(pts).unwrap())
}

impl Host {
    /// Runs the program on a terminal, with this in its environment; `out` is all that the terminal got.
    pub fn run_on_terminal(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        let (mut pty, mut child) = start(self.program(arguments), environment);
        let mut out = Vec::new();
        let end = pty.read_to_end(&mut out).unwrap_err();
        assert_eq!(end.raw_os_error(), Some(GONE));
        Ran {
            code: child.wait().unwrap().code().unwrap_or(-1),
            out: String::from_utf8_lossy(&out).into_owned(),
            err: String::new(),
        }
    }
}
