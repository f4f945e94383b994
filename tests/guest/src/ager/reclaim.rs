// SPDX-License-Identifier: GPL-2.0
//! Reclaim of the guest's memory cgroup into compressed swap, with MGLRU or the two lists before it.
//!
//! Of what reclaim may take one part is the workload's, the other is memory that nobody touches. Both
//! are deactivated, so that only accesses tell them apart, and less is reclaimed than is cold. Idle is
//! what was swapped out. All else of the guest is locked: it is colder still, and reclaim would take
//! that alone.

use super::{Method, View};
use crate::guest::Guest;
use anyhow::{ensure, Context, Result};
use gvahint_vm::knobs::Knobs;
use gvahint_vm::memory::{Backing, Memory};
use gvahint_vm::reclaim::{advise, lock, vmstat, Advice, Memcg};
use gvahint_vm::trace::{Counter, UNMAPPED};
use gvahint_vm::{age, lru_gen, PAGE};
use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;

/// Pages that nobody touches.
const COLD: u64 = 512;
/// Bytes to reclaim at a time: less, or it would go round and round over what is in use.
const STEP: u64 = COLD / 4 * PAGE;

/// How often it is asked to.
const TRIES: u32 = 4;

/// memory.reclaim at work on the VMM's memory cgroup. Needs a VMM of this process.
pub struct Reclaim {
    group: Rc<Memcg>,
    cold: Memory,
    unmapped: Counter,
    base: u64,
    /// Guest pages that reclaim may take: those that the workload had touched at the first mark.
    open: Vec<Range<u64>>,
    _lru: Knobs,
}

impl Reclaim {
    /// For one guest, whose memory belongs to the group.
    pub fn new(group: Rc<Memcg>, generations: bool) -> Result<Self> {
        let mut lru = Knobs::new();
        lru_gen::enable(&mut lru, generations)?;
        Ok(Self {
            group,
            cold: Memory::new(COLD * PAGE, Backing::Small)?,
            unmapped: Counter::start(UNMAPPED)?,
            base: 0,
            open: Vec::new(),
            _lru: lru,
        })
    }

    fn hvas(&self, gfns: &Range<u64>) -> Range<u64> {
        self.base + gfns.start * PAGE..self.base + gfns.end * PAGE
    }
}

impl Method for Reclaim {
    fn prepare(&mut self) -> Result<()> {
        let mut open = self.open.iter();
        open.try_for_each(|gfns| advise(self.hvas(gfns), Advice::Needed))
    }

    fn mark(&mut self, guest: &Guest, view: &View) -> Result<()> {
        if self.open.is_empty() {
            self.base = guest
                .hva(0)
                .context("only memory of this process is reclaimed")?;
            self.open = spans(view);
            let mut others = gaps(&self.open, view.memory).into_iter();
            others.try_for_each(|gfns| lock(self.hvas(&gfns)))?;
        }
        for gfns in &self.open {
            advise(self.hvas(gfns), Advice::Cold)?;
        }
        // Fresh, and so behind what the guest has: reclaim has to look at that first.
        self.cold = Memory::new(COLD * PAGE, Backing::Small)?;
        self.cold.populate(0, COLD);
        self.cold.deactivate(0, COLD)
    }

    fn idle(&mut self, view: &View) -> Result<Vec<Option<bool>>> {
        self.unmapped.reset()?;
        let before = vmstat("pswpout")?;
        // The kernel may give less than asked for, and nothing if MGLRU has yet to make a generation.
        let mut taken = false;
        for _ in 0..TRIES {
            self.group.reclaim(STEP)?;
            taken = vmstat("pswpout")? > before;
            if taken {
                break;
            }
        }
        ensure!(taken, "nothing was reclaimed in {TRIES} attempts");
        let out = age::swapped(view.gfns.iter().map(|gfn| self.base + gfn * PAGE))?;
        // What the guest wanted back at once is in memory again.
        let back = self.unmapped.fields(["address"])?;
        let back: HashSet<u64> = back.into_iter().map(|[gpa]| gpa / PAGE).collect();
        let idle = |i: usize| out[i] || back.contains(&view.gfns[i]);
        let looked_at = |gfn: u64| self.open.iter().any(|gfns| gfns.contains(&gfn));
        let units = view.units.iter().map(|unit| {
            let first = view.gfns[unit.members.start];
            looked_at(first).then(|| unit.members.clone().any(idle))
        });
        Ok(units.collect())
    }
}

/// Runs of guest pages that lie in the view's units.
fn spans(view: &View) -> Vec<Range<u64>> {
    let mut spans: Vec<Range<u64>> = Vec::new();
    for unit in &view.units {
        let first = view.gfns[unit.members.start];
        let first = first - first % unit.pages;
        match spans.last_mut() {
            Some(span) if span.end == first => span.end += unit.pages,
            _ => spans.push(first..first + unit.pages),
        }
    }
    spans
}

/// What lies between the spans, up to `end`.
fn gaps(spans: &[Range<u64>], end: u64) -> Vec<Range<u64>> {
    let ends = spans.iter().map(|span| span.end);
    let starts = spans.iter().map(|span| span.start);
    let gaps = [0].into_iter().chain(ends).zip(starts.chain([end]));
    gaps.filter(|(start, end)| start < end)
        .map(|(start, end)| start..end)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{gaps, spans, View};
    use crate::frames::Unit;

    // Fails if reclaim may take what was not touched, or a huge page is locked in part.
    #[test]
    fn spans_and_gaps_tile_memory() {
        let unit = |pfn, pages, members| Unit {
            pfn,
            pages,
            members,
        };
        let view = View {
            gfns: vec![2, 3, 9, 520, 530],
            pfns: vec![70, 71, 9, 1032, 1042],
            units: vec![
                unit(70, 1, 0..1),
                unit(71, 1, 1..2),
                unit(9, 1, 2..3),
                unit(1024, 512, 3..5),
            ],
            memory: 2048,
        };
        let open = spans(&view);
        assert_eq!(open, [2..4, 9..10, 512..1024]);
        assert_eq!(gaps(&open, view.memory), [0..2, 4..9, 10..512, 1024..2048]);
        assert_eq!(gaps(&[0..4, 6..8], 8).len(), 1);
    }
}
