// SPDX-License-Identifier: GPL-2.0
//! What a kernel that looks for bugs finds when the other tests are over.

use super::Test;
use crate::tap::skip;
use anyhow::{ensure, Context as _, Result};
use gvahint_vm::module;
use gvahint_vm::sys::{self, KMEMLEAK, KMEMLEAK_MS};

pub const TESTS: &[Test] = &[
    Test::new("leaks", "memory that nobody refers to any more", |_| {
        leaks()
    })
    .only_full(),
];

/// More is not scanned: kmemleak looks for addresses in what describes each page.
const MOST_MIB: u64 = 2_048;

fn memory_mib() -> Result<u64> {
    let text = sys::read("/proc/meminfo")?;
    let total = text.split_whitespace().nth(1).context("MemTotal")?;
    Ok(total.parse::<u64>()? >> 10)
}

/// Fails if the module, or KVM in its service, forgot memory: whatever was allocated since boot is
/// looked for in all memory.
fn leaks() -> Result<()> {
    if !sys::kernel_looks_for_bugs() {
        skip!("the kernel has no kmemleak: DEBUG=1");
    }
    let memory = memory_mib()?;
    if memory > MOST_MIB {
        skip!("to scan {memory} MiB takes a quarter of an hour");
    }
    ensure!(!module::loaded("gvahint"), "a test left the module loaded");
    // What a first scan finds may have been on its way from one place to another.
    for _ in 0..2 {
        sys::sleep_ms(KMEMLEAK_MS);
        sys::write(KMEMLEAK, "scan")?;
    }
    let found = sys::read(KMEMLEAK)?;
    println!("{found}");
    ensure!(found.is_empty(), "memory was forgotten");
    Ok(())
}
