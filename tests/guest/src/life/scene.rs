// SPDX-License-Identifier: GPL-2.0
//! A guest that takes orders, aged by hint, and how long it takes until all is well.

use crate::ager::{fill_lru_lists, module_view, Ager, Found};
use crate::guest::{Guest, Plan};
use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::knobs::{risen, Knobs, Policy};
use gvahint_vm::sys::{self, KMEMLEAK, KMEMLEAK_MS};
use gvahint_vm::{module, PAGE};
use std::time::{Duration, Instant};

pub const REPORTER: &str = "gvahint_guest";
pub const HINT: Policy = Policy::new("hint", "now");

/// Pages covered, and pages falsely idle, when all is well.
const COVERED: f64 = 0.99;
const FALSELY_IDLE: f64 = 0.001;

/// Machine time in which a guest that has just said HELLO is covered: the sweep looks at 1 GiB in 4 s,
/// and what it misses is asked for.
pub const SOON: Duration = Duration::from_millis(2_500);
/// The same if the guest has to notice by itself that the host doesn't know it any more: it calls at
/// least every 2 s.
pub const AFTER_POLL: Duration = Duration::from_millis(4_500);
/// The same if it was told that there is no host: it asks every 5 s.
pub const AFTER_ASKING: Duration = Duration::from_millis(7_500);

/// A guest and its ager.
pub struct Scene {
    pub ager: Ager,
    pub guest: Guest,
    pub knobs: Knobs,
}

/// A plan for a guest that takes orders.
pub fn plan(mib: u64) -> Plan {
    let mut plan = Plan::new("random", mib);
    plan.append = "gvahint.orders=1".to_owned();
    plan
}

/// The same under QEMU.
pub fn qemu(machine: &str, mib: u64) -> Plan {
    Plan {
        qemu: Some(machine.to_owned()),
        ..plan(mib)
    }
}

impl Scene {
    /// Boots a guest, and waits until it is covered.
    pub fn new(plan: &Plan) -> Result<Self> {
        Self::with(plan, |_| Ok(()))
    }

    /// The same; `prepare` sets files of the host before the guest is there.
    pub fn with(plan: &Plan, prepare: impl FnOnce(&mut Knobs) -> Result<()>) -> Result<Self> {
        ensure!(
            module::path("gvahint").exists(),
            "the machine has no gvahint.ko"
        );
        sys::pin(0, 0)?;
        let ager = Ager::new()?;
        let mut knobs = Knobs::new();
        prepare(&mut knobs)?;
        let guest = Guest::boot(plan)?;
        let mut scene = Self { ager, guest, knobs };
        scene.guest.await_sweeps(1, SOON)?;
        fill_lru_lists()?;
        scene.hint()?;
        scene.recover("the boot", SOON)?;
        Ok(scene)
    }

    /// Ages by hint: to be said again after the module came back.
    pub fn hint(&mut self) -> Result<()> {
        self.knobs.policy("clear_young", HINT)
    }

    /// Why the host uses hints or does not.
    pub fn state(&self) -> Result<String> {
        self.guest.dir()?.read("state")
    }

    /// Waits for that state.
    pub fn await_state(&mut self, goal: &str, limit: Duration) -> Result<Duration> {
        let (start, limit) = (Instant::now(), self.guest.patience(limit));
        while self.state()? != goal {
            ensure!(
                start.elapsed() < limit,
                "the VM is {}, not {goal}, after {limit:?}",
                self.state()?
            );
            sys::sleep_ms(5);
        }
        Ok(start.elapsed())
    }

    /// Ages all that the workload touched, once. Nothing is done about what an earlier round left
    /// behind.
    pub fn look(&mut self) -> Result<Found> {
        let stats = |guest: &Guest| guest.dir().and_then(|dir| dir.stats()).unwrap_or_default();
        let before = stats(&self.guest);
        let mut found = self.ager.again(&mut self.guest)?;
        found.stats = risen(&before, stats(&self.guest));
        Ok(found)
    }

    /// Ages until the guest is covered and no page is falsely idle, which has to be so within `limit`;
    /// from HELLO on, no page may be falsely idle.
    pub fn recover(&mut self, after: &str, limit: Duration) -> Result<()> {
        let (start, limit) = (Instant::now(), self.guest.patience(limit));
        let mut rounds = 0;
        loop {
            let reports = ["no-linear", "live"].contains(&self.state()?.as_str());
            let found = self.look()?;
            let covered = found.coverage().unwrap_or(0.0);
            // What was aged before HELLO is flushed with what is aged next.
            let reports = reports && found.stats.get("hello") == Some(&0);
            if reports {
                rounds += 1;
                exact(&found).with_context(|| format!("after {after}, round {rounds}: {found}"))?;
            }
            if reports && covered >= COVERED {
                println!(
                    "after {after}: {:.2} % covered after {:.2} s, {rounds} rounds; {} touched",
                    100.0 * covered,
                    start.elapsed().as_secs_f64(),
                    found.touched
                );
                return Ok(());
            }
            if start.elapsed() > limit {
                let view = module_view(&self.guest)?.join("\n");
                let console = self.guest.console();
                bail!("not covered {limit:?} after {after}: {found}\n{view}\n{console}");
            }
        }
    }

    /// Ages twice while nothing is dropped: fails if that is seen to be right. Then nothing would be
    /// stale in this scene, and right ages would prove nothing.
    pub fn blind(&mut self) -> Result<()> {
        let found = self.look()?;
        ensure!(
            found.share() >= 0.9,
            "without hints only {:.2} % are falsely idle: {found}",
            100.0 * found.share()
        );
        Ok(())
    }

    /// Ends the workload; fails if it has something to complain of, or its kernel.
    pub fn finish(mut self) -> Result<()> {
        self.guest.finish()?;
        self.guest.check_console()
    }

    /// A file of the guest's reporter.
    pub fn reporter(&mut self, file: &str) -> Result<String> {
        let order = format!("read /sys/kernel/{REPORTER}/{file}");
        self.guest.order(&order)
    }

    /// Pages that the workload has touched.
    pub fn known(&self) -> Result<Vec<u64>> {
        let stamps = self.guest.stamps()?;
        let known = (0..).zip(stamps).filter(|(_, stamp)| *stamp != 0);
        Ok(known.map(|(gfn, _)| gfn).collect())
    }

    /// Starts another workload that uses `mib` MiB, and waits until it has touched them. Returns its
    /// process.
    pub fn work(&mut self, name: &str, mib: u64) -> Result<String> {
        let goal = self.known()?.len() + (mib << 20) as usize / PAGE as usize * 9 / 10;
        let process = self.guest.order(&format!("work {name} {mib}"))?;
        let (start, limit) = (Instant::now(), self.guest.patience(AFTER_POLL));
        while self.known()?.len() < goal {
            ensure!(
                start.elapsed() < limit,
                "{name} touched not even {goal} pages; console:\n{}",
                self.guest.console()
            );
            sys::sleep_ms(20);
        }
        fill_lru_lists()?;
        Ok(process)
    }

    /// Fails if the guest's kernel looks for memory that was forgotten, and finds some.
    pub fn forgotten(&mut self) -> Result<()> {
        let read = format!("read {KMEMLEAK}");
        if self.guest.order(&read).is_err() {
            println!("the guest's kernel does not look for forgotten memory");
            return Ok(());
        }
        // What a first scan finds may have been on its way from one place to another.
        for _ in 0..2 {
            sys::sleep_ms(KMEMLEAK_MS);
            self.guest.order(&format!("write {KMEMLEAK} scan"))?;
        }
        let found = self.guest.order(&read)?;
        println!("kmemleak found {found:?}");
        ensure!(found.is_empty(), "the guest forgot memory");
        Ok(())
    }

    /// Loads the host's module, and ages by hint.
    pub fn insert_host(&mut self) -> Result<()> {
        module::insert("gvahint")?;
        self.hint()
    }
}

/// Fails if pages are falsely idle, or too few were touched for that to mean anything.
pub fn exact(found: &Found) -> Result<()> {
    ensure!(
        found.touched >= 100,
        "the guest touched {} pages only",
        found.touched
    );
    ensure!(
        found.share() <= FALSELY_IDLE,
        "{} of {} touched pages are falsely idle",
        found.false_idle,
        found.touched
    );
    Ok(())
}
