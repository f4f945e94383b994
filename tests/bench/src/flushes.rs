// SPDX-License-Identifier: GPL-2.0

//! A log with its storage, and what happens to it.

use gvahint_core::addr::{Gva, VaBits};
use gvahint_core::log::{Done, Flusher, Log};
use gvahint_core::policy::Tunables;
use gvahint_core::sync::AtomicU64;
use std::hint::black_box;

/// A VM's log, and a vCPU's cursor.
pub struct Vm {
    head: AtomicU64,
    full: AtomicU64,
    context: AtomicU64,
    ring: Vec<AtomicU64>,
    cursors: Vec<AtomicU64>,
}

/// A flusher that the compiler can't see through, without the INVVPID.
struct Opaque;

impl Flusher for Opaque {
    #[inline]
    fn gva(&mut self, gva: Gva) -> bool {
        black_box(gva.raw());
        true
    }

    fn context(&mut self) {
        unreachable!("the log holds all that was appended");
    }

    fn full(&mut self) {
        unreachable!("nothing asked for it");
    }
}

/// A gVA by its page.
pub fn gva(page: u64) -> Gva {
    Gva::new(page << 12, VaBits::Bits48).expect("a low page")
}

impl Vm {
    /// One with a log of the usual size.
    pub fn new(vcpus: usize) -> Self {
        let word = || AtomicU64::new(0);
        Self {
            head: word(),
            full: word(),
            context: word(),
            ring: (0..Tunables::DEFAULT.log_entries).map(|_| word()).collect(),
            cursors: (0..vcpus).map(|_| word()).collect(),
        }
    }

    /// Its log.
    #[inline]
    pub fn log(&self) -> Log<'_> {
        Log::new(&self.head, &self.full, &self.context, &self.ring)
    }

    /// Appends so many gVAs.
    pub fn append(&self, gvas: &[Gva]) {
        let log = self.log();
        for gva in gvas {
            assert!(log.append_gva(*gva));
        }
    }

    /// Each vCPU drains; how many gVAs each dropped.
    pub fn drain(&self) -> u32 {
        let mut gvas = 0;
        for cursor in &self.cursors {
            let max = Tunables::DEFAULT.max_gvas_per_entry;
            let drained = self.log().drain(cursor, max, &mut Opaque);
            assert!(matches!(drained.done, Done::Gvas | Done::Nothing));
            gvas = drained.gvas;
        }
        gvas
    }

    /// Whether the vCPU has to drain, asked so many times; how often it has to.
    pub fn pending(&self, times: u64) -> u64 {
        let log = self.log();
        let mut pending = 0;
        for _ in 0..times {
            pending += u64::from(log.pending(black_box(&self.cursors[0])));
        }
        pending
    }
}
