// SPDX-License-Identifier: GPL-2.0

//! Cells: where the gVAs of a page, or of a run of pages, with several stand.
//!
//! A cell is 8 words of a node: what it is for, and up to 7 gVAs. The first
//! cell of a node says which of the other 63 are in use; nodes with a free
//! cell form a list, so that both taking and giving back is O(1).
//!
//! # Invariants
//!
//! - A cell in use is named by as many slots as its count of references says.
//! - A node is in the list if and only if one of its cells is free; a node
//!   whose cells are all free is given back at once.
//! - Cells are written, and written again, only while no slot names them.

use crate::addr::GFN_BITS;
use crate::cast;
use crate::node::{Nodes, NODE_SLOTS};
use crate::pool::WriterState;
use crate::report::Set;
use crate::sync::{AtomicU64, Ordering};
use crate::wire::MAX_SET_GVAS;

/// Words per cell.
pub(crate) const CELL_WORDS: usize = 1 + MAX_SET_GVAS;
/// Bits of a cell's place in its node.
const INDEX_BITS: u32 = 6;
const _: () = assert!(NODE_SLOTS / CELL_WORDS == 1 << INDEX_BITS);
/// The first cell is not one.
const NONE_USED: u64 = 1;

type Cell = [AtomicU64; CELL_WORDS];

/// The words of a cell.
#[inline]
pub(crate) fn words<N: Nodes>(nodes: &N, id: u32) -> Option<&Cell> {
    let index = cast::usize_from_u32(id & ((1 << INDEX_BITS) - 1));
    let node = nodes.node(id >> INDEX_BITS)?;
    node.get(index.wrapping_mul(CELL_WORDS)..)?.first_chunk()
}

/// First word of a cell in use: the run's first frame (40 bits), how many gVAs
/// (3), how many slots name the cell (21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head(pub(crate) u64);

impl Head {
    const REFS_SHIFT: u32 = GFN_BITS + 3;

    fn new(base: u64, count: usize, refs: u64) -> Self {
        let count = cast::u64_from_usize(count) & 7;
        Self(base | count << GFN_BITS | refs << Self::REFS_SHIFT)
    }

    pub(crate) fn base(self) -> u64 {
        self.0 & ((1 << GFN_BITS) - 1)
    }

    pub(crate) fn count(self) -> usize {
        cast::usize_from_u64(self.0 >> GFN_BITS & 7)
    }

    fn refs(self) -> u64 {
        self.0 >> Self::REFS_SHIFT
    }
}

/// The first cell of a node of cells: which are in use, and its neighbours in
/// the list of nodes with a free one. Only writers read it.
struct Index<'a> {
    used: &'a AtomicU64,
    next: &'a AtomicU64,
    prev: &'a AtomicU64,
}

fn index<N: Nodes>(nodes: &N, node: u32) -> Option<Index<'_>> {
    match nodes.node(node)? {
        [used, next, prev, ..] => Some(Index { used, next, prev }),
    }
}

/// A cell with a set's gVAs, to be named by `refs` slots.
pub(crate) fn take<N: Nodes>(
    nodes: &N,
    state: &mut WriterState,
    set: &Set<'_>,
    refs: u64,
) -> Option<u32> {
    if state.cells == 0 {
        let node = state.take_node(nodes)?;
        index(nodes, node)?.used.store(NONE_USED, Ordering::Relaxed);
        push(nodes, state, node);
    }
    let node = state.cells;
    let used = index(nodes, node)?.used;
    let before = used.load(Ordering::Relaxed);
    let bit = before.trailing_ones();
    debug_assert!(
        before & NONE_USED != 0 && bit < u64::BITS,
        "no cell is free"
    );
    let after = before | 1u64.wrapping_shl(bit);
    used.store(after, Ordering::Relaxed);
    if after == u64::MAX {
        unlink(nodes, state, node);
    }
    let id = node << INDEX_BITS | bit;
    let [head, words @ ..] = words(nodes, id)?;
    for ((gva, size), word) in set.gvas().zip(words) {
        word.store(gva.raw() | u64::from(size.order()), Ordering::Release);
    }
    let value = Head::new(set.gfn().raw(), set.gvas().len(), refs);
    head.store(value.0, Ordering::Release);
    Some(id)
}

/// Whether a cell lists, for the same frames, all gVAs of another one.
pub(crate) fn holds<N: Nodes>(nodes: &N, id: u32, other: u32) -> bool {
    let list = |id| {
        let [head, gvas @ ..] = words(nodes, id)?;
        let head = Head(head.load(Ordering::Relaxed));
        Some((head.base(), gvas.get(..head.count())?))
    };
    let (Some((base, gvas)), Some((other_base, others))) = (list(id), list(other)) else {
        return false;
    };
    let word = |gva: &AtomicU64| gva.load(Ordering::Relaxed);
    let is_listed = |other| gvas.iter().any(|gva| word(gva) == word(other));
    base == other_base && others.iter().all(is_listed)
}

/// `more` slots more name the cell.
pub(crate) fn share<N: Nodes>(nodes: &N, id: u32, more: u64) {
    if let Some([head, ..]) = words(nodes, id) {
        let value = Head(head.load(Ordering::Relaxed));
        let refs = value.refs().saturating_add(more);
        let value = Head::new(value.base(), value.count(), refs);
        head.store(value.0, Ordering::Release);
    }
}

/// One slot less names the cell. All that is stored to it later is stored with
/// release: who sees any of that sees the slot changed.
pub(crate) fn release<N: Nodes>(nodes: &N, state: &mut WriterState, id: u32) {
    let Some([head, ..]) = words(nodes, id) else {
        return;
    };
    let value = Head(head.load(Ordering::Relaxed));
    debug_assert!(value.refs() > 0, "a cell that no slot named");
    if value.refs() > 1 {
        let less = Head::new(value.base(), value.count(), value.refs().saturating_sub(1));
        head.store(less.0, Ordering::Release);
        return;
    }
    let node = id >> INDEX_BITS;
    let Some(Index { used, .. }) = index(nodes, node) else {
        return;
    };
    let before = used.load(Ordering::Relaxed);
    debug_assert!(
        before >> (id & ((1 << INDEX_BITS) - 1)) & 1 != 0,
        "given back twice"
    );
    let after = before & !1u64.wrapping_shl(id & ((1 << INDEX_BITS) - 1));
    used.store(after, Ordering::Relaxed);
    if before == u64::MAX {
        push(nodes, state, node);
    }
    if after == NONE_USED {
        unlink(nodes, state, node);
        state.retire(nodes, node);
    }
}

/// Puts a node at the head of the list.
fn push<N: Nodes>(nodes: &N, state: &mut WriterState, node: u32) {
    if let Some(first) = index(nodes, state.cells) {
        first.prev.store(u64::from(node), Ordering::Relaxed);
    }
    if let Some(new) = index(nodes, node) {
        new.prev.store(0, Ordering::Relaxed);
        new.next.store(u64::from(state.cells), Ordering::Relaxed);
    }
    state.cells = node;
}

/// Takes a node out of the list.
fn unlink<N: Nodes>(nodes: &N, state: &mut WriterState, node: u32) {
    let Some(Index { next, prev, .. }) = index(nodes, node) else {
        return;
    };
    let (next, prev) = (next.load(Ordering::Relaxed), prev.load(Ordering::Relaxed));
    if let Some(after) = index(nodes, cast::low_u32(next)) {
        after.prev.store(prev, Ordering::Relaxed);
    }
    match index(nodes, cast::low_u32(prev)) {
        Some(before) => before.next.store(next, Ordering::Relaxed),
        None => state.cells = cast::low_u32(next),
    }
}
