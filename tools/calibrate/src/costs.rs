// SPDX-License-Identifier: GPL-2.0
//! What dropping costs, in cycles of the guest's TSC, and from how many gVAs on a flush of the context
//! is cheaper.
//!
//! The guest reads a working set until it is cached; so many pages of it are aged; then it takes the time
//! of one exit and entry, at which they are dropped, and of reading the working set once more, which
//! fills the TLB again.

use crate::host::Cpus;
use crate::refusal::Refusal;
use crate::rig::Rig;
use crate::Watcher;
use anyhow::{ensure, Result};
use gvahint_vm::hints::Set;
use gvahint_vm::probe::Order;
use gvahint_vm::vm::Config;
use gvahint_vm::{knobs, layout, sys, PAGE};
use serde::Serialize;
use std::path::Path;

/// What is measured how often.
struct Extent {
    /// Pages of the working set.
    pages: u64,
    /// How many of them are aged, one number after the other.
    aged: &'static [u64],
    /// Each is measured so often.
    times: usize,
}

const WHOLE: Extent = Extent {
    pages: 1024,
    aged: &[1, 8, 16, 32, 64, 128, 256, 512],
    times: 31,
};
const QUICK: Extent = Extent {
    pages: 128,
    aged: &[1, 16, 48],
    times: 3,
};
/// Exits over which one is averaged.
const EXITS: u64 = 1000;
/// Points that a line is drawn through, at least.
const FEWEST_POINTS: usize = 3;
/// Attempts for each sample that counts.
const ATTEMPTS: usize = 8;

/// The costs; medians, in cycles of the TSC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// Pages of 4 KiB that the guest reads.
    pub working_set: u64,
    /// An exit for a hypercall that does nothing, KVM's handling, and the entry.
    pub exit: f64,
    /// One gVA more in a drain: its place in the log, and INVVPID of type 0.
    pub invvpid_address: f64,
    /// A drain by INVVPID of type 1, beside an exit without one; the first misses after it included.
    pub invvpid_context: f64,
    /// A drain by INVEPT of type 1, beside an exit without one; the first misses after it included.
    pub invept: f64,
    /// Reading a page after its context was dropped, beside reading it cached: a walk of both tables,
    /// with whatever caches of upper levels the CPU has.
    pub walk_after_context: f64,
    /// The same after INVEPT.
    pub walk_after_invept: f64,
    /// Drain and reading the working set, by gVAs dropped.
    pub by_gvas: Vec<Point>,
    /// The same, with the context dropped.
    pub by_context: f64,
    /// How many gVAs cost as much as the context, for this working set; absent if they never do.
    pub break_even: Option<u64>,
}

/// The cost of so many gVAs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Dropped by one drain.
    pub gvas: u64,
    /// Cycles of the exit with the drain, and of reading the working set after it.
    pub cycles: f64,
}

/// One exit with a drain, and reading the working set after it.
#[derive(Clone, Copy)]
struct Sample {
    exit: f64,
    read: f64,
}

/// Measures.
pub fn run(cpus: Cpus, quick: bool, watcher: &mut Watcher<'_>) -> Result<Costs> {
    let extent = if quick { QUICK } else { WHOLE };
    let (mut rig, ()) = Rig::new(Config::small(extent.pages), cpus, |_| Ok(()))?;
    let mut bench = Bench {
        pfns: rig.pfns((0..extent.pages).map(layout::data))?,
        gvas: (0..extent.pages)
            .map(|page| layout::USER + page * PAGE)
            .collect(),
        times: extent.times,
        rig: &mut rig,
    };
    let exit = bench.exit()?;
    let limit = sys::read(Path::new(knobs::ROOT).join("max_gvas_per_entry"))?.parse()?;
    let nothing = bench.need("none", 0, watcher)?;
    let mut points = vec![(0, nothing)];
    for aged in extent.aged.iter().filter(|aged| **aged <= limit) {
        match bench.median("hint", *aged, watcher)? {
            Some(sample) => points.push((*aged, sample)),
            // The timer makes the vCPU leave before so many are aged.
            None if points.len() >= FEWEST_POINTS => break,
            None => return Err(restless()),
        }
    }
    ensure!(
        points.len() >= FEWEST_POINTS,
        Refusal::unfit(
            format!("max_gvas_per_entry is {limit}, too few to tell costs by"),
            "set it to 64 or more while this runs",
        )
    );
    let context = bench.need("context", 1, watcher)?;
    let invept = bench.need("invept", 1, watcher)?;

    let walk = |sample: Sample| (sample.read - nothing.read) / extent.pages as f64;
    let cycles = |sample: Sample| sample.exit + sample.read;
    let of = |what: fn(Sample) -> f64| -> Vec<(f64, f64)> {
        let point = |(gvas, sample): &(u64, Sample)| (*gvas as f64, what(*sample));
        points.iter().map(point).collect()
    };
    let by_context = cycles(context);
    Ok(Costs {
        working_set: extent.pages,
        exit,
        invvpid_address: line(&of(|sample| sample.exit)).1,
        invvpid_context: context.exit - nothing.exit,
        invept: invept.exit - nothing.exit,
        walk_after_context: walk(context),
        walk_after_invept: walk(invept),
        by_gvas: points
            .iter()
            .map(|(gvas, sample)| Point {
                gvas: *gvas,
                cycles: cycles(*sample),
            })
            .collect(),
        by_context,
        break_even: break_even(&of(|sample| sample.exit + sample.read), by_context),
    })
}

struct Bench<'a> {
    rig: &'a mut Rig,
    pfns: Vec<u64>,
    gvas: Vec<u64>,
    times: usize,
}

impl Bench<'_> {
    fn order(&self, exits: u64, rounds: u64, gvas: &[u64]) -> Result<f64> {
        let cycles = self.rig.order(&Order {
            exits,
            rounds,
            walk: false,
            gvas,
        })?;
        Ok(cycles as f64)
    }

    fn exit(&self) -> Result<f64> {
        let one = || Ok(self.order(EXITS, 0, &[])? / EXITS as f64);
        let all: Result<Vec<_>> = (0..self.times).map(|_| one()).collect();
        Ok(median(all?))
    }

    /// Under a policy with one page aged, or none.
    fn need(&mut self, policy: &str, aged: u64, watcher: &mut Watcher<'_>) -> Result<Sample> {
        self.median(policy, aged, watcher)?.ok_or_else(restless)
    }

    /// Under a policy with so many pages aged; `None` if that takes longer than the vCPU stays in the guest.
    fn median(
        &mut self,
        policy: &str,
        aged: u64,
        watcher: &mut Watcher<'_>,
    ) -> Result<Option<Sample>> {
        let mut samples = Vec::new();
        for _ in 0..ATTEMPTS * self.times {
            watcher.check()?;
            samples.extend(self.sample(policy, aged)?);
            if samples.len() == self.times {
                let of = |what: fn(&Sample) -> f64| median(samples.iter().map(what).collect());
                return Ok(Some(Sample {
                    exit: of(|sample| sample.exit),
                    read: of(|sample| sample.read),
                }));
            }
        }
        Ok(None)
    }

    /// `None` if something was dropped earlier than at the exit that is measured.
    fn sample(&mut self, policy: &str, aged: u64) -> Result<Option<Sample>> {
        let set = |(i, gva): (u64, &u64)| Set::mapped(layout::data(i) / PAGE, &[*gva]);
        let sets: Vec<_> = (0..).zip(&self.gvas).map(set).collect();
        self.rig.report(&sets)?;
        // After `none`, everything is dropped once, at the exit; then the working set is cached.
        self.rig
            .flush(if policy == "none" { "hint" } else { policy })?;
        self.order(1, 3, &self.gvas)?;
        if policy == "none" {
            self.rig.flush("none")?;
        }
        let count = usize::try_from(aged)?;
        self.rig
            .mark(self.pfns.get(..count).unwrap_or(&self.pfns))?;
        let dropped = |rig: &Rig| -> Result<u64> {
            let counts = rig.counts()?;
            let names = ["drained_gva", "drained_context", "drained_full"];
            Ok(names.iter().map(|name| counts[name]).sum())
        };
        let before = dropped(self.rig)?;
        let exit = self.order(1, 0, &[])?;
        let by_exit = dropped(self.rig)? - before;
        let read = self.order(0, 1, &self.gvas)?;
        self.rig.flush("none")?;
        // More, if somebody else ages pages of this VM.
        Ok((by_exit == aged).then_some(Sample { exit, read }))
    }
}

fn restless() -> anyhow::Error {
    let what = "the vCPU leaves the guest too often for costs to be told";
    let remedy =
        "give it a CPU that nothing else uses: --cpu N, best an isolated one; or leave out \
                  the costs: --no-costs";
    Refusal::unfit(what, remedy).into()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Intercept and slope of the line of least squares.
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len().max(1) as f64;
    let mean = |what: fn(&(f64, f64)) -> f64| points.iter().map(what).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let over: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    let under: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = if under > 0.0 { over / under } else { 0.0 };
    (y - slope * x, slope)
}

/// The smallest number of gVAs that costs as much as the context.
fn break_even(points: &[(f64, f64)], by_context: f64) -> Option<u64> {
    let (start, slope) = line(points);
    let gvas = ((by_context - start) / slope).ceil();
    // Far beyond any log, and exact.
    (slope > 0.0 && gvas < 1e9).then(|| gvas.max(1.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fails if costs that lie on a line are not found again, or the break-even is not where it crosses.
    #[test]
    fn the_line_crosses_the_context() {
        let points: Vec<_> = [0.0, 8.0, 64.0, 512.0]
            .map(|n| (n, 5000.0 + 150.0 * n))
            .into();
        let (start, slope) = line(&points);
        assert!((start - 5000.0).abs() < 1e-6 && (slope - 150.0).abs() < 1e-9);
        assert_eq!(break_even(&points, 5000.0 + 150.0 * 300.5), Some(301));
        // The context is cheaper than a single gVA.
        assert_eq!(break_even(&points, 4000.0), Some(1));
    }

    // Fails if gVAs that cost nothing have a break-even.
    #[test]
    fn what_costs_nothing_never_breaks_even() {
        assert_eq!(break_even(&[(0.0, 10.0), (8.0, 10.0)], 50.0), None);
        assert_eq!(break_even(&[(0.0, 10.0), (8.0, 9.0)], 50.0), None);
        assert_eq!(break_even(&[], 50.0), None);
    }

    // Fails if one slow sample moves the median.
    #[test]
    fn medians_ignore_outliers() {
        assert_eq!(median(vec![5.0, 1e9, 4.0]), 5.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
