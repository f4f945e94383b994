// SPDX-License-Identifier: GPL-2.0
//! A guest with a workload, seen from the host: what it says in the mailbox, and its pages.

mod orders;

use crate::mailbox::{self, Phase};
use crate::tap::complaints;
use crate::vmm::boot::kernel_end;
use crate::vmm::{Config, LinuxVm, Qemu, Vmm};
use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::knobs::VmDir;
use gvahint_vm::memory::Backing;
use gvahint_vm::{sys, PAGE};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The reporter's files, for guests that take orders.
pub const REPORTER: &str = "/sys/kernel/gvahint_guest";
/// Where the machine has kernels and initramfs of guests.
const IMAGES: &str = "/lib/gvahint/guest";
/// The machine's own kernel.
const KERNEL: &str = "vmlinux";
const INITRD: &str = "initrd";
/// An initramfs with programs that the guests' own one doesn't have.
const FOREIGN: &str = "foreign";
/// One with a kernel to start by kexec.
const KEXEC: &str = "kexec";

/// Where an image of guests lies in the machine.
pub fn image(name: &str) -> PathBuf {
    Path::new(IMAGES).join(name)
}

/// Nothing that has to be probed and isn't there.
const BARE: &str = "acpi=off pci=off";
const CMDLINE: &str = "console=ttyS0,115200 tsc=reliable lpj=1000000 no_timer_check quiet \
    loglevel=4 panic=-1 reboot=k 8250.nr_uarts=1";

/// Machine time that a boot may take.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// Machine time that the end of a workload may take.
const END_LIMIT: Duration = Duration::from_secs(30);

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
    /// Processes of workloads that have several.
    pub processes: usize,
    /// QEMU with this machine type instead of the small VMM.
    pub qemu: Option<String>,
    /// Name of the kernel's image.
    pub kernel: String,
    /// Whether init loads the reporter, if the initramfs has one.
    pub reporter: bool,
    /// More for QEMU's command line.
    pub qemu_options: Vec<String>,
    /// More for the kernel's command line.
    pub append: String,
    /// Whether the guest has a kernel to start by kexec.
    pub kexec: bool,
}

impl Plan {
    /// One vCPU, small pages on both sides.
    pub fn new(work: &str, mib: u64) -> Self {
        Self {
            work: work.to_owned(),
            memory: if work == "redis" { 192 } else { 128 },
            mib,
            vcpus: 1,
            host_huge: false,
            guest_huge: false,
            processes: 2,
            qemu: None,
            kernel: KERNEL.to_owned(),
            reporter: true,
            qemu_options: Vec::new(),
            append: String::new(),
            kexec: false,
        }
    }

    /// Whether pages change hands all the time.
    pub fn moves(&self) -> bool {
        matches!(self.work.as_str(), "fork" | "churn")
    }

    /// The kernel's command line. Only the small VMM tells the guest by itself that the mailbox is no
    /// memory.
    fn cmdline(&self, mailbox: u64) -> String {
        let memory = match self.qemu.as_deref() {
            None => BARE.to_owned(),
            Some(_) => format!("memmap={:#x}${mailbox:#x}", mailbox::SIZE),
        };
        format!(
            "{CMDLINE} {memory} gvahint.mailbox={mailbox:#x} gvahint.work={} gvahint.mib={} \
             gvahint.thp={} gvahint.processes={} gvahint.reporter={} {}",
            self.work,
            self.mib,
            u8::from(self.guest_huge),
            self.processes,
            u8::from(self.reporter),
            self.append,
        )
    }

    fn initrd(&self) -> PathBuf {
        image(match self.work.as_str() {
            "redis" => FOREIGN,
            _ if self.kexec => KEXEC,
            _ => INITRD,
        })
    }
}

/// A guest at work.
pub struct Guest {
    vm: Box<dyn Vmm>,
    pages: u64,
    mailbox: u64,
    /// Whether its kernel may be one that looks for bugs, or the host's is, which takes its time.
    slow: bool,
}

impl Guest {
    /// Boots a guest and waits until its workload runs.
    pub fn boot(plan: &Plan) -> Result<Self> {
        let mut guest = Self::start(plan)?;
        guest.await_boot()?;
        Ok(guest)
    }

    /// Starts the VMM.
    fn start(plan: &Plan) -> Result<Self> {
        let backing = if plan.host_huge {
            Backing::Huge
        } else {
            Backing::Small
        };
        let kernel = image(&plan.kernel);
        let end = kernel_end(&kernel)?;
        let (mailbox, least) = mailbox::room(end);
        let config = Config {
            memory: least.max(plan.memory << 20),
            mailbox,
            backing,
            vcpus: plan.vcpus,
            kernel: &kernel,
            initrd: &plan.initrd(),
            cmdline: &plan.cmdline(mailbox),
        };
        let vm: Box<dyn Vmm> = match &plan.qemu {
            None => Box::new(LinuxVm::start(&config)?),
            Some(machine) => Box::new(Qemu::start(&config, machine, &plan.qemu_options)?),
        };
        let pages = config.memory / PAGE;
        Ok(Self {
            vm,
            pages,
            mailbox,
            slow: mailbox::is_large(end) || sys::kernel_looks_for_bugs(),
        })
    }

    /// Waits until a workload runs.
    fn await_boot(&mut self) -> Result<()> {
        self.await_phase(Phase::Preparing, BOOT_LIMIT)?;
        self.begin()?;
        self.await_phase(Phase::Running, BOOT_LIMIT)
    }

    /// Whether a kernel looks for bugs, its own or the host's.
    pub fn is_slow(&self) -> bool {
        self.slow
    }

    /// How long to wait for what takes a small kernel `limit`.
    pub fn patience(&self, limit: Duration) -> Duration {
        limit * if self.slow { 10 } else { 1 }
    }

    /// The guest's console so far.
    pub fn console(&self) -> String {
        self.vm.console()
    }

    /// Fails if the guest's kernel complained.
    pub fn check_console(&self) -> Result<()> {
        let complaints = complaints(&self.console());
        ensure!(
            complaints.is_empty(),
            "the guest: {}",
            complaints.join("; ")
        );
        Ok(())
    }

    /// A header word of the mailbox.
    pub fn word(&self, offset: u64) -> Result<u64> {
        self.vm.read(self.mailbox + offset)
    }

    /// What the guest is at; before its init runs the mailbox may hold anything.
    fn phase(&self) -> Result<Phase> {
        if self.word(mailbox::MAGIC)? != mailbox::READY {
            return Ok(Phase::Booting);
        }
        Phase::from_word(self.word(mailbox::PHASE)?).context("the guest is at something unknown")
    }

    /// Waits until the guest is at least there.
    pub fn await_phase(&mut self, goal: Phase, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            self.vm
                .check()
                .with_context(|| format!("console:\n{}", self.console()))?;
            let phase = self.phase()?;
            if phase == Phase::Failed {
                bail!(
                    "the guest gave up: {}",
                    self.text(mailbox::TEXT..mailbox::TEXT_END)?
                );
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
        let (goal, start) = (self.word(mailbox::SWEEPS)? + more + 1, Instant::now());
        while self.word(mailbox::SWEEPS)? < goal {
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
    pub fn begin(&self) -> Result<u32> {
        let generation = self.word(mailbox::GENERATION)? + 1;
        self.vm
            .write(self.mailbox + mailbox::GENERATION, generation)?;
        Ok(u32::try_from(generation)?)
    }

    /// Stamps of all guest pages, by gfn: with memory that was plugged in there is a large gap.
    pub fn stamps(&self) -> Result<Vec<u32>> {
        let mut stamps = self.stamps_from(0, self.pages)?;
        let plugged = self.vm.plugged();
        if plugged > 0 {
            stamps.resize(mailbox::HIGH as usize, 0);
            stamps.extend(self.stamps_from(mailbox::HIGH, plugged / PAGE)?);
        }
        Ok(stamps)
    }

    fn stamps_from(&self, gfn: u64, pages: u64) -> Result<Vec<u32>> {
        let at = mailbox::stamp(gfn).context("memory without stamps")?;
        let words = pages.div_ceil(2) as usize;
        let words = self.vm.read_words(self.mailbox + at, words)?;
        let halves = |word: u64| [word as u32, (word >> 32) as u32];
        Ok(words.into_iter().flat_map(halves).collect())
    }

    /// Host frames of guest pages.
    pub fn pfns(&self, gfns: &[u64]) -> Result<Vec<u64>> {
        self.vm.pfns(gfns)
    }

    /// Asks the workload to end, and waits until it did: it then says whether its own checks held.
    pub fn finish(&mut self) -> Result<()> {
        self.vm.write(self.mailbox + mailbox::STOP, 1)?;
        self.await_phase(Phase::Done, END_LIMIT)
    }

    /// Where guest memory lies in this process, if it does.
    pub fn hva(&self, gpa: u64) -> Option<u64> {
        self.vm.hva(gpa)
    }

    /// A figure that the workload tells.
    pub fn figure(&self, index: u64) -> Result<u64> {
        self.word(mailbox::FIGURES + index * 8)
    }

    /// Asks for what the workload does on demand, and waits until it did that, and told.
    pub fn ask(&mut self, limit: Duration) -> Result<()> {
        let (goal, start) = (self.word(mailbox::ASKED)? + 1, Instant::now());
        self.vm.write(self.mailbox + mailbox::ASKED, goal)?;
        while self.figure(0)? < goal {
            self.await_phase(Phase::Running, limit)?;
            ensure!(start.elapsed() < limit, "the guest does not do it");
            sys::sleep_ms(1);
        }
        Ok(())
    }

    /// Pages of guest memory.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Guest-mode instructions at each mark that the guest made.
    pub fn marks(&self) -> Vec<u64> {
        self.vm.marks()
    }

    /// Takes all of the guest's translations away, in EPT and in TLBs: KVM builds them anew, and what
    /// an earlier policy left behind is gone. Works on any VMM: soft-dirty tracking invalidates the
    /// whole address space.
    pub fn forget(&self) -> Result<()> {
        sys::write(format!("/proc/{}/clear_refs", self.vm.pid()), "4")
    }

    /// The VM as the module shows it.
    pub fn dir(&self) -> Result<VmDir> {
        let pid = self.vm.pid().to_string();
        let ours = |dir: &VmDir| dir.read("pid").is_ok_and(|text| text == pid);
        VmDir::all()?
            .into_iter()
            .rfind(ours)
            .context("the module doesn't know the guest's VM")
    }

    /// Whether it has told the module anything.
    pub fn reports(&self) -> Result<bool> {
        Ok(self.dir()?.read("state")? != "silent")
    }

    fn text(&self, range: Range<u64>) -> Result<String> {
        let words = (range.end - range.start) / 8;
        let words = self
            .vm
            .read_words(self.mailbox + range.start, words as usize)?;
        Ok(mailbox::text(words.into_iter()))
    }
}
