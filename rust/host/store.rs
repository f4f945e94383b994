// SPDX-License-Identifier: GPL-2.0
//! The memory of a VM that said HELLO: the log's ring and the hint table.

use crate::arena::{Arena, NODE_OVERHEAD};
use crate::shim::zeroed;
use core::sync::atomic::{AtomicU64, Ordering};
use gvahint_core::cast;
use gvahint_core::kept::{Kept, MAX_LEAVES};
use gvahint_core::node::NODE_BYTES;
use gvahint_core::pool::WriterState;
use gvahint_core::table::{Hints, Shape, Top};
use gvahint_core::wanted::Wanted;
use gvahint_core::writer::Writer;
use kernel::prelude::*;

/// Leaves in the wanted list: four calls' worth.
const WANTED: usize = 2048;

/// Ring, wanted list, large leaves that are kept, and table.  The ring is as large as HELLO made it; the
/// table grows with what is reported.
pub(crate) struct Store {
    ring: KVVec<AtomicU64>,
    records: AtomicU64,
    wanted: KVVec<AtomicU64>,
    kept: KVVec<AtomicU64>,
    leaf_quota: AtomicU64,
    top: Top,
    nodes: Arena,
    shape: Shape,
    max_nodes: u32,
}

impl Store {
    /// A ring of `slots` and a table that may take `table_bytes`, both empty.  Sleeps.
    pub(crate) fn new(shape: Shape, slots: usize, table_bytes: u64) -> Result<KBox<Self>> {
        let store = Self {
            ring: zeroed(slots)?,
            records: AtomicU64::new(0),
            wanted: zeroed(WANTED)?,
            kept: zeroed(MAX_LEAVES)?,
            leaf_quota: AtomicU64::new(0),
            top: Top::new(),
            nodes: Arena::new(),
            shape,
            max_nodes: max_nodes(table_bytes),
        };
        Ok(KBox::new(store, GFP_KERNEL_ACCOUNT)?)
    }

    /// Whether it is of that size.
    pub(crate) fn is(&self, shape: Shape, slots: usize, table_bytes: u64) -> bool {
        self.shape == shape && self.ring.len() == slots && self.max_nodes == max_nodes(table_bytes)
    }

    /// First frame for which there is no room.
    pub(crate) fn max_gfn(&self) -> u64 {
        self.shape.max_gfn()
    }

    /// How much memory it takes.
    pub(crate) fn bytes(&self, state: &WriterState) -> u64 {
        u64::from(state.held())
            .saturating_mul(NODE_BYTES.saturating_add(NODE_OVERHEAD))
            .saturating_add(Self::fixed_bytes(self.ring.len()))
    }

    /// The same without the table.
    pub(crate) fn fixed_bytes(slots: usize) -> u64 {
        let words = slots.saturating_add(WANTED).saturating_add(MAX_LEAVES);
        cast::u64_from_usize(words.saturating_mul(8))
    }

    /// The log's slots.
    pub(crate) fn ring(&self) -> &[AtomicU64] {
        &self.ring
    }

    /// What was aged without a hint.
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        Wanted::new(&self.records, &self.wanted)
    }

    /// Large leaves that are kept young.
    pub(crate) fn kept(&self) -> Kept<'_> {
        let quota = cast::usize_from_u64(self.leaf_quota.load(Ordering::Relaxed));
        Kept::new(self.kept.get(..quota).unwrap_or(&self.kept))
    }

    /// How many of these there may be; at most [`MAX_LEAVES`].
    pub(crate) fn set_leaf_quota(&self, leaves: u64) {
        self.leaf_quota.store(leaves, Ordering::Relaxed);
    }

    /// The table's nodes.
    pub(crate) fn nodes(&self) -> &Arena {
        &self.nodes
    }

    /// The table, to look things up.
    pub(crate) fn hints(&self) -> Hints<'_, Arena> {
        Hints::new(&self.top, &self.nodes, self.shape)
    }

    /// The table, to change it: `state` is what this storage was written with so far, and having
    /// it exclusively makes the caller the only writer.
    pub(crate) fn writer<'a>(&'a self, state: &'a mut WriterState) -> Writer<'a, Arena> {
        Writer::new(self.hints(), state)
    }

    /// Whether the table may have another node.
    pub(crate) fn may_grow(&self, state: &WriterState) -> bool {
        state.held() < self.max_nodes
    }
}

fn max_nodes(bytes: u64) -> u32 {
    u32::try_from(bytes / (NODE_BYTES + NODE_OVERHEAD)).unwrap_or(u32::MAX)
}
