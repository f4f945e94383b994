// SPDX-License-Identifier: GPL-2.0
//! Where things lie in guest-physical memory, and under which gVAs the guest's data is reached.

use crate::PAGE;

/// Two control pages: the stop flag, then one cache line per vCPU with its count of sweeps.
pub const CONTROL: u64 = 0x8000;
/// Buffer of the hypercalls that [`crate::hints::Reporter`] issues.
pub const BUFFER: u64 = 0xa000;
/// Stacks of the vCPUs, 64 bytes each: the code nests one call deep.
pub const STACKS: u64 = 0xb000;
/// Steal time areas of the vCPUs, 64 bytes each.
pub const STEAL_TIME: u64 = 0xd000;
/// Guest code.
pub const CODE: u64 = 0x10000;
/// Code of the guest that takes orders.
pub const PROBE_CODE: u64 = 0x18000;
/// Its orders: eight words, then gVAs up to [`PROBE_END`].
pub const PROBE: u64 = 0x20000;
/// End of its orders.
pub const PROBE_END: u64 = PROBE + 9 * 4096;
/// Guest page tables, from here to [`DATA`].
pub const TABLES: u64 = 1 << 20;
/// First page of the guest's data.
pub const DATA: u64 = 16 << 20;
/// What lies below is mapped at its own address (code, control page, buffer).
pub const IDENTITY_END: u64 = TABLES;

/// Where the guest maps its data.
pub const USER: u64 = 0x0000_1000_0000_0000;
/// Where a second gVA of the same data lies.
pub const ALIAS: u64 = 0x0000_2000_0000_0000;
/// Base of a linear map: the gVA of a guest-physical address is this plus the address.
pub const LINEAR: u64 = 0xffff_8880_0000_0000;

/// Data pages beyond the ones asked for. page_idle ignores a page that still sits in a per-CPU LRU-add
/// batch, so that many more are touched last and push the others out.
pub const SPARE_PAGES: u64 = 128;

/// Guest-physical address of data page `i`.
pub const fn data(i: u64) -> u64 {
    DATA + i * PAGE
}

/// Offset of a vCPU's sweep counter in the control pages.
pub const fn counter(vcpu: usize) -> u64 {
    64 * (vcpu as u64 + 1)
}

/// Offset of the word that asks a vCPU to leave the guest after its current sweep.
pub const fn leave(vcpu: usize) -> u64 {
    counter(vcpu) + 8
}

/// Top of a vCPU's stack.
pub const fn stack(vcpu: usize) -> u64 {
    STACKS + 64 * (vcpu as u64 + 1)
}

/// Steal time area of a vCPU: `struct kvm_steal_time`.
pub const fn steal_time(vcpu: usize) -> u64 {
    STEAL_TIME + 64 * vcpu as u64
}

/// vCPUs that have room for a counter in the control pages, for a stack and for a steal time area.
pub const MAX_VCPUS: usize = 126;
