// SPDX-License-Identifier: GPL-2.0
//! What the module says at one moment.

use crate::counters::{COUNTERS, LEVELS, UNCOVERED_BY};
use crate::failure::{Failure, Kind, Result};
use crate::host::Host;
use crate::knobs::{Knob, INHERIT, KNOBS, NOTIFIERS, POLICY};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;

/// Counters and levels by name.
pub type Stats = BTreeMap<String, u64>;
/// Knobs by name.
pub type Values = BTreeMap<&'static str, String>;

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// The module's version.
    pub version: String,
    /// The verdict on this host's CPUs.
    pub calibration: String,
    /// The global knobs.
    pub knobs: Values,
    /// The VMs that were there all the while.
    pub vms: Vec<Vm>,
    /// VMs of which a file holds what it can't.
    #[serde(skip)]
    pub complaints: Vec<Failure>,
    /// When this was.
    #[serde(skip)]
    pub taken: Instant,
}

/// A VM.
#[derive(Clone, Debug, Serialize)]
pub struct Vm {
    /// The module's number of it.
    pub id: u64,
    /// The process that created it.
    pub pid: u64,
    /// That process's name, if it is still there; it chooses that itself, so nothing in it controls a terminal.
    pub process: Option<String>,
    /// Why its hints are used or not, in a word.
    pub state: String,
    /// Share of pages with a complete hint, if any was looked up.
    pub coverage: Option<f64>,
    /// What it sets for itself; `inherit` where it does not.
    pub overrides: Values,
    /// What is counted.
    pub stats: Stats,
}

impl Snapshot {
    /// Reads it. VMs that go meanwhile are left out.
    pub fn take(host: &Host) -> Result<Self> {
        host.need_module()?;
        let mut knobs = Values::new();
        for knob in KNOBS {
            knobs.insert(knob.name, value(host, knob, None)?);
        }
        let mut snapshot = Self {
            version: host.read("version")?,
            calibration: host.parse("calibration", "a verdict", word)?,
            knobs,
            vms: Vec::new(),
            complaints: Vec::new(),
            taken: Instant::now(),
        };
        for id in host.vms()? {
            match Vm::take(host, id) {
                Ok(vm) => snapshot.vms.push(vm),
                Err(gone) if gone.kind == Kind::NoVm => {}
                Err(garbage) if garbage.kind == Kind::Garbage => snapshot.complaints.push(garbage),
                Err(failure) => return Err(failure),
            }
        }
        Ok(snapshot)
    }

    /// The VM of that number.
    pub fn vm(&self, id: u64) -> Option<&Vm> {
        self.vms.iter().find(|vm| vm.id == id)
    }

    /// This VM, if it was there then. Numbers begin at 1 again with a module that was reloaded.
    pub fn earlier(&self, now: &Vm) -> Option<&Vm> {
        self.vm(now.id)
            .filter(|then| then.pid == now.pid && !then.counted_more(now))
    }

    /// A policy knob as it holds for a VM.
    pub fn effective<'a>(&'a self, vm: &'a Vm, name: &str) -> &'a str {
        let own = vm.overrides.get(name).filter(|value| *value != INHERIT);
        own.or_else(|| self.knobs.get(name))
            .map_or("", String::as_str)
    }
}

/// What a knob is set to.
pub fn value(host: &Host, knob: &Knob, vm: Option<u64>) -> Result<String> {
    host.parse(&knob.file(vm), "one of its values", |text| {
        knob.check(text, vm.is_some())
            .ok()
            .map(|()| text.to_owned())
    })
}

/// The three knobs of a notifier in one line.
pub fn policy<'a>(notifier: &str, value: impl Fn(&str) -> &'a str) -> String {
    POLICY
        .map(|knob| value(&format!("{notifier}/{knob}")))
        .join(" ")
}

impl Vm {
    /// Reads it; fails with [`Kind::NoVm`] if it goes meanwhile.
    pub fn take(host: &Host, id: u64) -> Result<Self> {
        let file = |name: &str| format!("vms/{id}/{name}");
        let number = |name: &str| host.parse(&file(name), "a number", |text| text.parse().ok());
        let pid = number("pid")?;
        let mut overrides = Values::new();
        for knob in KNOBS.iter().filter(|knob| knob.of_vm) {
            overrides.insert(knob.name, value(host, knob, Some(id))?);
        }
        let mut stats = Stats::new();
        for name in host.names(&file("stats"))? {
            let value = number(&format!("stats/{name}"))?;
            stats.insert(name, value);
        }
        let plain = |name: String| name.replace(char::is_control, "\u{fffd}");
        Ok(Self {
            id,
            pid,
            process: host.of_process(pid, "comm").map(plain),
            state: host.parse(&file("state"), "a state", word)?,
            coverage: host.parse(&file("coverage"), "a share from 0 to 1 or `-`", coverage)?,
            overrides,
            stats,
        })
    }

    /// A counter or level; 0 if the module has none of that name.
    pub fn stat(&self, name: &str) -> u64 {
        self.stats.get(name).copied().unwrap_or(0)
    }

    /// Whether a counter stood higher than it does for `other`. What is not known may be a level.
    fn counted_more(&self, other: &Self) -> bool {
        let counter = |name: &str| {
            name.starts_with(UNCOVERED_BY) || COUNTERS.iter().any(|counter| counter.name == name)
        };
        let mut stats = self.stats.iter();
        stats.any(|(name, n)| counter(name) && *n > other.stat(name))
    }

    /// How the VM is called in a sentence.
    pub fn called(&self) -> String {
        let process = self.process.as_deref().unwrap_or("process gone");
        format!("VM {} ({process}, pid {})", self.id, self.pid)
    }

    /// The notifiers for which it has a policy of its own.
    pub fn own_policies(&self) -> impl Iterator<Item = &'static str> + '_ {
        let own = |name: &&str| {
            let knobs = self
                .overrides
                .iter()
                .filter(|(knob, _)| knob.starts_with(&format!("{name}/")));
            knobs.into_iter().any(|(_, value)| value != INHERIT)
        };
        NOTIFIERS.into_iter().filter(own)
    }
}

/// A word as the module has it.
fn word(text: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b == b'-';
    (!text.is_empty() && text.bytes().all(plain)).then(|| text.to_owned())
}

fn coverage(text: &str) -> Option<Option<f64>> {
    if text == "-" {
        return Some(None);
    }
    let share: f64 = text.parse().ok()?;
    (0.0..=1.0).contains(&share).then_some(Some(share))
}

/// Why pages of a VM were uncovered: name and pages, most first, none left out but zeros.
pub fn reasons(stats: &Stats) -> Vec<(&str, u64)> {
    let named = stats
        .iter()
        .filter_map(|(name, n)| Some((name.strip_prefix(UNCOVERED_BY)?, *n)));
    let mut reasons: Vec<_> = named.filter(|(_, n)| *n > 0).collect();
    reasons.sort_by_key(|(name, n)| (std::cmp::Reverse(*n), *name));
    reasons
}

/// What was counted between two readings of one VM (see [`Snapshot::earlier`]); levels are those of the later one.
pub fn since(before: Option<&Vm>, now: &Vm) -> Stats {
    let level = |name: &str| LEVELS.iter().any(|level| level.name == name);
    let rose = |(name, n): (&String, &u64)| {
        let old = before
            .filter(|_| !level(name))
            .map_or(0, |vm| vm.stat(name));
        (name.clone(), n.saturating_sub(old))
    };
    now.stats.iter().map(rose).collect()
}

/// Share of covered pages in what was counted.
pub fn coverage_of(stats: &Stats) -> Option<f64> {
    let stat = |name: &str| stats.get(name).copied().unwrap_or(0);
    let asked = stat("covered") + stat("uncovered");
    (asked > 0).then(|| crate::numbers::share(stat("covered"), asked))
}
