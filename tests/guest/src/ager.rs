// SPDX-License-Identifier: GPL-2.0
//! Ages a guest's pages and compares what the host believes with what the guest did.

use crate::frames::Frames;
use crate::guest::Guest;
use crate::mailbox::FOREIGN;
use anyhow::{ensure, Result};
use gvahint_vm::age::PageIdle;
use gvahint_vm::knobs::{Knobs, Policy};
use gvahint_vm::machine::Machine;
use gvahint_vm::{module, sys};
use std::fmt;
use std::time::Duration;

/// Machine time in which a workload surely completes a sweep.
const PATIENCE: Duration = Duration::from_secs(30);
/// Two timer ticks at HZ=100 and some more: then every vCPU was out of the guest and in again.
const TICKS_MS: u64 = 25;

/// What a few rounds of ageing found.
#[derive(Clone, Copy, Debug, Default)]
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
    /// Instructions in guest mode.
    pub instructions: u64,
}

impl Found {
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
        )
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
        self.knobs.policy("clear_young", policy)?;
        guest.forget()?;
        guest.await_sweeps(2, PATIENCE)?;
        // page_idle ignores pages that wait for a place on the LRU lists; this puts them there.
        sys::write("/proc/sys/vm/drop_caches", "1")?;
        let mut found = Found::default();
        if let Some(machine) = &self.machine {
            machine.reset()?;
        }
        for _ in 0..rounds {
            self.round(guest, &mut found)?;
        }
        if let Some(machine) = &self.machine {
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
            found.instructions = now.instructions();
        }
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
