// SPDX-License-Identifier: GPL-2.0
//! A small VMM that boots Linux: memory, vCPUs, KVM's interrupt controllers, a serial line. No PCI, no
//! ACPI, no virtio: what a guest has to probe takes its time on an emulated CPU.

pub mod boot;
pub mod marks;
mod mptable;
mod qemu;
mod qmp;
mod serial;
mod vcpu;

use anyhow::{bail, Context, Result};
use gvahint_vm::age;
use gvahint_vm::memory::{Backing, Memory};
use gvahint_vm::sys;
use gvahint_vm::PAGE;
use kvm_bindings::{
    kvm_pit_config, kvm_userspace_memory_region, CpuId, KVM_MAX_CPUID_ENTRIES,
    KVM_PIT_SPEAKER_DUMMY,
};
use kvm_ioctls::{Kvm, VmFd};
use marks::Marks;
pub use qemu::Qemu;
use serial::{Console, Text};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use vcpu::Vcpu;

/// Three pages that VMX needs in the guest's physical address space, away from its memory.
const TSS: usize = 0xfffb_d000;
const IDENTITY_MAP: u64 = 0xfffb_c000;

/// What a guest looks like.
pub struct Config<'a> {
    /// Bytes of memory, the mailbox included.
    pub memory: u64,
    /// Where the mailbox is.
    pub mailbox: u64,
    /// What backs it on the host.
    pub backing: Backing,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// An ELF image.
    pub kernel: &'a Path,
    /// An initramfs.
    pub initrd: &'a Path,
    /// The kernel's command line.
    pub cmdline: &'a str,
}

/// A guest at work, whoever runs it.
pub trait Vmm {
    /// The word at an aligned guest-physical address.
    fn read(&self, gpa: u64) -> Result<u64>;
    /// Words from an aligned guest-physical address on.
    fn read_words(&self, gpa: u64, count: usize) -> Result<Vec<u64>>;
    /// Writes a word.
    fn write(&self, gpa: u64, value: u64) -> Result<()>;
    /// Writes words of zero.
    fn clear(&self, gpas: Range<u64>) -> Result<()>;
    /// Host frames of guest pages, which must be in memory.
    fn pfns(&self, gfns: &[u64]) -> Result<Vec<u64>>;
    /// Fails if the guest ended.
    fn check(&mut self) -> Result<()>;
    /// What the guest wrote to its console.
    fn console(&self) -> String;
    /// The process that the VM belongs to.
    fn pid(&self) -> u32;
    /// Where guest memory lies in this process, if it does.
    fn hva(&self, gpa: u64) -> Option<u64>;
    /// Guest-mode instructions at each mark that the guest made, if the VMM knows marks.
    fn marks(&self) -> Vec<u64> {
        Vec::new()
    }
    /// Bytes of memory at 4 GiB, which came after the start.
    fn plugged(&self) -> u64 {
        0
    }
    /// The same VM as QEMU, if it is.
    fn qemu(&mut self) -> Option<&mut Qemu> {
        None
    }
}

/// A guest at work. vCPUs are dropped before its memory.
pub struct LinuxVm {
    vcpus: Vec<Vcpu>,
    memory: Memory,
    text: Text,
    marks: Arc<Marks>,
}

impl LinuxVm {
    /// Loads the kernel and starts it.
    pub fn start(config: &Config) -> Result<Self> {
        let memory = Memory::new(config.memory, config.backing)?;
        let entry = boot::load(&memory, config)?;
        let kvm = Kvm::new().context("/dev/kvm")?;
        let vm = Arc::new(kvm.create_vm().context("KVM_CREATE_VM")?);
        add_devices(&vm)?;
        let region = kvm_userspace_memory_region {
            memory_size: memory.len(),
            userspace_addr: memory.hva(0),
            ..Default::default()
        };
        // SAFETY: The mapping outlives the vCPUs (see the order of fields); after this the process
        // accesses it by atomics only.
        unsafe { vm.set_user_memory_region(region) }.context("KVM_SET_USER_MEMORY_REGION")?;

        let mut guest = Self {
            vcpus: Vec::new(),
            memory,
            text: Text::default(),
            marks: Arc::default(),
        };
        let console = Arc::new(Console::new(Arc::clone(&vm), guest.text.clone()));
        let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
        let mut fds = Vec::new();
        // All before the first runs: the guest asks the others to start.
        for id in 0..config.vcpus {
            let fd = vm.create_vcpu(id.into()).context("KVM_CREATE_VCPU")?;
            fd.set_cpuid2(&cpuid(&supported, id, config.vcpus))
                .context("KVM_SET_CPUID2")?;
            if id == 0 {
                fd.set_sregs(&entry.sregs(fd.get_sregs()?))?;
                fd.set_regs(&entry.regs())?;
            }
            fds.push(fd);
        }
        for (index, fd) in fds.into_iter().enumerate() {
            let cpu = host_cpu(index);
            let (console, marks) = (Arc::clone(&console), Arc::clone(&guest.marks));
            let vcpu = Vcpu::spawn(fd, index, cpu, console, marks)?;
            guest.vcpus.push(vcpu);
        }
        Ok(guest)
    }
}

impl Vmm for LinuxVm {
    fn read(&self, gpa: u64) -> Result<u64> {
        Ok(self.memory.read(gpa))
    }

    fn read_words(&self, gpa: u64, count: usize) -> Result<Vec<u64>> {
        let addresses = (gpa..).step_by(8).take(count);
        Ok(addresses.map(|gpa| self.memory.read(gpa)).collect())
    }

    fn write(&self, gpa: u64, value: u64) -> Result<()> {
        self.memory.write(gpa, value);
        Ok(())
    }

    fn clear(&self, gpas: Range<u64>) -> Result<()> {
        gpas.step_by(8).for_each(|gpa| self.memory.write(gpa, 0));
        Ok(())
    }

    fn pfns(&self, gfns: &[u64]) -> Result<Vec<u64>> {
        age::pfns(&self.memory, gfns.iter().map(|gfn| gfn * PAGE))
    }

    fn check(&mut self) -> Result<()> {
        match self.vcpus.iter_mut().find_map(Vcpu::ended) {
            Some(why) => bail!("{why}"),
            None => Ok(()),
        }
    }

    fn console(&self) -> String {
        self.text.get()
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn hva(&self, gpa: u64) -> Option<u64> {
        Some(self.memory.hva(gpa))
    }

    fn marks(&self) -> Vec<u64> {
        self.marks.all()
    }
}

/// The host CPU of a vCPU: not the one that the ager runs on, if there are several.
pub fn host_cpu(index: usize) -> usize {
    match sys::cpus() {
        1 => 0,
        n => 1 + index % (n - 1),
    }
}

fn add_devices(vm: &VmFd) -> Result<()> {
    vm.set_tss_address(TSS).context("KVM_SET_TSS_ADDR")?;
    vm.set_identity_map_address(IDENTITY_MAP)
        .context("KVM_SET_IDENTITY_MAP_ADDR")?;
    vm.create_irq_chip().context("KVM_CREATE_IRQCHIP")?;
    let pit = kvm_pit_config {
        flags: KVM_PIT_SPEAKER_DUMMY,
        ..Default::default()
    };
    vm.create_pit2(pit).context("KVM_CREATE_PIT2")
}

/// CPUID.1:ECX bit 31.
const HYPERVISOR: u32 = 1 << 31;

/// What KVM supports, with the ids of one CPU: all are cores of one package.
fn cpuid(supported: &CpuId, id: u8, cpus: u8) -> CpuId {
    let mut cpuid = supported.clone();
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            1 => {
                let low = entry.ebx & 0xffff;
                entry.ebx = u32::from(id) << 24 | u32::from(cpus) << 16 | low;
                // A guest looks for KVM only where it sees that it is one.
                entry.ecx |= HYPERVISOR;
            }
            0xb | 0x1f => entry.edx = id.into(),
            _ => {}
        }
    }
    cpuid
}
