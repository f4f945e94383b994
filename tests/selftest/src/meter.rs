// SPDX-License-Identifier: GPL-2.0
//! From the start of a run to its row: the CPUs' counters, KVM's events, the module's own account.

use crate::scene::Scene;
use anyhow::{ensure, Result};
use gvahint_vm::knobs::{Policy, ROOT};
use gvahint_vm::row::Row;
use gvahint_vm::sys;
use gvahint_vm::trace::{Counter, AGED};
use std::collections::BTreeMap;

/// Measures a scene.
pub struct Meter {
    ager: &'static str,
    aged: Counter,
    stats: BTreeMap<String, u64>,
    work: u64,
}

impl Meter {
    /// Starts the scene's vCPUs and then to measure.
    pub fn start(scene: &mut Scene, ager: &'static str) -> Result<Self> {
        let aged = Counter::start(AGED)?;
        scene.start()?;
        let stats = scene.dir()?.stats()?;
        let work = scene.work();
        aged.reset()?;
        scene.machine.reset()?;
        Ok(Self {
            ager,
            aged,
            stats,
            work,
        })
    }

    /// What was measured; `touched` and `false_idle` are the caller's. Fails if an event was lost or
    /// the module counted other pages than KVM did.
    pub fn row(self, scene: &Scene, scenario: String, policy: Policy) -> Result<Row> {
        let counters = scene.machine.snapshot()?;
        let guest_work = scene.work() - self.work;
        let aged = self.aged.count()?;
        let after = scene.dir()?.stats()?;
        let delta = |name: &str| {
            let at = |stats: &BTreeMap<String, u64>| stats.get(name).copied().unwrap_or(0);
            at(&after) - at(&self.stats)
        };
        let counted = delta("aged");
        ensure!(
            counted == aged,
            "KVM aged {aged} pages, the module counted {counted}"
        );
        let uncovered_by = after
            .keys()
            .filter_map(|name| Some((name.strip_prefix("uncovered_")?.to_owned(), delta(name))))
            .filter(|(_, count)| *count > 0)
            .collect();
        let hint = policy.flush == "hint";
        let share = |name| hint.then(|| delta(name) as f64 / aged.max(1) as f64);
        Ok(Row {
            scenario,
            ager: self.ager.into(),
            backing: "4k".into(),
            profile: counters.profile.clone(),
            cpus: sys::cpus(),
            vcpus: scene.vcpus.len(),
            flush: policy.flush.into(),
            uncovered: policy.uncovered.into(),
            timing: policy.timing.into(),
            linear_alias: Some(sys::read(format!("{ROOT}/linear_alias"))?),
            aged,
            coverage: share("covered"),
            coverage_by_context: share("covered_context"),
            uncovered_by,
            invept: counters.invept(),
            invvpid_addr: counters.invvpid_addr(),
            invvpid_context: counters.invvpid_context(),
            vm_exits: counters.exits(),
            kicks: counters.kicks(),
            tlb_misses: counters.tlb_misses(),
            walk_refs: counters.walk_refs(),
            guest_work,
            instructions: counters.instructions(),
            ..Row::default()
        })
    }
}
