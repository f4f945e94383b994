// SPDX-License-Identifier: GPL-2.0

//! What a planner's decision depends on.

#![allow(dead_code)]

use crate::common::{Op, Recorder, Vm};
use crate::storage::{Arena, Storage, MAPPED};
use gvahint_core::addr::{Gfn, Level};
use gvahint_core::counters::Counters;
use gvahint_core::plan::{aged, finish, Env, Outcome, Pass, Reason};
use gvahint_core::policy::{Flush, Policy, Timing, Tunables, Uncovered};
use gvahint_core::sync::{AtomicU32, AtomicU64};
use gvahint_core::wanted::Wanted;

/// One gVA, two gVAs, none, and the kinds.
pub(crate) const ONE: u64 = 1;
pub(crate) const TWO: u64 = 2;
pub(crate) const UNKNOWN: u64 = 3;

/// A VM with a few hints, its policy and its counters.
pub(crate) struct World {
    pub(crate) vm: Vm,
    pub(crate) table: Storage,
    pub(crate) counters: Counters,
    pub(crate) pending: AtomicU32,
    pub(crate) policy: Policy,
    pub(crate) tunables: Tunables,
    pub(crate) can_flush_gva: bool,
    pub(crate) session: Result<(), Reason>,
    pub(crate) records: AtomicU64,
    pub(crate) wanted: [AtomicU64; 8],
}

impl World {
    pub(crate) fn new(flush: Flush, uncovered: Uncovered, timing: Timing) -> Self {
        let mut table = Storage::new(512, 64);
        table.set(ONE, 0, MAPPED, &[0x1000]).unwrap();
        table.set(TWO, 0, MAPPED, &[0x2000, 0x3000]).unwrap();
        Self {
            vm: Vm::new(16),
            table,
            counters: Counters::new(),
            pending: AtomicU32::new(0),
            policy: Policy {
                flush,
                uncovered,
                timing,
            },
            tunables: Tunables::DEFAULT,
            can_flush_gva: true,
            session: Ok(()),
            records: AtomicU64::new(0),
            wanted: [const { AtomicU64::new(0) }; 8],
        }
    }

    pub(crate) fn hint() -> Self {
        Self::new(Flush::Hint, Uncovered::Full, Timing::Now)
    }

    pub(crate) fn env(&self) -> Env<'_, Arena> {
        Env {
            policy: self.policy,
            tunables: self.tunables,
            log: self.vm.log(),
            hints: self.session.map(|()| self.table.hints()),
            can_flush_gva: self.can_flush_gva,
            counters: &self.counters,
            wanted: Some(Wanted::new(&self.records, &self.wanted)),
            kept: None,
        }
    }

    /// A notifier call that finds these frames young.
    pub(crate) fn call(&self, gfns: &[u64], other: u32) -> Outcome {
        let mut pass = Pass::default();
        for gfn in gfns {
            self.aged(&mut pass, *gfn, Level::L4K);
        }
        let outcome = finish(&mut pass, &self.env(), other, &self.pending);
        assert_eq!(pass, Pass::default());
        outcome
    }

    pub(crate) fn aged(&self, pass: &mut Pass, gfn: u64, level: Level) {
        let now = self.table.now_ms;
        aged(pass, &self.env(), Gfn::new(gfn).unwrap(), level, now);
    }

    /// What a vCPU that was here from the start flushes.
    pub(crate) fn flushes(&self) -> Vec<Op> {
        let cursor = gvahint_core::sync::AtomicU64::new(0);
        let mut r = Recorder::default();
        let _ = self.vm.log().drain(&cursor, u32::MAX, &mut r);
        r.ops
    }
}
