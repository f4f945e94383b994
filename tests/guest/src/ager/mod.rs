// SPDX-License-Identifier: GPL-2.0
//! Ages a guest's pages and compares what the host believes with what the guest did.

mod damon;
mod found;
mod lru_gen;
mod page_idle;
mod reclaim;

use crate::frames::{Frames, Unit};
use crate::guest::Guest;
use crate::mailbox::{self, FOREIGN};
use anyhow::{ensure, Result};
use damon::Watch;
pub use found::Found;
use gvahint_vm::age::PageIdle;
use gvahint_vm::damon::Space;
use gvahint_vm::knobs::{risen, Knobs, Policy, VmDir};
use gvahint_vm::machine::Machine;
use gvahint_vm::reclaim::{Memcg, Swap};
use gvahint_vm::{module, sys};
use lru_gen::Generations;
use reclaim::Reclaim;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Machine time in which a workload surely completes a sweep.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rounds until a guest that reports has been asked for what it did not report by itself.
const WARM_UP: usize = 20;
/// Of these, rounds in which no less was uncovered than before; then the rest can't be reported.
const STALLS: u32 = 2;
/// Machine time that a guest's first sweep may take, and how long it is still when it is over.
const SWEEP: Duration = Duration::from_secs(20);
const STILL_MS: u64 = 100;
/// Workloads at a time in one guest, at most.
const PROCESSES: u64 = 3;
/// How long a guest may not ask what is wanted.
const UNASKED: Duration = Duration::from_secs(3);
/// Two timer ticks at HZ=100 and some more: then every vCPU was out of the guest and in again.
const TICKS_MS: u64 = 25;

/// The memory cgroup of guests.
const GROUP: &str = "gvahint-guest";
/// Bytes that reclaim may swap out.
const SWAP: u64 = 64 << 20;

/// Who ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// page_idle, page by page.
    #[value(name = "page_idle")]
    PageIdle,
    /// DAMON over the VMM's address space.
    Damon,
    /// DAMON over the host's frames.
    #[value(name = "damon_paddr")]
    DamonPaddr,
    /// Ageing runs of MGLRU.
    #[value(name = "mglru")]
    LruGen,
    /// Reclaim from the two lists, which calls clear_flush_young.
    Reclaim,
    /// Reclaim with MGLRU, which calls clear_young.
    #[value(name = "reclaim_mglru")]
    ReclaimLruGen,
}

impl Kind {
    /// As in report.json.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PageIdle => "page_idle",
            Self::Damon => "damon",
            Self::DamonPaddr => "damon_paddr",
            Self::LruGen => "mglru",
            Self::Reclaim => "reclaim",
            Self::ReclaimLruGen => "reclaim_mglru",
        }
    }

    /// Whether it takes what it finds idle.
    pub const fn reclaims(self) -> bool {
        matches!(self, Self::Reclaim | Self::ReclaimLruGen)
    }

    /// Rounds that show what it sees: reclaim has to come by before, and takes what it saw idle then.
    pub const fn rounds(self) -> usize {
        match self {
            Self::Damon | Self::DamonPaddr => 1,
            Self::PageIdle | Self::LruGen => 2,
            Self::Reclaim | Self::ReclaimLruGen => 4,
        }
    }

    fn method(self, group: &Rc<Memcg>) -> Result<Box<dyn Method>> {
        let group = Rc::clone(group);
        Ok(match self {
            Self::PageIdle => Box::new(PageIdle::open()?),
            Self::Damon => Box::new(Watch::new(Space::Virtual)?),
            Self::DamonPaddr => Box::new(Watch::new(Space::Physical)?),
            Self::LruGen => Box::new(Generations::new(group)?),
            Self::Reclaim => Box::new(Reclaim::new(group, false)?),
            Self::ReclaimLruGen => Box::new(Reclaim::new(group, true)?),
        })
    }
}

/// Puts on the LRU lists what waits for a place there: agers ignore that.
pub fn fill_lru_lists() -> Result<()> {
    sys::write("/proc/sys/vm/drop_caches", "1")
}

/// The pages that a guest's workload ever touched, as they lie now.
struct View {
    gfns: Vec<u64>,
    /// Their frames.
    pfns: Vec<u64>,
    /// What the host ages as one.
    units: Vec<Unit>,
    /// Pages of guest memory.
    memory: u64,
}

impl View {
    /// The frame by which the host names each unit.
    fn heads(&self) -> Vec<u64> {
        self.units.iter().map(|unit| unit.pfn).collect()
    }
}

/// One of the host's agers.
trait Method {
    /// How long the guest goes on between the mark and the look.
    fn window_ms(&self) -> u64 {
        TICKS_MS
    }

    /// Whether it may look as often as it takes until the guest has reported everything.
    fn warms_up(&self) -> bool {
        false
    }

    /// Brings back what an earlier round took.
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    /// Makes pages old: what the guest touches from now on is to be seen.
    fn mark(&mut self, guest: &Guest, view: &View) -> Result<()>;

    /// What the host takes for idle, for each unit of the view; `None`: it did not look.
    fn idle(&mut self, view: &View) -> Result<Vec<Option<bool>>>;
}

/// An ager at work on one guest, whose VMM and memory belong to a memory cgroup of their own: boot
/// guests after making one, and let them go before it.
pub struct Ager {
    method: Box<dyn Method>,
    swap: Option<Swap>,
    group: Rc<Memcg>,
    warmer: PageIdle,
    frames: Frames,
    machine: Option<Machine>,
    knobs: Knobs,
}

impl Ager {
    /// page_idle. Loads gvahint.ko unless it is there.
    pub fn new() -> Result<Self> {
        module::provide("gvahint")?;
        let group = Rc::new(Memcg::enter(GROUP)?);
        Ok(Self {
            method: Kind::PageIdle.method(&group)?,
            swap: None,
            group,
            warmer: PageIdle::open()?,
            frames: Frames::open()?,
            machine: Machine::open(),
            knobs: Knobs::new(),
        })
    }

    /// Takes another ager from now on.
    pub fn choose(&mut self, kind: Kind) -> Result<()> {
        if kind.reclaims() && self.swap.is_none() {
            self.swap = Some(Swap::new(SWAP)?);
        }
        // An ager may have taken, or hold, what the next one needs.
        self.method.prepare()?;
        self.method = Kind::PageIdle.method(&self.group)?;
        self.method = kind.method(&self.group)?;
        Ok(())
    }

    /// Holds nothing of a guest any more, which is about to end.
    pub fn let_go(&mut self) -> Result<()> {
        self.choose(Kind::PageIdle)
    }

    /// Sets `linear_alias` from now on.
    pub fn linear_alias(&mut self, value: &str) -> Result<()> {
        self.knobs.set("linear_alias", value)
    }

    /// Runs `rounds` rounds under a policy: marks the workload's pages idle, lets it touch them, looks.
    pub fn run(&mut self, guest: &mut Guest, policy: Policy, rounds: usize) -> Result<Found> {
        self.run_measured(guest, policy, rounds, || Ok(()))
    }

    /// The same; `start` is called when what is to be measured begins.
    pub fn run_measured(
        &mut self,
        guest: &mut Guest,
        policy: Policy,
        rounds: usize,
        start: impl FnOnce() -> Result<()>,
    ) -> Result<Found> {
        self.settle(guest, policy)?;
        if policy.flush == "hint" && guest.dir()?.read("state")?.starts_with("live") {
            self.warm_up(guest)?;
        }
        let mut found = Found::default();
        let before = guest.dir()?.stats()?;
        let sweeps = guest.word(mailbox::SWEEPS)?;
        start()?;
        if let Some(machine) = &self.machine {
            machine.reset()?;
        }
        for _ in 0..rounds {
            round(self.method.as_mut(), &self.frames, guest, &mut found)?;
        }
        self.count(&mut found)?;
        found.sweeps = guest.word(mailbox::SWEEPS)? - sweeps;
        found.stats = risen(&before, guest.dir()?.stats()?);
        Ok(found)
    }

    /// One more round, with nothing in between and nothing counted by the CPUs.
    pub fn again(&mut self, guest: &mut Guest) -> Result<Found> {
        let mut found = Found::default();
        round(self.method.as_mut(), &self.frames, guest, &mut found)?;
        Ok(found)
    }

    /// Ages until the guest has reported what it is asked for: until nothing is uncovered any more, or
    /// that does not fall. page_idle does it for agers that change what they look at, or never
    /// come to an end.
    fn warm_up(&mut self, guest: &mut Guest) -> Result<()> {
        let method: &mut dyn Method = match self.method.warms_up() {
            true => self.method.as_mut(),
            false => &mut self.warmer,
        };
        let dir = guest.dir()?;
        await_sweep(&dir)?;
        let (mut last, mut stalled) = (u64::MAX, 0);
        for _ in 0..WARM_UP {
            let (before, asked) = (dir.stat("uncovered")?, dir.stat("wanted")?);
            let mut found = Found::default();
            round(method, &self.frames, guest, &mut found)?;
            let uncovered = dir.stat("uncovered")? - before;
            stalled += u32::from(uncovered >= last);
            if uncovered * 1000 < found.aged || stalled == STALLS {
                break;
            }
            last = uncovered;
            // A guest that was not asked for anything in a while asks seldom.
            let start = Instant::now();
            while dir.stat("wanted")? == asked && start.elapsed() < UNASKED {
                sys::sleep_ms(1);
            }
        }
        Ok(())
    }

    /// Sets a policy, and waits until nothing is left of the one before.
    fn settle(&mut self, guest: &mut Guest, policy: Policy) -> Result<()> {
        self.knobs.policy("clear_young", policy)?;
        self.knobs.policy("clear_flush_young", policy)?;
        guest.forget()?;
        guest.await_sweeps(2, PATIENCE)?;
        fill_lru_lists()
    }

    /// Adds what the CPUs counted.
    fn count(&self, found: &mut Found) -> Result<()> {
        let Some(machine) = &self.machine else {
            return Ok(());
        };
        let now = machine.snapshot()?;
        ensure!(
            now.failed() == 0,
            "{} INVEPT or INVVPID failed",
            now.failed()
        );
        found.invept = now.invept();
        found.invvpid_addr = now.invvpid_addr();
        found.invvpid_context = now.invvpid_context();
        found.exits = now.exits();
        found.kicks = now.kicks();
        found.tlb_misses = now.tlb_misses();
        found.walk_refs = now.walk_refs();
        found.instructions = now.instructions();
        found.profile = now.profile;
        Ok(())
    }
}

/// Waits until a guest has looked at all of its memory once: until it tells of no more pages.
fn await_sweep(dir: &VmDir) -> Result<()> {
    let start = Instant::now();
    let mut last = 0;
    loop {
        let hints = dir.stat("hints")?;
        if hints <= last || start.elapsed() > SWEEP {
            return Ok(());
        }
        last = hints;
        sys::sleep_ms(STILL_MS);
    }
}

/// The pages that carry a stamp.
fn stamped(known: &[u32]) -> Vec<u64> {
    let gfns = 0..known.len() as u64;
    gfns.filter(|gfn| known[*gfn as usize] != 0).collect()
}

/// One mark, one look.
fn round(
    method: &mut dyn Method,
    frames: &Frames,
    guest: &mut Guest,
    found: &mut Found,
) -> Result<()> {
    method.prepare()?;
    let known = guest.stamps()?;
    let gfns = stamped(&known);
    let pfns = guest.pfns(&gfns)?;
    let units = frames.units(&pfns)?;
    let foreign = |gfn: &u64| known[*gfn as usize] == FOREIGN;
    let foreign: Vec<bool> = gfns.iter().map(foreign).collect();
    let view = View {
        gfns,
        pfns,
        units,
        memory: known.len() as u64,
    };
    method.mark(guest, &view)?;
    let before = frames.contents(&view.pfns, &foreign)?;
    let generation = guest.begin()?;
    sys::sleep_ms(method.window_ms());
    // One that was under way may have touched all before, in each process that there may be; such a guest
    // does not get much further in this time.
    guest.await_sweeps(if guest.is_slow() { PROCESSES } else { 1 }, PATIENCE)?;
    // What was touched comes first: it was touched before the pages are looked at.
    let stamps = guest.stamps()?;
    let after = frames.contents(&view.pfns, &foreign)?;
    let idle = method.idle(&view)?;
    for (unit, idle) in view.units.iter().zip(idle) {
        let Some(idle) = idle else {
            continue;
        };
        let touched = unit
            .members
            .clone()
            .any(|i| stamps[view.gfns[i] as usize] == generation || before[i] != after[i]);
        found.aged += 1;
        found.touched += u64::from(touched);
        found.false_idle += u64::from(touched && idle);
        found.idle += u64::from(!touched && idle);
    }
    Ok(())
}

/// What the module says of a guest's VM, a line for each file.
pub fn module_view(guest: &Guest) -> Result<Vec<String>> {
    let dir = guest.dir()?;
    let mut lines = Vec::new();
    for name in ["state", "coverage"] {
        let text = dir.read(name)?.replace('\n', "; ");
        lines.push(format!("{name}: {text}"));
    }
    for (name, value) in dir.stats()? {
        if value != 0 {
            lines.push(format!("stats/{name}: {value}"));
        }
    }
    Ok(lines)
}
