// SPDX-License-Identifier: GPL-2.0
//! DAMON, over the VMM's address space or over the host's frames.
//!
//! It watches the longest runs of the workload's pages for two aggregations. Idle is what lies in a
//! region without an access.

use super::{Method, View};
use crate::guest::Guest;
use anyhow::{ensure, Context, Result};
use gvahint_vm::age::PageIdle;
use gvahint_vm::damon::{Damon, Space};
use gvahint_vm::PAGE;
use std::cmp::Reverse;
use std::ops::Range;

const SAMPLE_US: u64 = 20_000;
const AGGREGATE_US: u64 = 200_000;
const WATCH_MS: u64 = 450;
/// Runs that are watched: each is a region at least, and DAMON has a hundred.
const RUNS: usize = 16;

/// DAMON at work.
pub struct Watch {
    space: Space,
    idle: PageIdle,
    damon: Option<Damon>,
    /// Where each page of the view lies.
    addresses: Vec<u64>,
    watched: Vec<Range<u64>>,
}

impl Watch {
    /// Nothing is watched yet.
    pub fn new(space: Space) -> Result<Self> {
        Ok(Self {
            space,
            idle: PageIdle::open()?,
            damon: None,
            addresses: Vec::new(),
            watched: Vec::new(),
        })
    }

    /// Where DAMON finds each page. Virtual addresses need a VMM of this process.
    fn addresses(&self, guest: &Guest, view: &View) -> Result<Vec<u64>> {
        if self.space == Space::Physical {
            return Ok(view.pfns.iter().map(|pfn| pfn * PAGE).collect());
        }
        let base = guest.hva(0);
        let base = base.context("DAMON watches this process only")?;
        Ok(view.gfns.iter().map(|gfn| base + gfn * PAGE).collect())
    }
}

impl Method for Watch {
    fn window_ms(&self) -> u64 {
        WATCH_MS
    }

    /// Everything is marked idle first: what DAMON sees then is new.
    fn mark(&mut self, guest: &Guest, view: &View) -> Result<()> {
        self.idle.mark(&view.heads())?;
        self.addresses = self.addresses(guest, view)?;
        self.watched = longest_runs(self.addresses.clone());
        let damon = Damon::start(self.space, &self.watched, SAMPLE_US, AGGREGATE_US)?;
        self.damon = Some(damon);
        Ok(())
    }

    fn idle(&mut self, view: &View) -> Result<Vec<Option<bool>>> {
        let damon = self.damon.take().context("DAMON was not started")?;
        let regions = damon.regions()?;
        drop(damon);
        ensure!(!regions.is_empty(), "DAMON shows no regions");
        let idle = |address: u64| {
            let region = regions.iter().find(|r| r.range.contains(&address));
            let watched = self.watched.iter().any(|run| run.contains(&address));
            region
                .filter(|_| watched)
                .map(|region| region.accesses == 0)
        };
        let members = view.units.iter().map(|unit| unit.members.start);
        Ok(members.map(|i| idle(self.addresses[i])).collect())
    }
}

/// The longest runs of neighbouring pages, in order.
fn longest_runs(mut addresses: Vec<u64>) -> Vec<Range<u64>> {
    addresses.sort_unstable();
    let runs = addresses.chunk_by(|a, b| a + PAGE == *b);
    let mut runs: Vec<_> = runs.map(|run| run[0]..run[run.len() - 1] + PAGE).collect();
    runs.sort_by_key(|run| Reverse(run.end - run.start));
    runs.truncate(RUNS);
    runs.sort_by_key(|run| run.start);
    runs
}

#[cfg(test)]
mod tests {
    use super::{longest_runs, PAGE, RUNS};

    // Fails if a run is cut short, merged over a gap, lost although there is room, or out of order.
    #[test]
    fn longest_runs_are_kept_in_order() {
        let pages = [9, 1, 2, 3, 8, 20].map(|page| page * PAGE);
        let expected = [1..4, 8..10, 20..21].map(|run| run.start * PAGE..run.end * PAGE);
        assert_eq!(longest_runs(pages.to_vec()), expected);
        // Of more single pages than there are runs some go, but no longer run does.
        let singles = (0..40).map(|i| 2 * i * PAGE);
        let many = singles.chain([100 * PAGE, 101 * PAGE]).collect();
        let runs = longest_runs(many);
        assert_eq!(runs.len(), RUNS);
        assert_eq!(runs.last(), Some(&(100 * PAGE..102 * PAGE)));
    }
}
