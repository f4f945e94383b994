// SPDX-License-Identifier: GPL-2.0
//! Trace events, counted or read, each time in a tracing instance of its own so that loss can be told.

use crate::sys;
use anyhow::{ensure, Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where tracefs is mounted.
pub const TRACING: &str = "/sys/kernel/tracing";
const BUFFER_KB: &str = "6144";

/// KVM's event for a leaf whose accessed bit was cleared while it stayed present.
pub const AGED: (&str, &str) = (
    "kvmmmu/kvm_tdp_mmu_spte_changed",
    "old_spte & 0x100 && !(new_spte & 0x100) && new_spte & 1",
);
/// KVM's event for clear_young and clear_flush_young.
pub const AGE_HVA: (&str, &str) = ("kvm/kvm_age_hva", "");
/// KVM's event for an access to guest memory that is not mapped, or no longer.
pub const UNMAPPED: (&str, &str) = ("kvm/kvm_page_fault", "!(error_code & 1)");

/// An instance that watches one event or the events of one system until it is dropped.
struct Instance {
    path: PathBuf,
    events: &'static str,
}

impl Instance {
    fn new(events: &'static str, filter: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        sys::mount("tracefs", TRACING, "instances")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("instances/gvahint-{}-{number}", std::process::id());
        let path = Path::new(TRACING).join(name);
        fs::create_dir(&path).with_context(|| format!("{}", path.display()))?;
        let instance = Self { path, events };
        sys::write(instance.path.join("buffer_size_kb"), BUFFER_KB)?;
        let events = instance.path.join("events").join(instance.events);
        if !filter.is_empty() {
            sys::write(events.join("filter"), filter)?;
        }
        sys::write(events.join("enable"), "1")?;
        Ok(instance)
    }

    fn reset(&self) -> Result<()> {
        // Opening the trace for writing empties it.
        fs::File::create(self.path.join("trace")).context("empty the trace")?;
        Ok(())
    }

    fn count(&self) -> Result<u64> {
        let mut entries = 0;
        for cpu in fs::read_dir(self.path.join("per_cpu"))? {
            let text = sys::read(cpu?.path().join("stats"))?;
            for line in text.lines() {
                let (name, value) = line.split_once(": ").unwrap_or((line, "0"));
                let value = value.trim().parse::<f64>().unwrap_or(0.0) as u64;
                match name {
                    "entries" => entries += value,
                    "overrun" | "commit overrun" | "dropped events" => {
                        ensure!(value == 0, "{value} events of {} were lost", self.events);
                    }
                    _ => {}
                }
            }
        }
        Ok(entries)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Its events go off with it.
        if fs::remove_dir(&self.path).is_err() {
            eprintln!("# tracing instance {} stays behind", self.path.display());
        }
    }
}

/// Counts one event until it is dropped.
pub struct Counter(Instance);

impl Counter {
    /// Starts to count `event` (`system/name`), filtered if the filter isn't empty.
    pub fn start((event, filter): (&'static str, &str)) -> Result<Self> {
        Instance::new(event, filter).map(Self)
    }

    /// Forgets what was counted.
    pub fn reset(&self) -> Result<()> {
        self.0.reset()
    }

    /// Events so far. Fails if one was lost.
    pub fn count(&self) -> Result<u64> {
        self.0.count()
    }

    /// Numbers that the events so far show behind these words, in hexadecimal. Fails if one was lost.
    pub fn fields<const N: usize>(&self, names: [&str; N]) -> Result<Vec<[u64; N]>> {
        self.count()?;
        let text = sys::read(self.0.path.join("trace"))?;
        let events = text.lines().filter(|line| !line.starts_with('#'));
        let fields = events.map(|line| fields(line, names).with_context(|| line.to_owned()));
        fields.collect()
    }
}

/// An event as the kernel prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The task that it happened in.
    pub task: i32,
    /// Its name.
    pub name: String,
    /// What it says: `name=value`.
    pub fields: BTreeMap<String, String>,
}

impl Event {
    /// `  qemu-kvm-1234  [001] d..2.  12.345678: name: vm=1 gfn=0x80`
    fn parse(line: &str) -> Option<Self> {
        let (head, tail) = line.split_once(" [")?;
        let task = head.trim().rsplit('-').next()?.parse().ok()?;
        let (_, tail) = tail.split_once(": ")?;
        let (name, says) = tail.split_once(": ")?;
        let field = |word: &str| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        Some(Self {
            task,
            name: name.to_owned(),
            fields: says.split_whitespace().filter_map(field).collect(),
        })
    }

    /// A field as it is printed; nothing if there is none of that name.
    pub fn word(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// A field that is a number.
    pub fn number(&self, name: &str) -> Result<i64> {
        let word = self.word(name);
        let number = match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).map(|n| n as i64),
            None => word.parse(),
        };
        number.with_context(|| format!("{name} is {word:?} in {self:?}"))
    }
}

/// Writes the events of one system down until it is dropped.
pub struct Recorder(Instance);

impl Recorder {
    /// Starts to write down.
    pub fn start(system: &'static str) -> Result<Self> {
        Instance::new(system, "").map(Self)
    }

    /// What was written down since the last time. Fails if an event was lost; nothing is written down
    /// meanwhile.
    pub fn take(&self) -> Result<Vec<Event>> {
        let switch = self.0.path.join("tracing_on");
        sys::write(&switch, "0")?;
        let count = self.0.count()?;
        let text = sys::read(self.0.path.join("trace"))?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let events: Vec<_> = lines.filter_map(Event::parse).collect();
        ensure!(
            events.len() as u64 == count,
            "{} of {count} events can be read:\n{text}",
            events.len()
        );
        self.0.reset()?;
        sys::write(&switch, "1")?;
        Ok(events)
    }
}

/// The number behind each of these words.
fn fields<const N: usize>(line: &str, names: [&str; N]) -> Option<[u64; N]> {
    let mut found = [0; N];
    for (found, name) in found.iter_mut().zip(names) {
        let mut words = line.split_whitespace();
        words.find(|word| *word == name)?;
        let number = words.next()?;
        let number = number.strip_prefix("0x").unwrap_or(number);
        *found = u64::from_str_radix(number, 16).ok()?;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::{fields, Event};

    // Fails if blanks in a task's name, a hexadecimal or a negative number are misread.
    #[test]
    fn a_line_of_a_trace() {
        let line =
            "   CPU 0/KVM-77    [001] d..2.   12.345678: report: vm=3 gfn=0x80 answer=-22 op=hello";
        let event = Event::parse(line).unwrap();
        assert_eq!((event.task, event.name.as_str()), (77, "report"));
        assert_eq!(event.number("gfn").unwrap(), 0x80);
        assert_eq!(event.number("answer").unwrap(), -22);
        assert_eq!((event.word("op"), event.word("none")), ("hello", ""));
        assert!(event.number("op").is_err());
    }

    // Fails if another word's number is taken, or a prefix stays.
    #[test]
    fn fields_by_name() {
        let line = "kvm-1 [000] ...1. 2.5: kvm_tdp: as id 0 gfn 1f00 level 2 at 0x10";
        assert_eq!(fields(line, ["gfn", "level", "at"]), Some([0x1f00, 2, 16]));
        assert_eq!(fields(line, ["spte"]), None);
    }
}
