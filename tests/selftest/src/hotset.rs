// SPDX-License-Identifier: GPL-2.0
//! The main scenario: a hot set that stays in the TLB, aged by page_idle under one policy.

use crate::meter::Meter;
use crate::scene::{vcpu_cpu, Scene, Setup};
use anyhow::Result;
use gvahint_vm::code::After;
use gvahint_vm::knobs::Policy;
use gvahint_vm::row::Row;
use gvahint_vm::sys;
use gvahint_vm::vcpu::Vcpu;

/// Pages of the hot set.
pub const PAGES: u64 = 4096;
/// Times that pages are marked and looked at.
pub const ROUNDS: usize = 4;
/// The same where the kernel looks for bugs: a round takes half a minute there.
const ROUNDS_OF_DEBUG: usize = 2;

/// Which pages are aged in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// All of them.
    All,
    /// One sixteenth, another one each round.
    Sixteenth,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct HotSet {
    pub policy: Policy,
    pub share: Share,
    pub after: After,
    pub vcpus: usize,
    /// vCPUs change CPUs in each round.
    pub moving: bool,
    pub max_delay_ms: u64,
    pub rounds: usize,
}

impl HotSet {
    /// The main path: one vCPU that never exits by itself and stays where it is.
    pub fn new(policy: Policy, share: Share) -> Self {
        Self {
            policy,
            share,
            after: After::Nothing,
            vcpus: 1,
            moving: false,
            // Deferred means the next entry, whenever that is; batched may be helped along.
            max_delay_ms: if policy.timing == "deferred" { 0 } else { 10 },
            rounds: match sys::kernel_looks_for_bugs() {
                true => ROUNDS_OF_DEBUG,
                false => ROUNDS,
            },
        }
    }

    fn scenario(&self) -> String {
        let guest = match self.after {
            After::Nothing => "hotset",
            After::Out => "hotset-exits",
            After::FastReentry => "hotset-reentry",
            After::OwnFlush => "hotset-flushes",
            After::Halt => "hotset-halts",
        };
        let share = match self.share {
            Share::All => "all",
            Share::Sixteenth => "sixteenth",
        };
        let moving = if self.moving { "/moving" } else { "" };
        format!("{guest}/{PAGES}/{share}{moving}")
    }

    fn chosen(&self, pfns: &[u64], round: usize) -> Vec<u64> {
        match self.share {
            Share::All => pfns.to_vec(),
            Share::Sixteenth => pfns.iter().skip(round % 16).step_by(16).copied().collect(),
        }
    }

    /// Runs it. Fails if an event was lost or the module counted other pages than KVM did.
    pub fn run(&self) -> Result<Row> {
        let setup = Setup {
            vcpus: self.vcpus,
            ..Setup::quiet(PAGES).with(self.after)
        };
        let mut scene = Scene::prepare(setup)?;
        scene.report_user()?;
        scene.knobs.policy("clear_young", self.policy)?;
        scene.knobs.set("max_delay_ms", self.max_delay_ms)?;
        // The guest has said all, however long a run takes where the kernel looks for bugs.
        scene.knobs.set("lease_ms", 600_000)?;
        scene.knobs.set("hint_max_age_ms", 600_000)?;
        let meter = Meter::start(&mut scene, "page_idle")?;
        let (mut touched, mut false_idle) = (0, 0);
        for round in 0..self.rounds {
            let chosen = self.chosen(&scene.pfns, round);
            if self.moving {
                self.shuffle(&scene.vcpus, round)?;
            }
            touched += chosen.len() as u64;
            false_idle += scene.round_with_entry(&chosen)?;
        }
        // The last look aged them again.
        scene.settle()?;
        let row = meter.row(&scene, self.scenario(), self.policy)?;
        Ok(Row {
            touched,
            false_idle,
            ..row
        })
    }

    /// Every vCPU to another CPU than in the round before.
    fn shuffle(&self, vcpus: &[Vcpu], round: usize) -> Result<()> {
        vcpus.iter().enumerate().try_for_each(|(i, vcpu)| {
            let cpu = if round.is_multiple_of(2) {
                0
            } else {
                vcpu_cpu(i)
            };
            vcpu.pin(cpu)
        })
    }
}

const TIMINGS: [&str; 3] = ["now", "batched", "deferred"];

/// Every policy that differs from all others: `default` and `none` have no timing, `uncovered`
/// matters to `hint` only.
pub fn policies() -> Vec<Policy> {
    let mut all = vec![Policy::new("default", "now"), Policy::new("none", "now")];
    for flush in ["hint", "context", "invept"] {
        all.extend(TIMINGS.map(|timing| Policy::new(flush, timing)));
    }
    all.extend(TIMINGS.map(|timing| Policy {
        uncovered: "none",
        ..Policy::new("hint", timing)
    }));
    all
}
