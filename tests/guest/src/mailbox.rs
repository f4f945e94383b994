// SPDX-License-Identifier: GPL-2.0
//! What guest and host share: a region of guest memory that the guest's kernel leaves alone.
//!
//! No access to it leaves the guest, so that watching a workload doesn't change when it exits. The
//! header is followed by one stamp for each guest page: the generation in which it was touched last.
//! Beside the workload, init carries out what the host orders (src/inside/orders.rs).

use gvahint_vm::PAGE;

/// Bytes of the region, and its alignment.
pub const SIZE: u64 = 2 << 20;
/// Where it is unless the kernel reaches so far.
const SMALL: u64 = 48 << 20;
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
/// Header word: number of the host's last order, written after its text.
pub const ORDER: u64 = 3080;
/// Header word: number of the last order that was carried out, written after the answer.
pub const ORDER_DONE: u64 = 3088;
/// Header word: not 0 if it failed; the answer says why.
pub const ORDER_FAILED: u64 = 3096;
/// What the host orders: text from here on, up to [`ANSWER`].
pub const ORDER_TEXT: u64 = 3104;
/// What came of it: text from here on, up to [`STAMPS`].
pub const ANSWER: u64 = 3360;
/// Stamps of 32 bits: see [`stamp`].
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

/// Guest-physical address of the region, and the least memory of a guest, in bytes, whose kernel ends at that
/// address: behind the kernel, and not at the end of memory, where VMMs put the initramfs and firmware
/// its tables.
pub const fn room(kernel_end: u64) -> (u64, u64) {
    if is_large(kernel_end) {
        (128 << 20, 512 << 20)
    } else {
        (SMALL, 64 << 20)
    }
}

/// Whether a kernel that ends there is larger than the tests' own, as Debian's is, and one that looks
/// for bugs.
pub const fn is_large(kernel_end: u64) -> bool {
    kernel_end > SMALL
}

/// Text in words, up to the first 0.
pub fn text(words: impl Iterator<Item = u64>) -> String {
    let bytes = words.flat_map(u64::to_le_bytes);
    let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Pages below this have stamps.
const LOW_END: u64 = (1 << 30) / PAGE;
/// So do pages from here on, as far as there is room: QEMU plugs memory in at 4 GiB.
pub const HIGH: u64 = (4 << 30) / PAGE;
const HIGH_END: u64 = HIGH + (SIZE - STAMPS) / 4 - LOW_END;

/// Where the stamp of a page is, if it has one.
pub fn stamp(gfn: u64) -> Option<u64> {
    let index = match gfn {
        0..LOW_END => gfn,
        HIGH..HIGH_END => gfn - HIGH + LOW_END,
        _ => return None,
    };
    Some(STAMPS + index * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fails if two pages share a stamp, or one lies outside of the region.
    #[test]
    fn stamps_are_apart() {
        assert_eq!(stamp(0), Some(STAMPS));
        assert_eq!(stamp(LOW_END), None);
        assert_eq!(stamp(HIGH), stamp(LOW_END - 1).map(|last| last + 4));
        assert_eq!(stamp(HIGH_END - 1), Some(SIZE - 4));
        assert_eq!(stamp(HIGH_END), None);
    }
}
