// SPDX-License-Identifier: GPL-2.0
//! What most tests start from: a loaded module, a VM with a hot set, its pages' frames, the agers.

use crate::tap::skip;
use anyhow::{ensure, Context, Result};
use gvahint_vm::age::{self, PageIdle};
use gvahint_vm::code::{After, Region, Sweep, Touch};
use gvahint_vm::hints::{Linear, Reporter, Set, LINEAR_KEPT};
use gvahint_vm::knobs::{Knobs, Policy, VmDir};
use gvahint_vm::machine::{Machine, Snapshot};
use gvahint_vm::tables::GuestPage;
use gvahint_vm::vcpu::Vcpu;
use gvahint_vm::vm::{Config, Vm};
use gvahint_vm::{layout, module, sys, PAGE};
use std::time::Duration;

/// Virtual time in which a vCPU surely completes a few sweeps.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Two timer ticks at HZ=100 and some more: then a vCPU that is not isolated was out and in again.
pub const TICKS_MS: u64 = 25;

/// The machine's counters; without them a test can't say much.
pub fn machine() -> Result<Machine> {
    match Machine::open() {
        Some(machine) => Ok(machine),
        None => skip!("not the emulated machine: no counters"),
    }
}

/// Skips unless the machine runs one of these profiles.
pub fn need_profile(machine: &Machine, profiles: &[&str]) -> Result<String> {
    let profile = machine.snapshot()?.profile;
    if !profiles.contains(&profile.as_str()) {
        skip!("profile {profile}, not {}", profiles.join(" or "));
    }
    Ok(profile)
}

/// Skips on too small a machine.
pub fn need_cpus(count: usize) -> Result<()> {
    if sys::cpus() < count {
        skip!("{} CPUs, {count} needed", sys::cpus());
    }
    Ok(())
}

/// Whether nothing but a kick interrupts CPU 1.
pub fn tickless() -> bool {
    let cpus = sys::read("/sys/devices/system/cpu/nohz_full").unwrap_or_default();
    cpus.split([',', '-']).any(|cpu| cpu.trim() == "1")
}

/// The host CPU of the `i`th vCPU: not the one that the ager runs on, if there are several.
pub fn vcpu_cpu(i: usize) -> usize {
    match sys::cpus() {
        1 => 0,
        n => 1 + i % (n - 1),
    }
}

/// gvahint.ko, unloaded on drop if it was loaded here.
pub struct Loaded {
    ours: bool,
}

impl Loaded {
    /// Loads the module unless it is there.
    pub fn new() -> Result<Self> {
        if module::loaded("gvahint") {
            return Ok(Self { ours: false });
        }
        if !module::path("gvahint").exists() {
            skip!("this machine has no gvahint.ko");
        }
        module::insert("gvahint")?;
        Ok(Self { ours: true })
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if self.ours {
            if let Err(error) = module::remove("gvahint") {
                println!("{error:#}");
            }
        }
    }
}

/// What a scene shows.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub config: Config,
    pub after: After,
    pub touch: Touch,
    /// Touched first; the data under its first gVA unless said otherwise.
    pub first: Region,
    /// Touched then.
    pub second: Region,
    pub vcpus: usize,
}

impl Setup {
    /// One vCPU that reads `pages` pages and never exits by itself.
    pub fn quiet(pages: u64) -> Self {
        Self {
            config: Config::small(pages),
            after: After::Nothing,
            touch: Touch::Read,
            first: Region {
                gva: layout::USER,
                pages,
            },
            second: Region::EMPTY,
            vcpus: 1,
        }
    }

    /// The same with something after each sweep.
    pub fn with(self, after: After) -> Self {
        let irqchip = after == After::FastReentry;
        Self {
            after,
            config: Config {
                irqchip,
                ..self.config
            },
            ..self
        }
    }

    /// What its vCPUs do.
    pub fn sweep(&self) -> Sweep {
        Sweep {
            first: self.first,
            second: self.second,
            touch: self.touch,
            after: self.after,
        }
    }
}

/// A VM at work. Fields are dropped in this order: vCPUs before the VM, the module last.
pub struct Scene {
    pub vcpus: Vec<Vcpu>,
    pub reporter: Option<Reporter>,
    pub vm: Vm,
    pub pfns: Vec<u64>,
    pub idle: PageIdle,
    pub machine: Machine,
    pub knobs: Knobs,
    pub setup: Setup,
    loaded: Option<Loaded>,
}

impl Scene {
    /// Loads the module and makes the VM; no vCPU runs.
    pub fn prepare(setup: Setup) -> Result<Self> {
        let loaded = Loaded::new()?;
        Ok(Self {
            loaded: Some(loaded),
            ..Self::bare(setup)?
        })
    }

    /// Makes the VM, whether the module is there or not.
    pub fn bare(setup: Setup) -> Result<Self> {
        let machine = machine()?;
        sys::pin(0, 0)?;
        let vm = Vm::new(setup.config)?;
        let gpas = (0..setup.config.pages).map(layout::data);
        Ok(Self {
            vcpus: Vec::new(),
            reporter: None,
            pfns: age::pfns(vm.memory(), gpas)?,
            vm,
            idle: PageIdle::open()?,
            machine,
            knobs: Knobs::new(),
            setup,
            loaded: None,
        })
    }

    /// Loads the module into a scene that was made without it.
    pub fn load(&mut self) -> Result<()> {
        self.loaded = Some(Loaded::new()?);
        Ok(())
    }

    /// Starts the vCPUs and lets them warm up.
    pub fn start(&mut self) -> Result<()> {
        for i in 0..self.setup.vcpus {
            let vcpu = self.vm.start(&self.setup.sweep(), Some(vcpu_cpu(i)))?;
            self.vcpus.push(vcpu);
        }
        self.warm(3)
    }

    /// A scene with the data reported, a policy for clear_young, and vCPUs at work.
    pub fn hinted(setup: Setup, policy: Policy) -> Result<Self> {
        let mut scene = Self::prepare(setup)?;
        scene.report_user()?;
        scene.knobs.policy("clear_young", policy)?;
        scene.start()?;
        Ok(scene)
    }

    /// HELLO and an empty LINEAR.
    pub fn hello(&mut self) -> Result<&mut Reporter> {
        let mut reporter = match self.reporter.take() {
            Some(reporter) => reporter,
            None => Reporter::new(self.vm.caller()?),
        };
        let hello = reporter.hello(self.vm.memory())?;
        ensure!(hello.is_ok(), "HELLO answered {hello:?}");
        let answer = reporter.linear(self.vm.memory(), &[])?;
        ensure!(answer == 0, "LINEAR answered {answer}");
        Ok(self.reporter.insert(reporter))
    }

    /// Declares one linear range, the only one, in the session at hand, which keeps its hints.
    pub fn linear(&mut self, gpa: u64, gva: u64, len: u64, page: GuestPage) -> Result<()> {
        let page_size = page.size();
        let range = Linear {
            gpa,
            gva,
            len,
            page_size,
        };
        let reporter = self.reporter.as_mut().context("no session")?;
        let answer = reporter.linear(self.vm.memory(), &[range])?;
        ensure!(answer == LINEAR_KEPT, "LINEAR answered {answer}");
        Ok(())
    }

    /// Says HELLO and reports every data page with its gVA at `layout::USER`.
    pub fn report_user(&mut self) -> Result<()> {
        self.hello()?;
        let sets: Vec<_> = (0..self.setup.config.pages).map(user_set).collect();
        self.report(&sets)
    }

    /// Reports sets in the session at hand, and lets vCPUs flush what that owes: the pages may have been
    /// page tables before. Those that stand outside the guest run one sweep.
    pub fn report(&mut self, sets: &[Set]) -> Result<()> {
        self.report_only(sets)?;
        VmDir::own()?.iter().try_for_each(VmDir::flush_all)?;
        match self.setup.after {
            After::Out => self.vcpus.iter().try_for_each(|vcpu| vcpu.step(1)),
            _ => Ok(()),
        }
    }

    /// Reports sets in the session at hand.
    pub fn report_only(&mut self, sets: &[Set]) -> Result<()> {
        let reporter = self.reporter.as_mut().context("no session")?;
        reporter.report_all(self.vm.memory(), sets)
    }

    /// Waits until every vCPU completed `sweeps` more.
    pub fn warm(&self, sweeps: u64) -> Result<()> {
        self.vcpus
            .iter()
            .try_for_each(|vcpu| vcpu.await_sweeps(sweeps, PATIENCE))
    }

    /// Sweeps of all vCPUs.
    pub fn work(&self) -> u64 {
        self.vcpus.iter().map(Vcpu::sweeps).sum()
    }

    /// Marks frames idle, lets `wait_ms` pass and every vCPU touch everything once more, and returns
    /// how many are idle all the same.
    pub fn round(&self, pfns: &[u64], wait_ms: u64) -> Result<u64> {
        self.idle.mark(pfns)?;
        sys::sleep_ms(wait_ms);
        self.warm(1)?;
        self.idle.count(pfns)
    }

    /// A round in which every vCPU leaves the guest and enters it again once, by itself.
    pub fn round_with_entry(&self, pfns: &[u64]) -> Result<u64> {
        self.idle.mark(pfns)?;
        self.settle()?;
        self.idle.count(pfns)
    }

    /// Lets whatever is pending take effect: every vCPU enters once more, without a kick, and touches
    /// everything once more after that.
    pub fn settle(&self) -> Result<()> {
        self.vcpus.iter().for_each(Vcpu::leave_once);
        sys::sleep_ms(TICKS_MS);
        self.warm(2)
    }

    /// A round with enough time for every policy, over all data pages.
    pub fn full_round(&self) -> Result<u64> {
        self.round(&self.pfns, TICKS_MS)
    }

    /// A scene whose only vCPU exits at every sweep and stands outside the guest, for exact counts.
    pub fn gated(pages: u64, policy: Policy) -> Result<Self> {
        let mut scene = Self::prepare(Setup::quiet(pages).with(After::Out))?;
        scene.report_user()?;
        scene.knobs.policy("clear_young", policy)?;
        scene.start_held()?;
        Ok(scene)
    }

    /// Starts the vCPUs, which exit at every sweep; each then stands outside the guest.
    pub fn start_held(&mut self) -> Result<()> {
        let sweep = self.setup.sweep();
        (0..self.setup.vcpus).try_for_each(|i| self.add_held(&sweep, vcpu_cpu(i)))
    }

    /// Starts one more vCPU, which exits at every sweep and then stands outside the guest. Whatever was
    /// pending is drained, what it touches is young and in its TLB.
    pub fn add_held(&mut self, sweep: &Sweep, cpu: usize) -> Result<()> {
        let vcpu = self.vm.start(sweep, Some(cpu))?;
        vcpu.hold()?;
        vcpu.step(3)?;
        self.vcpus.push(vcpu);
        Ok(())
    }

    /// Lets the vCPU of a gated scene run one sweep, and returns what the CPUs counted.
    pub fn step(&self) -> Result<Snapshot> {
        self.machine.reset()?;
        self.vcpus[0].step(1)?;
        self.machine.snapshot()
    }

    /// What the module says of this VM.
    pub fn dir(&self) -> Result<VmDir> {
        VmDir::newest()
    }

    /// One of the module's counters of this VM.
    pub fn stat(&self, name: &str) -> Result<u64> {
        self.dir()?.stat(name)
    }
}

/// The complete set of data page `i` with its first gVA.
pub fn user_set(i: u64) -> Set {
    Set::mapped(layout::data(i) / PAGE, &[layout::USER + i * PAGE])
}
