// SPDX-License-Identifier: GPL-2.0
//! The VM: memory, guest page tables, vCPUs.

use crate::code::{self, Region, Sweep};
use crate::hints::Caller;
use crate::layout;
use crate::memory::{Backing, Memory};
use crate::probe;
use crate::tables::{GuestPage, Tables};
use crate::vcpu::Vcpu;
use crate::PAGE;
use anyhow::{ensure, Context, Result};
use kvm_bindings::{
    kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs, kvm_userspace_memory_region,
    Msrs, KVM_MAX_CPUID_ENTRIES, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, KVM_MP_STATE_RUNNABLE,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use std::sync::Arc;

/// Where a vCPU tells KVM the address of its steal time area.
const MSR_KVM_STEAL_TIME: u32 = 0x4b56_4d03;

/// What a VM looks like.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Pages of guest data; [`layout::SPARE_PAGES`] more are added.
    pub pages: u64,
    /// What backs guest memory on the host.
    pub backing: Backing,
    /// With which pages the guest maps its data.
    pub guest_page: GuestPage,
    /// Whether the guest maps all of its memory at its own address, by `guest_page`, and nothing else;
    /// else it maps its code there by 4 KiB pages, and its data at [`layout::USER`].
    pub identity: bool,
    /// Whether KVM maps memory by 4 KiB pages whatever backs it: its dirty log stays on.
    pub small_leaves: bool,
    /// Whether KVM emulates the interrupt controllers.
    pub irqchip: bool,
    /// Whether vCPUs share their steal time with KVM, which takes requests to flush by it.
    pub steal_time: bool,
}

impl Config {
    /// `pages` 4 KiB pages, backed and mapped as such.
    pub const fn small(pages: u64) -> Self {
        Self {
            pages,
            backing: Backing::Small,
            guest_page: GuestPage::Small,
            identity: false,
            small_leaves: false,
            irqchip: false,
            steal_time: false,
        }
    }

    /// The gVA of data page `i`.
    pub const fn gva(&self, i: u64) -> u64 {
        match self.identity {
            true => layout::data(i),
            false => layout::USER + i * PAGE,
        }
    }
}

/// A VM whose data is populated and mapped at [`layout::USER`]; nothing runs yet.
///
/// vCPU threads hold guest memory on their own; they are stopped when their [`Vcpu`] is dropped.
pub struct Vm {
    fd: VmFd,
    kvm: Kvm,
    memory: Arc<Memory>,
    tables: Tables,
    config: Config,
    vcpus: usize,
}

impl Vm {
    /// Creates the VM. The guest's code, page tables and data are in place when this returns.
    pub fn new(config: Config) -> Result<Self> {
        let span = (config.pages + layout::SPARE_PAGES) * PAGE;
        let len = (layout::DATA + span).next_multiple_of(config.backing.unit());
        let memory = Arc::new(Memory::new(len, config.backing)?);
        memory.write_bytes(layout::CODE, code::image());
        memory.write_bytes(layout::PROBE_CODE, probe::image());
        let mut tables = Tables::empty();
        let page = config.guest_page;
        if config.identity {
            let all = len.next_multiple_of(page.size());
            tables.map(&memory, 0, 0, all, page)?;
        } else {
            let end = layout::IDENTITY_END;
            tables.map(&memory, 0, 0, end, GuestPage::Small)?;
            let mapped = span.next_multiple_of(page.size());
            tables.map(&memory, layout::USER, layout::DATA, mapped, page)?;
        }
        memory.populate(layout::DATA, config.pages + layout::SPARE_PAGES);

        let kvm = Kvm::new().context("/dev/kvm")?;
        let fd = kvm.create_vm().context("KVM_CREATE_VM")?;
        fd.set_tss_address(0xfffb_d000)
            .context("KVM_SET_TSS_ADDR")?;
        if config.irqchip {
            fd.create_irq_chip().context("KVM_CREATE_IRQCHIP")?;
        }
        let vm = Self {
            fd,
            kvm,
            memory,
            tables,
            config,
            vcpus: 0,
        };
        vm.set_main_slot(match config.small_leaves {
            true => KVM_MEM_LOG_DIRTY_PAGES,
            false => 0,
        })?;
        Ok(vm)
    }

    /// Guest memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The same for whoever works with it on its own.
    pub(crate) fn shared_memory(&self) -> Arc<Memory> {
        Arc::clone(&self.memory)
    }

    /// How the VM was made.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Maps data pages `first..first + pages` at a further gVA.
    pub fn map(&mut self, gva: u64, first: u64, pages: u64, page: GuestPage) -> Result<()> {
        self.tables
            .map(&self.memory, gva, layout::data(first), pages * PAGE, page)
    }

    /// Maps any guest-physical range at a further gVA.
    pub fn map_gpa(&mut self, gva: u64, gpa: u64, len: u64, page: GuestPage) -> Result<()> {
        self.tables.map(&self.memory, gva, gpa, len, page)
    }

    /// Guest-physical address of the page table that maps `gva`.
    pub fn leaf_table(&mut self, gva: u64) -> Result<u64> {
        self.tables.leaf_table(&self.memory, gva)
    }

    /// The data under its first gVA.
    pub const fn user(&self) -> Region {
        Region {
            gva: self.config.gva(0),
            pages: self.config.pages,
        }
    }

    /// gfns of the data pages.
    pub fn gfns(&self) -> impl Iterator<Item = u64> {
        (0..self.config.pages).map(|i| layout::data(i) / PAGE)
    }

    /// Starts one more vCPU, on host CPU `cpu` only if one is given.
    pub fn start(&mut self, sweep: &Sweep, cpu: Option<usize>) -> Result<Vcpu> {
        let regs = code::sweep_regs(self.vcpus, sweep);
        self.start_at(&regs, cpu)
    }

    /// The same with any code of ours.
    pub(crate) fn start_at(&mut self, regs: &kvm_regs, cpu: Option<usize>) -> Result<Vcpu> {
        let index = self.vcpus;
        ensure!(index < layout::MAX_VCPUS, "too many vCPUs");
        let fd = self.create_vcpu()?;
        fd.set_sregs(&long_mode(fd.get_sregs()?, self.tables.root(), 8))?;
        fd.set_regs(regs)?;
        if self.config.steal_time {
            let entry = kvm_msr_entry {
                index: MSR_KVM_STEAL_TIME,
                data: layout::steal_time(index) | 1,
                ..Default::default()
            };
            let set = fd.set_msrs(&Msrs::from_entries(&[entry])?)?;
            ensure!(set == 1, "KVM does not take the steal time's address");
        }
        Vcpu::spawn(fd, Arc::clone(&self.memory), index, cpu)
    }

    /// A vCPU of its own that issues hypercalls and does nothing else.
    pub fn caller(&mut self) -> Result<Caller> {
        let fd = self.create_vcpu()?;
        let sregs = long_mode(fd.get_sregs()?, self.tables.root(), 8);
        Ok(Caller::new(fd, sregs))
    }

    /// Asks all vCPUs to end after their current sweep.
    pub fn stop(&self) {
        self.memory.write(layout::CONTROL, 1);
    }

    /// Switches dirty logging of all guest memory on, then off again: a flush that supersedes others.
    pub fn toggle_dirty_log(&self) -> Result<()> {
        self.set_main_slot(KVM_MEM_LOG_DIRTY_PAGES)?;
        self.set_main_slot(0)
    }

    /// First guest-physical address behind guest memory, where the window may be.
    pub fn window(&self) -> u64 {
        self.memory.len()
    }

    /// Makes or deletes a second memslot, which shows the data once more at [`Self::window`].
    pub fn set_window(&self, present: bool) -> Result<()> {
        self.show(0, u64::from(present) * self.config.pages)
    }

    /// The same with data pages `first..first + pages` only.
    pub fn show(&self, first: u64, pages: u64) -> Result<()> {
        ensure!(first + pages <= self.config.pages, "beyond the data");
        self.set_slot(kvm_userspace_memory_region {
            slot: 1,
            guest_phys_addr: self.window(),
            memory_size: pages * PAGE,
            userspace_addr: self.memory.hva(layout::data(first)),
            ..Default::default()
        })
    }

    /// The same window with one page that nobody may write to.
    pub fn show_read_only(&self) -> Result<()> {
        self.set_slot(kvm_userspace_memory_region {
            slot: 1,
            flags: KVM_MEM_READONLY,
            guest_phys_addr: self.window(),
            memory_size: PAGE,
            userspace_addr: self.memory.hva(layout::data(0)),
        })
    }

    fn set_main_slot(&self, flags: u32) -> Result<()> {
        self.set_slot(kvm_userspace_memory_region {
            flags,
            memory_size: self.memory.len(),
            userspace_addr: self.memory.hva(0),
            ..Default::default()
        })
    }

    /// All slots lie within guest memory.
    fn set_slot(&self, region: kvm_userspace_memory_region) -> Result<()> {
        // SAFETY: Our callers pass ranges of guest memory only, which outlives the VM's vCPUs; the guest
        // may write anywhere in it, and this process accesses it atomically only.
        unsafe { self.fd.set_user_memory_region(region) }.context("KVM_SET_USER_MEMORY_REGION")
    }

    fn create_vcpu(&mut self) -> Result<VcpuFd> {
        let fd = self
            .fd
            .create_vcpu(self.vcpus as u64)
            .context("KVM_CREATE_VCPU")?;
        self.vcpus += 1;
        let cpuid = self.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
        fd.set_cpuid2(&cpuid).context("KVM_SET_CPUID2")?;
        if self.config.irqchip {
            fd.set_mp_state(kvm_mp_state {
                mp_state: KVM_MP_STATE_RUNNABLE,
            })?;
        }
        Ok(fd)
    }
}

/// 64-bit mode at CPL 0 with flat segments: the selector of the code segment, and the next one for data.
pub fn long_mode(mut sregs: kvm_sregs, cr3: u64, selector: u16) -> kvm_sregs {
    let code = kvm_segment {
        limit: u32::MAX,
        selector,
        type_: 11,
        present: 1,
        s: 1,
        l: 1,
        g: 1,
        ..Default::default()
    };
    let data = kvm_segment {
        selector: selector + 8,
        type_: 3,
        l: 0,
        db: 1,
        ..code
    };
    sregs.cs = code;
    (sregs.ds, sregs.es, sregs.ss, sregs.fs, sregs.gs) = (data, data, data, data, data);
    sregs.cr3 = cr3;
    sregs.cr4 = 0x20; // PAE
    sregs.cr0 = 0x8005_0033; // PG AM WP NE ET MP PE
    sregs.efer = 0x500; // LMA LME
    sregs
}
