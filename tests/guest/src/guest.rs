// SPDX-License-Identifier: GPL-2.0
//! A guest with a workload, seen from the host: what it says in the mailbox, and its pages.

use crate::mailbox::{self, Phase};
use crate::vmm::{Config, LinuxVm};
use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::age;
use gvahint_vm::memory::Backing;
use gvahint_vm::{sys, PAGE};
use std::path::Path;
use std::time::{Duration, Instant};

/// Where the machine has kernel and initramfs of guests.
pub const KERNEL: &str = "/lib/gvahint/guest/vmlinux";
/// As above.
pub const INITRD: &str = "/lib/gvahint/guest/initrd";

/// Nothing that has to be probed and isn't there.
const CMDLINE: &str = "console=ttyS0,115200 acpi=off pci=off mitigations=off tsc=reliable \
    lpj=1000000 no_timer_check quiet loglevel=4 panic=-1 reboot=k 8250.nr_uarts=1 \
    random.trust_bootloader=on";

/// Which guest to boot.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The workload.
    pub work: String,
    /// MiB of guest memory.
    pub memory: u64,
    /// MiB that the workload uses.
    pub mib: u64,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// Whether the host backs guest memory by transparent huge pages.
    pub host_huge: bool,
    /// Whether the workload asks for transparent huge pages.
    pub guest_huge: bool,
}

impl Plan {
    /// One vCPU, small pages on both sides.
    pub fn new(work: &str, mib: u64) -> Self {
        Self {
            work: work.to_owned(),
            memory: 128,
            mib,
            vcpus: 1,
            host_huge: false,
            guest_huge: false,
        }
    }

    /// What the guest's init reads from its kernel's command line.
    pub fn parameters(&self) -> String {
        format!(
            "gvahint.mailbox={:#x} gvahint.work={} gvahint.mib={} gvahint.thp={}",
            mailbox::base(self.memory << 20),
            self.work,
            self.mib,
            u8::from(self.guest_huge),
        )
    }
}

/// A guest at work.
pub struct Guest {
    vm: LinuxVm,
    mailbox: u64,
}

impl Guest {
    /// Boots a guest and waits until its workload runs.
    pub fn boot(plan: &Plan) -> Result<Self> {
        let config = Config {
            memory: plan.memory << 20,
            backing: if plan.host_huge {
                Backing::Huge
            } else {
                Backing::Small
            },
            vcpus: plan.vcpus,
            kernel: Path::new(KERNEL),
            initrd: Path::new(INITRD),
            cmdline: &format!("{CMDLINE} {}", plan.parameters()),
        };
        let mailbox = mailbox::base(config.memory);
        let mut guest = Self {
            vm: LinuxVm::start(&config)?,
            mailbox,
        };
        guest.vm.memory().write(mailbox + mailbox::GENERATION, 1);
        guest.await_phase(Phase::Running, Duration::from_secs(60))?;
        Ok(guest)
    }

    /// The guest's console so far.
    pub fn console(&self) -> String {
        self.vm.console()
    }

    /// A header word of the mailbox.
    pub fn word(&self, offset: u64) -> u64 {
        self.vm.memory().read(self.mailbox + offset)
    }

    /// Waits until the guest is at least there.
    pub fn await_phase(&mut self, goal: Phase, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            self.vm
                .check()
                .with_context(|| format!("console:\n{}", self.console()))?;
            let phase = Phase::from_word(self.word(mailbox::PHASE)).context("mailbox: phase")?;
            if phase == Phase::Failed {
                bail!("the guest gave up: {}", self.text());
            }
            if phase as u64 >= goal as u64 {
                return Ok(());
            }
            ensure!(
                start.elapsed() < limit,
                "the guest is {phase:?} after {limit:?}; console:\n{}",
                self.console()
            );
            sys::sleep_ms(1);
        }
    }

    /// Waits until the workload completed `more` sweeps that began after this call.
    pub fn await_sweeps(&mut self, more: u64, limit: Duration) -> Result<()> {
        let (goal, start) = (self.word(mailbox::SWEEPS) + more + 1, Instant::now());
        while self.word(mailbox::SWEEPS) < goal {
            self.await_phase(Phase::Running, limit)?;
            ensure!(
                start.elapsed() < limit,
                "the workload does not get on; console:\n{}",
                self.console()
            );
            sys::sleep_ms(1);
        }
        Ok(())
    }

    /// Begins a generation: what is stamped with it was touched after this call.
    pub fn begin(&self) -> u32 {
        let word = self.vm.memory().word(self.mailbox + mailbox::GENERATION);
        let generation = word.load(std::sync::atomic::Ordering::Relaxed) + 1;
        word.store(generation, std::sync::atomic::Ordering::SeqCst);
        generation as u32
    }

    /// Stamps of all guest pages.
    pub fn stamps(&self) -> Vec<u32> {
        let (memory, first) = (self.vm.memory(), self.mailbox + mailbox::STAMPS);
        let pages = self.mailbox / PAGE;
        let word = |i: u64| memory.read(first + i * 8);
        let halves = |word: u64| [word as u32, (word >> 32) as u32];
        (0..pages.div_ceil(2))
            .flat_map(|i| halves(word(i)))
            .collect()
    }

    /// Host frames of guest pages.
    pub fn pfns(&self, gfns: &[u64]) -> Result<Vec<u64>> {
        age::pfns(self.vm.memory(), gfns.iter().map(|gfn| gfn * PAGE))
    }

    fn text(&self) -> String {
        let offsets = (mailbox::TEXT..mailbox::TEXT_END).step_by(8);
        let bytes: Vec<u8> = offsets
            .flat_map(|offset| self.word(offset).to_le_bytes())
            .take_while(|byte| *byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
