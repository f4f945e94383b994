// SPDX-License-Identifier: GPL-2.0
//! What the host's module has allocated, as the slab allocator notes it (`slab_debug=U,kmalloc-*`).

use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::sys;
use std::fs;

/// What the stack of an allocation by the module shows.
pub const LOADED: &str = "[gvahint]";
/// What that of one by a module that is gone shows.
pub const GONE: &str = " 0xffffffffc";

/// What the allocator allocates for a slab, which may be at any allocation.
const ALLOCATOR: [&str; 2] = [" allocate_slab+", " alloc_slab_obj_exts+"];
const NOT_NOTED: &str = "the kernel does not note who allocates: it needs slab_debug=U,kmalloc-*";
/// After which what was given up is free.
const SETTLE_MS: u64 = 200;
/// How often to count until it is all gone.
const TRIES: u32 = 20;

/// Live objects of the slab allocator that were allocated under a function that `sign` stands for.
fn objects(sign: &str) -> Result<u64> {
    // Names of files that are gone live as long as it is remembered that somebody looked them up; what
    // was of use is forgotten the second time only.
    for _ in 0..2 {
        sys::write("/proc/sys/vm/drop_caches", "2")?;
    }
    sys::sleep_ms(SETTLE_MS);
    let mut count = 0;
    let mut seen = false;
    for cache in fs::read_dir("/sys/kernel/debug/slab").context(NOT_NOTED)? {
        let cache = cache?;
        if !cache.file_name().to_string_lossy().starts_with("kmalloc-") {
            continue;
        }
        let Ok(text) = fs::read_to_string(cache.path().join("alloc_traces")) else {
            continue;
        };
        seen = true;
        // A number and the innermost function, and then a line for each of its callers.
        let mut number = 0;
        let mut done = false;
        for line in text.lines() {
            let first = line.split_whitespace().next().unwrap_or_default();
            if let Ok(n) = first.parse::<u64>() {
                (number, done) = (n, ALLOCATOR.iter().any(|name| line.contains(name)));
            }
            if !done && line.contains(sign) {
                done = true;
                count += number;
            }
        }
    }
    ensure!(seen, NOT_NOTED);
    Ok(count)
}

/// The same, once they do not change any more.
pub fn settled(sign: &str) -> Result<u64> {
    let mut before = objects(sign)?;
    for _ in 0..TRIES {
        let now = objects(sign)?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    bail!("the number of objects does not settle: {before}");
}

/// Fails if the module has more than the `before` that it had when there was no VM either.
pub fn none_left(before: u64) -> Result<()> {
    let left = settled(LOADED)?;
    println!("{left} objects of the module's are left, {before} were there before");
    ensure!(left <= before, "{} objects stay", left - before);
    Ok(())
}
