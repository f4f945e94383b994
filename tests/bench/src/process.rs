// SPDX-License-Identifier: GPL-2.0

//! What the kernel says of memory.

use anyhow::{Context, Result};
use std::fs;

/// Bytes of a line `key: N kB` of a file.
fn field(file: &str, key: &str) -> Result<u64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next());
    let kib: u64 = number
        .with_context(|| format!("no {key} in {file}"))?
        .parse()?;
    Ok(kib << 10)
}

/// Bytes that this process has in memory.
pub fn resident() -> Result<u64> {
    field("/proc/self/status", "VmRSS")
}

/// The most that it ever had.
pub fn resident_peak() -> Result<u64> {
    field("/proc/self/status", "VmHWM")
}

/// Bytes that could be had without swapping.
pub fn available() -> Result<u64> {
    field("/proc/meminfo", "MemAvailable")
}
