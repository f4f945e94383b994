// SPDX-License-Identifier: GPL-2.0
//! The guest's own module, as an operator in the guest sees it.

use anyhow::{ensure, Context, Result};
use gvahint_vm::{module, sys};
use std::path::Path;
use std::time::{Duration, Instant};

const NAME: &str = "gvahint_guest";
const ROOT: &str = "/sys/kernel/gvahint_guest";
/// Time of the guest that a state may take to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at it.
const LOOK_MS: u64 = 50;

/// Whether the image has one.
pub fn available() -> bool {
    Path::new(&module::path(NAME)).exists()
}

/// Loads it.
pub fn load() -> Result<()> {
    module::insert(NAME)
}

/// Switches it on or off.
pub fn enable(on: bool) -> Result<()> {
    sys::write(Path::new(ROOT).join("enabled"), if on { "1" } else { "0" })
}

/// One of its statistics.
pub fn stat(name: &str) -> Result<u64> {
    let text = sys::read(Path::new(ROOT).join("stats").join(name))?;
    text.parse().with_context(|| format!("{name}: {text:?}"))
}

/// Waits until it is in a state.
pub fn await_state(goal: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let state = sys::read(Path::new(ROOT).join("state"))?;
        if state == goal {
            return Ok(());
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "the reporter is {state}, not {goal}, after {PATIENCE:?}"
        );
        sys::sleep_ms(LOOK_MS);
    }
}
