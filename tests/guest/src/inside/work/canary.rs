// SPDX-License-Identifier: GPL-2.0
//! Whether hints work on this host, by what the reporter found; then the same as `random`.

use super::random;
use crate::inside::truth::Mailbox;
use crate::inside::Task;
use crate::tap::kernel_log;
use anyhow::{ensure, Result};
use gvahint_vm::sys;
use std::time::{Duration, Instant};

const ROOT: &str = "/sys/kernel/gvahint_guest";
const WARNING: &str = "gvahint_guest: hints don't work on this host";
/// A canary a second, and a round of the reporter that is late.
const PATIENCE: Duration = Duration::from_secs(4);

/// Fails if the reporter does not say what its canaries told, if it reported a page to a host that makes
/// no use of it, or if it doesn't ask again.
pub fn run(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let verdict = await_file("canary", |verdict| verdict != "untried")?;
    let state = read("state")?;
    let warnings = kernel_log().matches(WARNING).count();
    println!("canary: {verdict}, {state}");
    if verdict == "lost" {
        ensure!(state == "degraded", "it is {state}");
        ensure!(warnings == 1, "the kernel said so {warnings} times");
        let told = ["canary_lost", "sets", "swept"].map(stat);
        ensure!(told == [1, 0, 0], "canaries lost, sets, pages: {told:?}");
    } else {
        ensure!(verdict == "ok", "the canary is {verdict}");
        ensure!(state != "degraded" && warnings == 0, "but it is {state}");
        sys::write(format!("{ROOT}/canary_ms"), "1000")?;
        await_file("stats/canary_ok", |canaries| canaries != "1")?;
    }
    random::run(task, mailbox)
}

fn read(name: &str) -> Result<String> {
    sys::read(format!("{ROOT}/{name}"))
}

/// A counter; what it never is if it is not there.
fn stat(name: &str) -> u64 {
    let text = read(&format!("stats/{name}"));
    text.ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(u64::MAX)
}

/// Waits until a file reads as it should.
fn await_file(name: &str, good: impl Fn(&str) -> bool) -> Result<String> {
    let start = Instant::now();
    loop {
        let text = read(name)?;
        if good(&text) {
            return Ok(text);
        }
        ensure!(start.elapsed() < PATIENCE, "{name} is still {text}");
        sys::sleep_ms(10);
    }
}
