// SPDX-License-Identifier: GPL-2.0

//! The scheme by which KVM queues the flushes that Hyper-V guests ask for: a FIFO of 16
//! entries for each vCPU. One place is kept for "flush all", which is queued where
//! another address would not fit. So an append visits every vCPU.

use gvahint_core::addr::Gva;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Entries of a FIFO.
pub const SIZE: u32 = 16;
const FLUSH_ALL: u64 = u64::MAX;

/// One vCPU's.
#[derive(Default)]
pub struct Fifo {
    /// Held by whoever appends.
    lock: AtomicBool,
    put: AtomicU32,
    got: AtomicU32,
    entries: [AtomicU64; SIZE as usize],
}

impl Fifo {
    /// Appends an address, or "flush all" if it would take the last place.
    #[inline]
    fn append(&self, gva: u64) {
        while self.lock.swap(true, Ordering::Acquire) {
            spin_loop();
        }
        let put = self.put.load(Ordering::Relaxed);
        let used = put.wrapping_sub(self.got.load(Ordering::Relaxed));
        let entry = if used < SIZE - 1 { gva } else { FLUSH_ALL };
        if used < SIZE {
            self.entries[(put % SIZE) as usize].store(entry, Ordering::Relaxed);
            self.put.store(put.wrapping_add(1), Ordering::Release);
        }
        self.lock.store(false, Ordering::Release);
    }

    /// Takes everything out; `true` if it was only addresses, each of which `flush` saw.
    pub fn drain(&self, mut flush: impl FnMut(u64)) -> bool {
        let put = self.put.load(Ordering::Acquire);
        let mut got = self.got.load(Ordering::Relaxed);
        let mut all = false;
        while got != put {
            match self.entries[(got % SIZE) as usize].load(Ordering::Relaxed) {
                FLUSH_ALL => all = true,
                gva => flush(gva),
            }
            got = got.wrapping_add(1);
        }
        self.got.store(got, Ordering::Release);
        !all
    }
}

/// Those of a VM.
pub struct Fifos(Vec<Fifo>);

impl Fifos {
    /// As the report calls it.
    pub const NAME: &'static str = "hyperv_fifo";

    /// Empty ones.
    pub fn new(vcpus: usize) -> Self {
        Self((0..vcpus).map(|_| Fifo::default()).collect())
    }

    /// Appends so many addresses to each.
    pub fn append(&self, gvas: &[Gva]) {
        for gva in gvas {
            for fifo in &self.0 {
                fifo.append(gva.raw());
            }
        }
    }

    /// Drains each; how many overflowed.
    pub fn drain(&self) -> usize {
        let drained = self.0.iter().map(|fifo| {
            fifo.drain(|gva| {
                black_box(gva);
            })
        });
        drained.filter(|whole| !whole).count()
    }
}
