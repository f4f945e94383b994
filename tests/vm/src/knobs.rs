// SPDX-License-Identifier: GPL-2.0
//! Files that are set for a while, and what lies under /sys/kernel/gvahint.

use crate::sys;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the module's files lie.
pub const ROOT: &str = "/sys/kernel/gvahint";

/// Files that get their old values back when this is dropped, the last one first.
#[derive(Default)]
pub struct Knobs {
    old: Vec<(PathBuf, String)>,
}

impl Knobs {
    /// Nothing set yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets any file.
    pub fn set_file(&mut self, path: impl Into<PathBuf>, value: &str) -> Result<()> {
        let path = path.into();
        let old = value_of(&path)?;
        sys::write(&path, value)?;
        self.old.push((path, old));
        Ok(())
    }

    /// Sets a file below [`ROOT`].
    pub fn set(&mut self, name: &str, value: impl ToString) -> Result<()> {
        self.set_file(Path::new(ROOT).join(name), &value.to_string())
    }

    /// Sets the three policy knobs of one notifier (`clear_young` or `clear_flush_young`).
    pub fn policy(&mut self, notifier: &str, policy: Policy) -> Result<()> {
        self.set(&format!("{notifier}/flush"), policy.flush)?;
        self.set(&format!("{notifier}/uncovered"), policy.uncovered)?;
        self.set(&format!("{notifier}/timing"), policy.timing)
    }
}

/// What a file is set to.
fn value_of(path: &Path) -> Result<String> {
    let text = sys::read(path)?;
    // A choice shows all values and the one in force in brackets.
    let chosen = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    Ok(chosen.map_or(text.clone(), |(value, _)| value.to_owned()))
}

impl Drop for Knobs {
    fn drop(&mut self) {
        for (path, old) in self.old.drain(..).rev() {
            // The module may be gone together with its files.
            if path.exists() {
                if let Err(error) = sys::write(&path, &old) {
                    eprintln!("# {error:#}");
                }
            }
        }
    }
}

/// What happens to translations of aged pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `default`, `none`, `hint`, `context` or `invept`.
    pub flush: &'static str,
    /// `full` or `none`.
    pub uncovered: &'static str,
    /// `now`, `batched` or `deferred`.
    pub timing: &'static str,
}

impl Policy {
    /// By names, with uncovered pages flushed in full.
    pub const fn new(flush: &'static str, timing: &'static str) -> Self {
        Self {
            flush,
            uncovered: "full",
            timing,
        }
    }
}

/// A VM as the module shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VmDir {
    /// The module's number of it.
    pub id: u64,
}

impl VmDir {
    /// All VMs that the module knows.
    pub fn all() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(Path::new(ROOT).join("vms")).context("the module's VMs")? {
            if let Ok(id) = entry?.file_name().to_string_lossy().parse() {
                all.push(Self { id });
            }
        }
        all.sort();
        Ok(all)
    }

    /// Those that this process created, the last one last.
    pub fn own() -> Result<Vec<Self>> {
        let pid = std::process::id().to_string();
        let mut all = Self::all()?;
        all.retain(|vm| vm.read("pid").is_ok_and(|text| text == pid));
        Ok(all)
    }

    /// The VM that this process created last.
    pub fn newest() -> Result<Self> {
        let own = Self::own()?;
        let newest = own.into_iter().next_back();
        newest.context("the module doesn't know this process's VM")
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(ROOT)
            .join("vms")
            .join(self.id.to_string())
            .join(name)
    }

    /// One of its files.
    pub fn read(&self, name: &str) -> Result<String> {
        sys::read(self.path(name))
    }

    /// Sets one of its files, for good.
    pub fn write(&self, name: &str, value: &str) -> Result<()> {
        sys::write(self.path(name), value)
    }

    /// Has everything flushed once, and vCPUs kicked for it, as a policy that flushes does where one was
    /// that doesn't.
    pub fn flush_all(&self) -> Result<()> {
        let knob = "clear_flush_young_flush";
        let old = value_of(&self.path(knob))?;
        ["none", "invept", &old]
            .iter()
            .try_for_each(|flush| self.write(knob, flush))
    }

    /// One counter.
    pub fn stat(&self, name: &str) -> Result<u64> {
        let text = self.read(&format!("stats/{name}"))?;
        text.parse()
            .with_context(|| format!("stats/{name} holds {text:?}"))
    }

    /// All counters.
    pub fn stats(&self) -> Result<BTreeMap<String, u64>> {
        let mut stats = BTreeMap::new();
        for entry in fs::read_dir(self.path("stats")).context("the VM's counters")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let value = self.stat(&name)?;
            stats.insert(name, value);
        }
        Ok(stats)
    }
}

/// By how much counters rose since they were as in `before`.
pub fn risen(before: &BTreeMap<String, u64>, now: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let rose = now.into_iter().map(|(name, now)| {
        let then = before.get(&name).copied().unwrap_or(0);
        (name, now.saturating_sub(then))
    });
    rose.collect()
}
