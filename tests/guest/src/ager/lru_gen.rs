// SPDX-License-Identifier: GPL-2.0
//! MGLRU: ageing runs by debugfs.
//!
//! A run moves what it finds accessed to the youngest generation. The kernel shows how many pages a
//! generation has, not which; which ones a run found accessed is known from KVM, whose accessed bits
//! it cleared. Idle is what the second run did not find; the generation has to have grown by the others.
//! A leaf that the module keeps young is found accessed, too, and no bit is cleared: page_idle finds
//! these, at once. A leaf that is falsely idle stays so for it.

use super::{Method, View};
use crate::guest::Guest;
use anyhow::{ensure, Result};
use gvahint_vm::age::PageIdle;
use gvahint_vm::lru_gen;
use gvahint_vm::reclaim::Memcg;
use gvahint_vm::trace::{Counter, AGED};
use std::collections::HashSet;
use std::rc::Rc;

/// MGLRU at work on one memory cgroup.
pub struct Generations {
    group: Rc<Memcg>,
    aged: Counter,
    kept: PageIdle,
}

impl Generations {
    /// Guest memory has to belong to the group.
    pub fn new(group: Rc<Memcg>) -> Result<Self> {
        let aged = Counter::start(AGED)?;
        Ok(Self {
            group,
            aged,
            kept: PageIdle::open()?,
        })
    }
}

impl Method for Generations {
    fn warms_up(&self) -> bool {
        true
    }

    fn mark(&mut self, _guest: &Guest, _view: &View) -> Result<()> {
        lru_gen::age(&self.group)?;
        self.aged.reset()
    }

    fn idle(&mut self, view: &View) -> Result<Vec<Option<bool>>> {
        let youngest = lru_gen::age(&self.group)?;
        let leaves = self.aged.fields(["gfn", "level"])?;
        let young: HashSet<(u64, u64)> = leaves.into_iter().map(<(u64, u64)>::from).collect();
        let found: u64 = young.iter().map(|(_, level)| pages(*level)).sum();
        let shown = lru_gen::generations(&self.group)?;
        let grown = shown.iter().find(|generation| generation.seq == youngest);
        let grown = grown.map_or(0, |generation| generation.pages);
        // Pages that wait for a place on the LRU lists are not counted there.
        ensure!(
            grown * 20 >= found * 19,
            "{found} pages were found accessed, but generation {youngest} has {grown} pages"
        );
        let idle =
            |gfn: u64| !(1..=3).any(|level| young.contains(&(gfn - gfn % pages(level), level)));
        let units = view.units.iter();
        let mut found: Vec<_> = units
            .map(|unit| Some(view.gfns[unit.members.clone()].iter().all(|gfn| idle(*gfn))))
            .collect();
        for (unit, idle) in view.units.iter().zip(&mut found) {
            if *idle == Some(true) {
                self.kept.mark(&[unit.pfn])?;
                *idle = Some(self.kept.idle(&[unit.pfn])?[0]);
            }
        }
        Ok(found)
    }
}

/// Pages that an EPT leaf of that level spans.
fn pages(level: u64) -> u64 {
    512u64.pow(level.saturating_sub(1) as u32)
}
