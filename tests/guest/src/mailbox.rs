// SPDX-License-Identifier: GPL-2.0
//! What guest and host share: a region of guest memory that the guest's kernel leaves alone.
//!
//! No access to it leaves the guest, so that watching a workload doesn't change when it exits. The
//! header is followed by one stamp for each guest page: the generation in which it was touched last.

/// Bytes of the region, and its alignment.
pub const SIZE: u64 = 2 << 20;
/// The guest writes this last when its init starts.
pub const READY: u64 = 0x6776_6168_696e_7431;

/// Header word: [`READY`] once the guest's init runs.
pub const MAGIC: u64 = 0;
/// Header word: the host's generation; the guest stamps what it touches with it. Never 0.
pub const GENERATION: u64 = 8;
/// Header word: a [`Phase`].
pub const PHASE: u64 = 16;
/// Header word: not 0 asks the guest to stop.
pub const STOP: u64 = 24;
/// Header word: sweeps that all processes of the workload completed.
pub const SWEEPS: u64 = 32;
/// Header word: pages whose frame changed while they were touched, so that none was stamped.
pub const MOVED: u64 = 40;
/// Header word: touches that were stamped.
pub const TOUCHES: u64 = 48;
/// Header word: CPUs that the guest's kernel brought up.
pub const CPUS: u64 = 56;
/// Why the guest failed: text from here on, up to [`TEXT_END`].
pub const TEXT: u64 = 64;
/// End of the text.
pub const TEXT_END: u64 = 1024;
/// Figures of a workload that has some, a word each, up to [`ASKED`].
pub const FIGURES: u64 = 1024;
/// The host counts here how often it asks for what a workload does on demand.
pub const ASKED: u64 = 3072;
/// Stamps of 32 bits, by gfn.
pub const STAMPS: u64 = 4096;

/// Stamp of a page that belongs to a program which can't say when it touches it.
pub const FOREIGN: u32 = u32::MAX;

/// What the guest is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Phase {
    /// Its kernel boots.
    Booting = 0,
    /// The workload prepares its memory.
    Preparing = 1,
    /// The workload touches pages.
    Running = 2,
    /// It ended as it was asked to.
    Done = 3,
    /// It can't go on; the text says why.
    Failed = 4,
}

impl Phase {
    /// By its number; `None` for what a guest must not write.
    pub fn from_word(word: u64) -> Option<Self> {
        use Phase::{Booting, Done, Failed, Preparing, Running};
        [Booting, Preparing, Running, Done, Failed]
            .into_iter()
            .find(|phase| *phase as u64 == word)
    }
}

/// Guest-physical address of the region: behind the kernel's image, and not at the end of memory,
/// where VMMs put the initramfs and firmware its tables.
pub const BASE: u64 = 48 << 20;
