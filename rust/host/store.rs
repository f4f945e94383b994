// SPDX-License-Identifier: GPL-2.0
//! The memory of a VM that said HELLO: the log's ring and the hint table.

use crate::shim::zeroed;
use core::sync::atomic::AtomicU64;
use gvahint_core::table::{Hints, Shape};
use gvahint_core::writer::{Writer, WriterState};
use kernel::prelude::*;

/// Ring and table, as large as HELLO made them.
pub(crate) struct Store {
    ring: KVVec<AtomicU64>,
    table: KVVec<AtomicU64>,
    shape: Shape,
}

impl Store {
    /// A ring of `slots` and a table, both empty.  Sleeps.
    pub(crate) fn new(shape: Shape, slots: usize) -> Result<KBox<Self>> {
        let store = Self {
            ring: zeroed(slots)?,
            table: zeroed(shape.words())?,
            shape,
        };
        Ok(KBox::new(store, GFP_KERNEL_ACCOUNT)?)
    }

    /// Whether it is of that size.
    pub(crate) fn is(&self, shape: Shape, slots: usize) -> bool {
        self.shape == shape && self.ring.len() == slots
    }

    /// First frame for which there is no room.
    pub(crate) fn max_gfn(&self) -> u64 {
        self.shape.max_gfn()
    }

    /// How much memory it takes.
    pub(crate) fn bytes(&self) -> u64 {
        let words = self.ring.len().saturating_add(self.table.len());
        u64::try_from(words).map_or(u64::MAX, |words| words.saturating_mul(8))
    }

    /// The log's slots.
    pub(crate) fn ring(&self) -> &[AtomicU64] {
        &self.ring
    }

    /// The table, to look things up.
    pub(crate) fn hints(&self) -> Option<Hints<'_>> {
        Hints::new(&self.table, self.shape)
    }

    /// The table, to change it: `state` is what this storage was written with so far, and having
    /// it exclusively makes the caller the only writer.
    pub(crate) fn writer<'a>(&'a self, state: &'a mut WriterState) -> Option<Writer<'a>> {
        Some(Writer::new(self.hints()?, state))
    }
}
