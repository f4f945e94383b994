// SPDX-License-Identifier: GPL-2.0
//! QEMU's machine protocol (QMP): one JSON object a line, over a Unix socket.

use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::sys;
use serde_json::{json, Value};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Machine time in which QEMU opens its socket.
const OPEN_MS: u64 = 10_000;
/// Machine time in which it answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A connection, ready for commands.
pub struct Qmp(BufReader<UnixStream>);

impl Qmp {
    /// Waits for the socket, which `alive` says may still come.
    pub fn connect(path: &str, mut alive: impl FnMut() -> Result<()>) -> Result<Self> {
        for _ in 0..OPEN_MS / 10 {
            alive()?;
            if let Ok(stream) = UnixStream::connect(path) {
                stream.set_read_timeout(Some(ANSWER_LIMIT))?;
                let mut qmp = Self(BufReader::new(stream));
                let greeting = qmp.receive()?;
                ensure!(greeting["QMP"].is_object(), "QEMU greets by {greeting}");
                qmp.execute("qmp_capabilities", json!({}))?;
                return Ok(qmp);
            }
            sys::sleep_ms(10);
        }
        bail!("QEMU does not open {path}")
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        let bytes = self
            .0
            .read_line(&mut line)
            .context("QEMU does not answer")?;
        ensure!(bytes > 0, "QEMU hung up");
        serde_json::from_str(&line).with_context(|| format!("QEMU says {line}"))
    }

    /// Executes a command; fails if QEMU says that it did not. Events are skipped.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let order = json!({ "execute": command, "arguments": arguments });
        writeln!(self.0.get_mut(), "{order}").with_context(|| command.to_owned())?;
        loop {
            let mut answer = self.receive().with_context(|| command.to_owned())?;
            if let Some(error) = answer.get("error") {
                bail!("{command}: {}", error["desc"]);
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }
}
