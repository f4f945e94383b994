// SPDX-License-Identifier: GPL-2.0

//! Aged pages: the lookups, and the way to the log.

use crate::flushes::Vm;
use crate::guest::{scatter, Guest};
use crate::maps::{query, Map, NOW_MS};
use crate::ours::Table;
use gvahint_core::addr::{Gfn, Level};
use gvahint_core::counters::{Counter, Counters};
use gvahint_core::leaf::Cover;
use gvahint_core::plan::{aged, Env, Pass};
use gvahint_core::policy::{Policy, Tunables};
use std::hint::black_box;

/// A table, and frames to look up.
pub struct Lookups<M> {
    map: M,
    gfns: Vec<u64>,
}

impl<M: Map> Lookups<M> {
    /// The guest's table, and `count` of its frames, no two of which are near each other,
    /// `offset` frames on.
    pub fn new(guest: &Guest, count: u64, offset: u64) -> Self {
        let (map, _) = M::build(guest);
        let gfns = (0..count).map(|n| scatter(n, guest.pages) + offset);
        Self {
            map,
            gfns: gfns.collect(),
        }
    }

    /// Looks all of them up; how many are known.
    #[inline(never)]
    pub fn run(&self) -> u64 {
        let mut known = 0;
        for gfn in &self.gfns {
            known += u64::from(black_box(self.map.lookup(*gfn)).is_some());
        }
        known
    }
}

/// Frames to age, beside a log.
pub struct Ageing {
    table: Table,
    vm: Vm,
    gfns: Vec<Gfn>,
    counters: Counters,
}

impl Ageing {
    /// As [`Lookups::new`]; the table has room for frames below `max_gfn`.
    pub fn new(guest: &Guest, max_gfn: u64, count: u64) -> Self {
        let mut table = Table::new(max_gfn);
        guest.report(|words| table.report(words));
        let gfns = (0..count).map(|n| scatter(n, guest.pages));
        Self {
            table,
            vm: Vm::new(1),
            gfns: gfns.map(|gfn| Gfn::new(gfn).expect("below 2^40")).collect(),
            counters: Counters::new(),
        }
    }

    /// Looks all of them up, and appends their gVAs to the log.
    #[inline(never)]
    pub fn lookup_append(&self) -> u64 {
        let (hints, log, query) = (self.table.hints(), self.vm.log(), query());
        let mut appended = 0;
        for gfn in &self.gfns {
            match hints.cover(*gfn, Level::L4K, &query) {
                Ok(Cover::Gva((gva, _), _)) => appended += u64::from(log.append_gva(gva)),
                Ok(Cover::Gvas(list)) => {
                    for gva in list.iter() {
                        appended += u64::from(log.append_gva(gva));
                    }
                }
                Ok(Cover::Context) => log.append_context(),
                Err(_) => {}
            }
        }
        appended
    }

    /// The whole way of an aged leaf, with policy and counters.
    #[inline(never)]
    pub fn plan(&self) -> u64 {
        let env = Env {
            policy: Policy::CLEAR_YOUNG,
            tunables: Tunables::DEFAULT,
            log: self.vm.log(),
            hints: Ok(self.table.hints()),
            can_flush_gva: true,
            counters: &self.counters,
            wanted: None,
            kept: None,
        };
        let mut pass = Pass::default();
        for gfn in &self.gfns {
            aged(&mut pass, &env, *gfn, Level::L4K, NOW_MS);
        }
        black_box(pass);
        self.counters.get(Counter::AppendedGva)
    }
}
