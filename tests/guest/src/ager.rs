// SPDX-License-Identifier: GPL-2.0
//! Ages a guest's pages and compares what the host believes with what the guest did.

use crate::frames::Frames;
use crate::guest::Guest;
use crate::mailbox::{self, FOREIGN};
use anyhow::{ensure, Context, Result};
use gvahint_vm::age::PageIdle;
use gvahint_vm::damon::{Damon, Region};
use gvahint_vm::knobs::{Knobs, Policy};
use gvahint_vm::machine::Machine;
use gvahint_vm::{module, sys, PAGE};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// Machine time in which a workload surely completes a sweep.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rounds until a guest that reports has been asked for what it did not report by itself.
const WARM_UP: usize = 20;
/// Two timer ticks at HZ=100 and some more: then every vCPU was out of the guest and in again.
const TICKS_MS: u64 = 25;

/// DAMON's intervals, and how long it watches: two aggregations.
const DAMON_SAMPLE_US: u64 = 20_000;
const DAMON_AGGREGATE_US: u64 = 200_000;
const DAMON_WATCH_MS: u64 = 450;

/// What a few rounds of ageing found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Pages that were marked idle, over all rounds.
    pub aged: u64,
    /// Of these, pages that the guest surely touched after they had been marked.
    pub touched: u64,
    /// Of these, pages that were idle all the same.
    pub false_idle: u64,
    /// Pages that were idle and not known to be touched.
    pub idle: u64,
    /// INVEPT that the CPUs executed meanwhile.
    pub invept: u64,
    /// INVVPID of one address.
    pub invvpid_addr: u64,
    /// INVVPID of a context.
    pub invvpid_context: u64,
    /// VM exits.
    pub exits: u64,
    /// Exits that one CPU forced on another.
    pub kicks: u64,
    /// TLB misses in guest mode.
    pub tlb_misses: u64,
    /// Memory references of walks in guest mode.
    pub walk_refs: u64,
    /// Instructions in guest mode.
    pub instructions: u64,
    /// Sweeps that the workload completed.
    pub sweeps: u64,
    /// The machine's profile.
    pub profile: String,
    /// What the module's counters rose by.
    pub stats: BTreeMap<String, u64>,
}

impl Found {
    /// Pages with a complete hint among those that were looked up, if any was.
    pub fn coverage(&self) -> Option<f64> {
        let stat = |name| self.stats.get(name).copied().unwrap_or(0);
        let (covered, uncovered) = (stat("covered"), stat("uncovered"));
        (covered + uncovered > 0).then(|| covered as f64 / (covered + uncovered) as f64)
    }

    /// Why pages had none.
    pub fn reasons(&self) -> impl Iterator<Item = (&str, u64)> {
        let rose = self.stats.iter().filter(|(_, n)| **n > 0);
        rose.filter_map(|(name, n)| Some((name.strip_prefix("uncovered_")?, *n)))
    }

    /// Falsely idle pages among those that were touched.
    pub fn share(&self) -> f64 {
        self.false_idle as f64 / self.touched.max(1) as f64
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "aged {} touched {} false_idle {} ({:.2} %) idle {} invept {} invvpid_addr {} \
             invvpid_context {} exits {} instructions {}",
            self.aged,
            self.touched,
            self.false_idle,
            100.0 * self.share(),
            self.idle,
            self.invept,
            self.invvpid_addr,
            self.invvpid_context,
            self.exits,
            self.instructions,
        )?;
        if let Some(coverage) = self.coverage() {
            write!(f, " covered {:.2} %", 100.0 * coverage)?;
        }
        for (reason, n) in self.reasons() {
            write!(f, " {reason} {n}")?;
        }
        Ok(())
    }
}

/// page_idle at work on one guest.
pub struct Ager {
    idle: PageIdle,
    frames: Frames,
    machine: Option<Machine>,
    knobs: Knobs,
}

impl Ager {
    /// Loads gvahint.ko unless it is there.
    pub fn new() -> Result<Self> {
        if !module::loaded("gvahint") {
            module::insert("gvahint")?;
        }
        Ok(Self {
            idle: PageIdle::open()?,
            frames: Frames::open()?,
            machine: Machine::open(),
            knobs: Knobs::new(),
        })
    }

    /// Runs `rounds` rounds under a policy: marks the workload's pages idle, lets it touch them, looks.
    pub fn run(&mut self, guest: &mut Guest, policy: Policy, rounds: usize) -> Result<Found> {
        self.run_measured(guest, policy, rounds, || Ok(()))
    }

    /// The same; `start` is called when what is to be measured begins.
    pub fn run_measured(
        &mut self,
        guest: &mut Guest,
        policy: Policy,
        rounds: usize,
        start: impl FnOnce() -> Result<()>,
    ) -> Result<Found> {
        self.settle(guest, policy)?;
        if policy.flush == "hint" && guest.reports()? {
            self.warm_up(guest)?;
        }
        let mut found = Found::default();
        let before = guest.dir()?.stats()?;
        let sweeps = guest.word(mailbox::SWEEPS)?;
        start()?;
        if let Some(machine) = &self.machine {
            machine.reset()?;
        }
        for _ in 0..rounds {
            self.round(guest, &mut found)?;
        }
        self.count(&mut found)?;
        found.sweeps = guest.word(mailbox::SWEEPS)? - sweeps;
        for (name, now) in guest.dir()?.stats()? {
            let rose = now.saturating_sub(before.get(&name).copied().unwrap_or(0));
            found.stats.insert(name, rose);
        }
        Ok(found)
    }

    /// Ages until the guest has reported what it is asked for; if it doesn't, that will show.
    fn warm_up(&self, guest: &mut Guest) -> Result<()> {
        for _ in 0..WARM_UP {
            let before = guest.dir()?.stat("uncovered")?;
            let mut found = Found::default();
            self.round(guest, &mut found)?;
            if (guest.dir()?.stat("uncovered")? - before) * 1000 < found.aged {
                break;
            }
        }
        Ok(())
    }

    /// Sets a policy, and waits until nothing is left of the one before.
    fn settle(&mut self, guest: &mut Guest, policy: Policy) -> Result<()> {
        self.knobs.policy("clear_young", policy)?;
        guest.forget()?;
        guest.await_sweeps(2, PATIENCE)?;
        // page_idle ignores pages that wait for a place on the LRU lists; this puts them there.
        sys::write("/proc/sys/vm/drop_caches", "1")
    }

    /// Adds what the CPUs counted.
    fn count(&self, found: &mut Found) -> Result<()> {
        let Some(machine) = &self.machine else {
            return Ok(());
        };
        let now = machine.snapshot()?;
        ensure!(
            now.failed() == 0,
            "{} INVEPT or INVVPID failed",
            now.failed()
        );
        found.invept = now.invept();
        found.invvpid_addr = now.invvpid_addr();
        found.invvpid_context = now.invvpid_context();
        found.exits = now.exits();
        found.kicks = now.kicks();
        found.tlb_misses = now.tlb_misses();
        found.walk_refs = now.walk_refs();
        found.instructions = now.instructions();
        found.profile = now.profile;
        Ok(())
    }

    /// Lets DAMON watch the longest run of the workload's pages for a few aggregations. Falsely idle is
    /// what lies in a region without an access although the guest touched it. All of the run is marked
    /// idle first: what DAMON sees then is new. Needs a VMM of this process.
    pub fn damon(&mut self, guest: &mut Guest, policy: Policy) -> Result<Found> {
        self.settle(guest, policy)?;
        let run = longest_run(&guest.stamps()?);
        let gfns: Vec<u64> = run.clone().collect();
        let base = guest.hva(0).context("DAMON watches this process only")?;
        self.idle.mark(&guest.pfns(&gfns)?)?;
        let generation = guest.begin()?;
        if let Some(machine) = &self.machine {
            machine.reset()?;
        }
        let (start, end) = (base + run.start * PAGE, base + run.end * PAGE);
        let damon = Damon::start(start, end, DAMON_SAMPLE_US, DAMON_AGGREGATE_US)?;
        sys::sleep_ms(DAMON_WATCH_MS);
        let stamps = guest.stamps()?;
        let regions = damon.regions()?;
        drop(damon);
        ensure!(!regions.is_empty(), "DAMON shows no regions");
        let mut found = Found::default();
        for gfn in run {
            let hva = base + gfn * PAGE;
            let quiet =
                |region: &Region| region.start <= hva && hva < region.end && region.accesses == 0;
            let idle = regions.iter().any(quiet);
            let touched = stamps[gfn as usize] == generation;
            found.aged += 1;
            found.touched += u64::from(touched);
            found.false_idle += u64::from(touched && idle);
            found.idle += u64::from(!touched && idle);
        }
        self.count(&mut found)?;
        Ok(found)
    }

    fn round(&self, guest: &mut Guest, found: &mut Found) -> Result<()> {
        let known = guest.stamps()?;
        let gfns: Vec<u64> = (0..known.len() as u64)
            .filter(|gfn| known[*gfn as usize] != 0)
            .collect();
        let pfns = guest.pfns(&gfns)?;
        let units = self.frames.units(&pfns)?;
        let heads: Vec<u64> = units.iter().map(|unit| unit.pfn).collect();
        self.idle.mark(&heads)?;
        let foreign: Vec<bool> = gfns
            .iter()
            .map(|gfn| known[*gfn as usize] == FOREIGN)
            .collect();
        let before = self.frames.contents(&pfns, &foreign)?;
        let generation = guest.begin()?;
        sys::sleep_ms(TICKS_MS);
        guest.await_sweeps(1, PATIENCE)?;
        // What was touched comes first: it was touched before the pages are looked at.
        let stamps = guest.stamps()?;
        let after = self.frames.contents(&pfns, &foreign)?;
        let idle = self.idle.idle(&heads)?;
        for (unit, idle) in units.iter().zip(idle) {
            let touched = unit
                .members
                .clone()
                .any(|i| stamps[gfns[i] as usize] == generation || before[i] != after[i]);
            found.aged += 1;
            found.touched += u64::from(touched);
            found.false_idle += u64::from(touched && idle);
            found.idle += u64::from(!touched && idle);
        }
        Ok(())
    }
}

/// The longest run of pages that the workload touched.
fn longest_run(stamps: &[u32]) -> Range<u64> {
    let (mut best, mut position) = (0..0, 0);
    for chunk in stamps.chunk_by(|a, b| (*a != 0) == (*b != 0)) {
        let run = position..position + chunk.len() as u64;
        position = run.end;
        if chunk[0] != 0 && run.end - run.start > best.end - best.start {
            best = run;
        }
    }
    best
}

/// What the module says of a guest's VM, a line for each file.
pub fn module_view(guest: &Guest) -> Result<Vec<String>> {
    let dir = guest.dir()?;
    let mut lines = Vec::new();
    for name in ["state", "coverage"] {
        let text = dir.read(name)?.replace('\n', "; ");
        lines.push(format!("{name}: {text}"));
    }
    for (name, value) in dir.stats()? {
        if value != 0 {
            lines.push(format!("stats/{name}: {value}"));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::longest_run;

    // Fails if a run is cut short, merged over a gap, or one of untouched pages is taken.
    #[test]
    fn longest_run_is_touched() {
        assert_eq!(longest_run(&[0, 0, 0, 0, 1, 2, 0, 1, 1, 3]), 7..10);
        assert_eq!(longest_run(&[1, 1, 0]), 0..2);
        assert_eq!(longest_run(&[0, 0]), 0..0);
    }
}
