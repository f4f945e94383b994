// SPDX-License-Identifier: GPL-2.0

//! A log with its storage, and a flusher that records.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions)]

use gvahint_core::addr::{Gva, VaBits};
use gvahint_core::log::{Flusher, Log};
use gvahint_core::sync::{AtomicU64, Ordering::Relaxed};

/// A gVA by its page number.
pub(crate) fn gva(page: u64) -> Gva {
    Gva::new(page << 12, VaBits::Bits48).unwrap()
}

/// The page of gVAs that [`Vm::append`] appends.
pub(crate) const APPENDED: u64 = 77;

pub(crate) struct Vm {
    pub(crate) head: AtomicU64,
    pub(crate) full: AtomicU64,
    pub(crate) context: AtomicU64,
    pub(crate) slots: Vec<AtomicU64>,
}

impl Vm {
    pub(crate) fn new(size: u64) -> Self {
        Self::at(size, 0)
    }

    /// A log with a new ring that starts at a later position.
    pub(crate) fn at(size: u64, head: u64) -> Self {
        Self {
            head: AtomicU64::new(head),
            full: AtomicU64::new(0),
            context: AtomicU64::new(0),
            slots: (0..size).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(crate) fn log(&self) -> Log<'_> {
        Log::new(&self.head, &self.full, &self.context, &self.slots)
    }

    pub(crate) fn cursor(&self) -> AtomicU64 {
        AtomicU64::new(self.log().start())
    }

    /// One entry: g, c or f.
    pub(crate) fn append(&self, entry: char) {
        match entry {
            'g' => assert!(self.log().append_gva(gva(APPENDED))),
            'c' => self.log().append_context(),
            'f' => self.log().append_full(),
            other => panic!("{other}"),
        }
    }

    /// What the producer that reserved `pos` writes in the end.
    pub(crate) fn write(&self, pos: u64, page: u64) {
        let size = self.slots.len() as u64;
        let tag = pos / size % 4095 + 1;
        self.slots[(pos % size) as usize].store(page << 12 | tag, Relaxed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Gva(u64),
    Context,
    Full,
}

/// Records flushes by the page number.
#[derive(Default)]
pub(crate) struct Recorder<'a> {
    pub(crate) ops: Vec<Op>,
    /// This page is refused.
    pub(crate) refuse: Option<u64>,
    /// What others do during the first flush.
    pub(crate) meanwhile: Option<Box<dyn FnMut() + 'a>>,
}

impl<'a> Recorder<'a> {
    /// Something happens elsewhere during the first flush.
    pub(crate) fn with(meanwhile: impl FnMut() + 'a) -> Self {
        Self {
            meanwhile: Some(Box::new(meanwhile)),
            ..Self::default()
        }
    }

    fn record(&mut self, op: Op) {
        self.ops.push(op);
        if let Some(mut others) = self.meanwhile.take() {
            others();
        }
    }
}

impl Flusher for Recorder<'_> {
    fn gva(&mut self, gva: Gva) -> bool {
        let page = gva.raw() >> 12;
        if self.refuse == Some(page) {
            return false;
        }
        self.record(Op::Gva(page));
        true
    }

    fn context(&mut self) {
        self.record(Op::Context);
    }

    fn full(&mut self) {
        self.record(Op::Full);
    }
}
