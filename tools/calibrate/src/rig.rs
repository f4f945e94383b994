// SPDX-License-Identifier: GPL-2.0
//! A VM of our own under the ager: its guest does what it is told, its hints are what we report, its
//! policy is set for it alone and goes with it.

use crate::host::Cpus;
use crate::refusal::Refusal;
use anyhow::{ensure, Context, Result};
use gvahint_vm::age::{self, PageIdle};
use gvahint_vm::hints::{Reporter, Set};
use gvahint_vm::knobs::VmDir;
use gvahint_vm::probe::{Order, Probe};
use gvahint_vm::vm::{Config, Vm};
use gvahint_vm::{layout, sys, PAGE};
use std::collections::BTreeMap;

/// Fields are dropped in this order: the vCPU before the VM.
pub struct Rig {
    probe: Probe,
    reporter: Reporter,
    vm: Vm,
    idle: PageIdle,
    dir: VmDir,
}

/// Counters of the module's that say what happened to this VM, and that nothing else did.
pub type Counts = BTreeMap<&'static str, u64>;

/// Their names.
const COUNTED: [&str; 9] = [
    "aged",
    "uncovered",
    "appended_gva",
    "appended_context",
    "appended_full",
    "drained_gva",
    "drained_context",
    "drained_full",
    "superseded",
];

impl Rig {
    /// Makes the VM; `prepare` adds to the guest's tables, and says what it likes. Its policy is `none` to
    /// begin with.
    pub fn new<T>(
        config: Config,
        cpus: Cpus,
        prepare: impl FnOnce(&mut Vm) -> Result<T>,
    ) -> Result<(Self, T)> {
        let mut vm = Vm::new(config)?;
        let said = prepare(&mut vm)?;
        let dir = VmDir::newest()?;
        dir.write("clear_young_flush", "none")?;
        dir.write("clear_young_uncovered", "none")?;
        // What is to be dropped is dropped when the guest leaves by itself, as it is told.
        dir.write("clear_young_timing", "deferred")?;
        let mut reporter = Reporter::new(vm.caller()?);
        let hello = reporter.hello(vm.memory())?;
        ensure!(
            hello.is_ok(),
            Refusal::unfit(
                format!("the module refuses our VM's HELLO ({hello:?})"),
                "raise max_bytes_per_vm, or set it to 0",
            )
        );
        let answer = reporter.linear(vm.memory(), &[])?;
        ensure!(answer == 0, "LINEAR answered {answer}");
        let state = dir.read("state")?;
        if state == "no-gva-flush" {
            let what = "this CPU has no INVVPID for single addresses: gvahint uses no hints here";
            let remedy = "nothing to calibrate: choose between the policies `context` and `invept`";
            return Err(Refusal::unfit(what, remedy).into());
        }
        ensure!(state == "live", "our VM's state is {state:?}");
        let probe = Probe::start(&mut vm, cpus.vcpu)?;
        let rig = Self {
            probe,
            reporter,
            idle: PageIdle::open()?,
            vm,
            dir,
        };
        Ok((rig, said))
    }

    /// The VM.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// Says which gVAs lead to pages; that also renews the lease.
    pub fn report(&mut self, sets: &[Set]) -> Result<()> {
        self.reporter.report_all(self.vm.memory(), sets)
    }

    /// Sets what is dropped for pages that are aged from now on. After `none`, anything else drops
    /// everything once.
    pub fn flush(&self, policy: &str) -> Result<()> {
        self.dir.write("clear_young_flush", policy)
    }

    /// Gives the guest an order; cycles that it took.
    pub fn order(&self, order: &Order<'_>) -> Result<u64> {
        self.probe.run(order)
    }

    /// Frames of guest-physical addresses.
    pub fn pfns(&self, gpas: impl Iterator<Item = u64>) -> Result<Vec<u64>> {
        age::pfns(self.vm.memory(), gpas)
    }

    /// Clears their accessed bits.
    pub fn mark(&self, pfns: &[u64]) -> Result<()> {
        self.idle.mark(pfns)
    }

    /// Whether a frame's accessed bit came back.
    pub fn came_back(&self, pfn: u64) -> Result<bool> {
        Ok(self.idle.count(&[pfn])? == 0)
    }

    /// The counters now.
    pub fn counts(&self) -> Result<Counts> {
        let count = |name| Ok((name, self.dir.stat(name)?));
        COUNTED.into_iter().map(count).collect()
    }

    /// How often the vCPU's thread has left its CPU.
    pub fn switches(&self) -> Result<u64> {
        let path = format!("/proc/self/task/{}/status", self.probe.tid());
        let status = sys::read(path)?;
        let counts = status.lines().filter_map(|line| {
            let (name, count) = line.split_once(':')?;
            name.ends_with("ctxt_switches")
                .then(|| count.trim().parse::<u64>().ok())?
        });
        Ok(counts.sum())
    }

    /// Has the kernel back data pages by a huge page each, which it may not have.
    pub fn collapse(vm: &Vm, first: u64, pages: u64) -> Result<()> {
        let (gpa, len) = (layout::data(first), pages * PAGE);
        let remedy =
            "free some memory, or set /sys/kernel/mm/transparent_hugepage/enabled to madvise";
        let what = "the kernel has no huge pages for guest memory";
        vm.memory()
            .collapse(gpa, len)
            .context(Refusal::unfit(what, remedy))
    }
}
