// SPDX-License-Identifier: GPL-2.0
//! A small virtual machine that knows which of its pages were touched.
//!
//! It stands on KVM's plain interface (`kvm-ioctls`) and runs a few dozen bytes of guest code, so that
//! whoever uses it knows the ground truth of page ageing: which pages the guest read or wrote, how
//! often, and through which guest virtual addresses (gVAs).
//!
//! | module | what it is |
//! |---|---|
//! | [`layout`] | where things lie in guest-physical memory |
//! | [`memory`] | guest memory, backed by pages of 4 KiB, 2 MiB (transparent) or 1 GiB (hugetlbfs) |
//! | [`tables`] | guest page tables: pages of 4 KiB, 2 MiB and 1 GiB, any number of gVAs for a page |
//! | [`code`] | the guest's machine code and what a sweep does |
//! | [`probe`] | another guest: it touches what it is told, when it is told, and counts cycles |
//! | [`vm`], [`vcpu`] | the VM itself and its vCPU threads |
//! | [`hints`] | the hypercall: HELLO, LINEAR, REPORT and every malformed variant of them |
//! | [`uffd`] | a guest page that blocks whoever reads it |
//! | [`age`], [`damon`], [`lru_gen`], [`reclaim`] | the agers of the host: page_idle, DAMON, MGLRU, memcg reclaim |
//! | [`capability`] | what the CPU's EPT and VPID can do |
//! | [`machine`] | counters of the emulated machine, absent on any other |
//! | [`abi`] | files in sysfs against their documentation |
//! | [`row`], [`tax`], [`stale`] | what report.json says |
//! | [`trace`], [`knobs`], [`module`] | the host's trace events, sysfs knobs and modules |

pub mod abi;
pub mod age;
pub mod capability;
pub mod code;
pub mod damon;
pub mod hints;
pub mod knobs;
pub mod layout;
pub mod lru_gen;
pub mod machine;
pub mod memory;
pub mod module;
pub mod probe;
pub mod reclaim;
pub mod row;
pub mod stale;
pub mod sys;
pub mod tables;
pub mod tax;
pub mod trace;
pub mod uffd;
pub mod vcpu;
pub mod vm;

pub use anyhow::Result;

/// Size of the smallest page.
pub const PAGE: u64 = 4096;
/// Size of a large page.
pub const LARGE: u64 = 512 * PAGE;
/// Size of the largest page.
pub const GIANT: u64 = 512 * LARGE;
