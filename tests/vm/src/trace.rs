// SPDX-License-Identifier: GPL-2.0
//! Counting trace events, each in a tracing instance of its own so that loss can be told.

use crate::sys;
use anyhow::{ensure, Context, Result};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

const TRACING: &str = "/sys/kernel/tracing";
const BUFFER_KB: &str = "6144";

/// KVM's event for a leaf whose accessed bit was cleared while it stayed present.
pub const AGED: (&str, &str) = (
    "kvmmmu/kvm_tdp_mmu_spte_changed",
    "old_spte & 0x100 && !(new_spte & 0x100) && new_spte & 1",
);
/// KVM's event for clear_young and clear_flush_young.
pub const AGE_HVA: (&str, &str) = ("kvm/kvm_age_hva", "");

/// Counts one event until it is dropped.
pub struct Counter {
    instance: PathBuf,
    event: &'static str,
}

impl Counter {
    /// Starts to count `event` (`system/name`), filtered if the filter isn't empty.
    pub fn start((event, filter): (&'static str, &str)) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        sys::mount("tracefs", TRACING, "instances")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("instances/gvahint-{}-{number}", std::process::id());
        let instance = PathBuf::from(TRACING).join(name);
        fs::create_dir(&instance).with_context(|| format!("{}", instance.display()))?;
        let counter = Self { instance, event };
        sys::write(counter.instance.join("buffer_size_kb"), BUFFER_KB)?;
        if !filter.is_empty() {
            sys::write(counter.switch().with_file_name("filter"), filter)?;
        }
        sys::write(counter.switch(), "1")?;
        Ok(counter)
    }

    /// Forgets what was counted.
    pub fn reset(&self) -> Result<()> {
        // Opening the trace for writing empties it.
        fs::File::create(self.instance.join("trace")).context("empty the trace")?;
        Ok(())
    }

    /// Events so far. Fails if one was lost.
    pub fn count(&self) -> Result<u64> {
        let mut entries = 0;
        for cpu in fs::read_dir(self.instance.join("per_cpu"))? {
            let text = sys::read(cpu?.path().join("stats"))?;
            for line in text.lines() {
                let (name, value) = line.split_once(": ").unwrap_or((line, "0"));
                let value = value.trim().parse::<f64>().unwrap_or(0.0) as u64;
                match name {
                    "entries" => entries += value,
                    "overrun" | "commit overrun" | "dropped events" => {
                        ensure!(value == 0, "{value} events of {} were lost", self.event);
                    }
                    _ => {}
                }
            }
        }
        Ok(entries)
    }

    fn switch(&self) -> PathBuf {
        self.instance.join("events").join(self.event).join("enable")
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let off = sys::write(self.switch(), "0");
        let gone = fs::remove_dir(&self.instance);
        if off.is_err() || gone.is_err() {
            eprintln!(
                "# tracing instance {} stays behind",
                self.instance.display()
            );
        }
    }
}
