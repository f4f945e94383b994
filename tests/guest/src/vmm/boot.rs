// SPDX-License-Identifier: GPL-2.0
//! Puts a kernel into guest memory as Linux' 64-bit boot protocol wants it.

use super::{mptable, Config};
use crate::mailbox;
use anyhow::{ensure, Context, Result};
use gvahint_vm::memory::Memory;
use gvahint_vm::vm::long_mode;
use gvahint_vm::{LARGE, PAGE};
use kvm_bindings::{kvm_regs, kvm_sregs};
use linux_loader::cmdline::Cmdline;
use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use linux_loader::loader::{load_cmdline, Elf, KernelLoader, KernelLoaderResult};
use std::fs::File;
use std::path::Path;
use vm_memory::mmap::MmapRegion;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

const GDT: u64 = 0x500;
const ZERO_PAGE: u64 = 0x7000;
const STACK: u64 = 0x8ff0;
/// One table of the top level, one below it, and one for each of the first 4 GiB.
const TABLES: u64 = 0x9000;
const CMDLINE: u64 = 0x2_0000;
const HIGH: u64 = 1 << 20;

const RAM: u32 = 1;
const RESERVED: u32 = 2;

/// Where the first CPU starts.
pub struct Entry {
    rip: u64,
}

/// Loads kernel and initramfs, and describes the memory: the mailbox is reserved.
pub fn load(memory: &Memory, config: &Config) -> Result<Entry> {
    let Config {
        kernel,
        initrd,
        cmdline,
        ..
    } = *config;
    let reserved = config.mailbox..config.mailbox + mailbox::SIZE;
    let view = view(memory)?;
    let loaded = load_kernel(&view, kernel)?;

    let mut file = File::open(initrd).with_context(|| format!("{}", initrd.display()))?;
    let size = file.metadata()?.len();
    ensure!(
        loaded.kernel_end <= reserved.start && reserved.end + size <= memory.len(),
        "kernel and initramfs don't fit into guest memory"
    );
    let ramdisk = (memory.len() - size) & !(PAGE - 1);
    view.read_exact_volatile_from(GuestAddress(ramdisk), &mut file, usize::try_from(size)?)
        .context("initramfs")?;

    let mut line = Cmdline::new(2048)?;
    line.insert_str(cmdline)?;
    load_cmdline(&view, GuestAddress(CMDLINE), &line)?;

    let mut params = boot_params::default();
    params.hdr.boot_flag = 0xaa55;
    params.hdr.header = u32::from_le_bytes(*b"HdrS");
    params.hdr.version = 0x20f;
    params.hdr.type_of_loader = 0xff;
    params.hdr.loadflags = 1;
    params.hdr.cmd_line_ptr = CMDLINE as u32;
    params.hdr.cmdline_size = u32::try_from(cmdline.len())?;
    params.hdr.ramdisk_image = u32::try_from(ramdisk)?;
    params.hdr.ramdisk_size = u32::try_from(size)?;
    let map = [
        (0, mptable::FLOATING, RAM),
        (mptable::FLOATING, mptable::END, RESERVED),
        (HIGH, reserved.start, RAM),
        (reserved.start, reserved.end, RESERVED),
        (reserved.end, memory.len(), RAM),
    ];
    for (slot, (start, end, type_)) in params.e820_table.iter_mut().zip(map) {
        *slot = boot_e820_entry {
            addr: start,
            size: end - start,
            r#type: type_,
        };
    }
    params.e820_entries = map.len() as u8;
    let params = BootParams::new(&params, GuestAddress(ZERO_PAGE));
    LinuxBootConfigurator::write_bootparams(&params, &view).context("boot parameters")?;

    mptable::write(memory, config.vcpus);
    write_tables(memory);
    // Linux' selectors: code 0x10, data 0x18.
    memory.write_words(GDT, &[0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff]);
    Ok(Entry {
        rip: loaded.kernel_load.0,
    })
}

fn load_kernel(view: &GuestMemoryMmap, kernel: &Path) -> Result<KernelLoaderResult> {
    let mut file = File::open(kernel).with_context(|| format!("{}", kernel.display()))?;
    Elf::load(view, None, &mut file, Some(GuestAddress(HIGH)))
        .with_context(|| format!("{} is no kernel that can be loaded", kernel.display()))
}

/// Guest-physical address behind a kernel that is loaded. What its file has of it tells little: up to
/// 2 MiB are lost before each section.
pub fn kernel_end(kernel: &Path) -> Result<u64> {
    const ENOUGH: usize = 1 << 30;
    let view = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), ENOUGH)])?;
    Ok(load_kernel(&view, kernel)?.kernel_end)
}

/// The same memory as rust-vmm's crates see it; used before the guest runs, and dropped then.
fn view(memory: &Memory) -> Result<GuestMemoryMmap> {
    let len = usize::try_from(memory.len())?;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: Base and length are those of a mapping that outlives the view, which is dropped before
    // our caller returns; a region made of a raw pointer doesn't unmap it.
    let region = unsafe { MmapRegion::build_raw(memory.hva(0) as *mut u8, len, prot, flags) }?;
    let region = GuestRegionMmap::new(region, GuestAddress(0)).context("guest memory")?;
    Ok(GuestMemoryMmap::from_regions(vec![region])?)
}

/// Maps the first 4 GiB at their own addresses with pages of 2 MiB.
fn write_tables(memory: &Memory) {
    const PRESENT: u64 = 3;
    const PAGE_SIZE: u64 = 0x80;
    let (middle, leaves) = (TABLES + PAGE, TABLES + 2 * PAGE);
    memory.write(TABLES, middle | PRESENT);
    for i in 0..4 {
        memory.write(middle + i * 8, (leaves + i * PAGE) | PRESENT);
    }
    for i in 0..4 * 512 {
        memory.write(leaves + i * 8, (i * LARGE) | PRESENT | PAGE_SIZE);
    }
}

impl Entry {
    /// 64-bit mode with flat segments, from what KVM set.
    pub fn sregs(&self, sregs: kvm_sregs) -> kvm_sregs {
        // The protocol's selectors.
        let mut sregs = long_mode(sregs, TABLES, 0x10);
        (sregs.gdt.base, sregs.gdt.limit) = (GDT, 31);
        sregs
    }

    /// Registers at the kernel's 64-bit entry.
    pub fn regs(&self) -> kvm_regs {
        kvm_regs {
            rip: self.rip,
            rsi: ZERO_PAGE,
            rsp: STACK,
            rflags: 2,
            ..Default::default()
        }
    }
}
