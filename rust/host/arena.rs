// SPDX-License-Identifier: GPL-2.0
//! The nodes of a hint table: pages, found by number, that come and go one by one.
//!
//! The directory grows with the largest number: parts of 32, 64, 128 ... pointers, which stay in
//! place as long as the arena.  A node that is taken out is freed after a grace period.

use crate::rcu::synchronize;
use crate::shim::{relax, zeroed};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use gvahint_core::node::{Node, Nodes, MAX_NODE, NODE_SLOTS};
use kernel::prelude::*;

/// Pointers in the first part, as log2.
const FIRST_BITS: u32 = 5;
/// Parts: enough for all numbers.
const PARTS: usize = 20;

/// Nodes that are freed without letting others run.
const RELAX: usize = 512;

/// What the directory takes for a node, at most; and its number, while it is vacant.
pub(crate) const NODE_OVERHEAD: u64 = 3 * 8;

/// A node that nobody has but its owner.
pub(crate) struct NewNode(KVVec<AtomicU64>);

impl NewNode {
    /// A zeroed one.  Sleeps.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(zeroed(NODE_SLOTS)?))
    }

    fn into_raw(self) -> *mut Node {
        let (words, _, _) = self.0.into_raw_parts();
        words.cast()
    }

    /// # Safety
    ///
    /// `ptr` came from `into_raw`, and nobody has it any more.
    unsafe fn from_raw(ptr: *mut Node) -> Self {
        // SAFETY: `into_raw` took apart a vector of that length, at least; kvfree() takes no length.
        Self(unsafe { KVVec::from_raw_parts(ptr.cast(), NODE_SLOTS, NODE_SLOTS) })
    }
}

/// A part of the directory: null, or a node each.
type Part = KVVec<AtomicPtr<Node>>;

/// `len` null pointers.  Sleeps.
fn nulls(len: usize) -> Result<Part> {
    let flags = GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN;
    let mut entries = KVVec::with_capacity(len, flags)?;
    // SAFETY: the capacity is at least `len`, and the memory is zeroed: null.
    unsafe { entries.set_len(len) };
    Ok(entries)
}

/// All nodes of a table.  To drop it sleeps.
///
/// # Invariants
///
/// - `parts` are null or came from [`KBox::into_raw`], and are freed with the arena.
/// - Their pointers are null or came from [`NewNode::into_raw`]; once swapped out, a node is freed
///   after a grace period ([`Removed`]).
/// - A shared reference to an arena that is in use is had under a [`crate::rcu::Guard`]: it is part
///   of a [`crate::store::Store`], which is reached through an [`crate::rcu::Slot`].
pub(crate) struct Arena {
    parts: [AtomicPtr<Part>; PARTS],
}

/// The part of a number, and its place there.
fn locate(id: u32) -> Option<(usize, usize)> {
    let at = id.checked_sub(1)?.checked_add(1 << FIRST_BITS)?;
    let bits = at.checked_ilog2()?;
    let part = usize::try_from(bits.checked_sub(FIRST_BITS)?).ok()?;
    Some((part, usize::try_from(at ^ 1u32.wrapping_shl(bits)).ok()?))
}

impl Nodes for Arena {
    #[inline]
    fn node(&self, id: u32) -> Option<&Node> {
        let ptr = self.entry(id)?.load(Ordering::Acquire);
        // SAFETY: by the invariants a non-null pointer is a live node, which is not freed before a
        // grace period that ends after the guard that `self` is had under.
        unsafe { ptr.as_ref() }
    }
}

impl Arena {
    /// An arena without nodes.
    pub(crate) const fn new() -> Self {
        // INVARIANT: all null.
        Self {
            parts: [const { AtomicPtr::new(null_mut()) }; PARTS],
        }
    }

    #[inline]
    fn entry(&self, id: u32) -> Option<&AtomicPtr<Node>> {
        let (part, place) = locate(id)?;
        let part = self.parts.get(part)?.load(Ordering::Acquire);
        // SAFETY: by the invariants null or alive as long as the arena.
        unsafe { part.as_ref() }?.get(place)
    }

    /// Whether the directory has a place for `id`.
    pub(crate) fn has_part(&self, id: u32) -> bool {
        self.entry(id).is_some()
    }

    /// The part that has the place for `id`, for [`Arena::add_part`].  Sleeps.
    pub(crate) fn new_part(id: u32) -> Result<KBox<Part>> {
        let (part, _) = locate(id).ok_or(EINVAL)?;
        let shift = u32::try_from(part).map_err(|_| EINVAL)?;
        let len = 1usize.wrapping_shl(FIRST_BITS.wrapping_add(shift));
        Ok(KBox::new(nulls(len)?, GFP_KERNEL_ACCOUNT)?)
    }

    /// Puts a part where none is.  What it does not take is left in `part`: to free that sleeps.
    pub(crate) fn add_part(&self, id: u32, part: &mut Option<KBox<Part>>) {
        let Some(place) = locate(id).and_then(|(part, _)| self.parts.get(part)) else {
            return;
        };
        let Some(new) = part.take() else {
            return;
        };
        let ptr = KBox::into_raw(new);
        // INVARIANT: from `into_raw`; nobody else has it.
        let put = place.compare_exchange(null_mut(), ptr, Ordering::AcqRel, Ordering::Relaxed);
        if put.is_err() {
            // SAFETY: came from `into_raw` above and was not published.
            *part = Some(unsafe { KBox::from_raw(ptr) });
        }
    }

    /// Puts a node under a number that names none; `false` if there is no such number.
    pub(crate) fn add(&self, id: u32, node: NewNode) -> bool {
        let Some(entry) = self.entry(id).filter(|_| id <= MAX_NODE) else {
            return false;
        };
        let ptr = node.into_raw();
        // INVARIANT: from `into_raw`; nobody else has it.
        let put = entry.compare_exchange(null_mut(), ptr, Ordering::AcqRel, Ordering::Relaxed);
        if put.is_err() {
            // SAFETY: came from `into_raw` above and was not published.
            drop(unsafe { NewNode::from_raw(ptr) });
        }
        put.is_ok()
    }

    /// Takes a node out, if `removed` has room for it.
    pub(crate) fn remove(&self, id: u32, removed: &mut Removed) {
        let Some(entry) = self.entry(id).filter(|_| !removed.is_full()) else {
            return;
        };
        let ptr = entry.swap(null_mut(), Ordering::AcqRel);
        if !ptr.is_null() {
            removed.push(ptr);
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for part in &mut self.parts {
            let ptr = *part.get_mut();
            if ptr.is_null() {
                continue;
            }
            // SAFETY: by the invariants from `into_raw`; `&mut self` says that nobody has it.
            let mut part = unsafe { KBox::from_raw(ptr) };
            for (freed, entry) in part.iter_mut().enumerate() {
                if freed % RELAX == 0 {
                    relax();
                }
                let ptr = *entry.get_mut();
                if !ptr.is_null() {
                    // SAFETY: by the invariants from `into_raw`; `&mut self`: nobody reads it.
                    drop(unsafe { NewNode::from_raw(ptr) });
                }
            }
        }
    }
}

/// Nodes that were taken out, and may still be read.
///
/// # Invariants
///
/// The first `len` pointers came from [`NewNode::into_raw`] and were swapped out of an arena.
pub(crate) struct Removed {
    nodes: Part,
    len: usize,
}

impl Removed {
    /// Room for `room` nodes.  Sleeps.
    pub(crate) fn new(room: usize) -> Result<Self> {
        // INVARIANT: none.
        Ok(Self {
            nodes: nulls(room)?,
            len: 0,
        })
    }

    /// Whether there is no room left.
    pub(crate) fn is_full(&self) -> bool {
        self.len >= self.nodes.len()
    }

    fn push(&mut self, ptr: *mut Node) {
        if let Some(place) = self.nodes.get_mut(self.len) {
            // INVARIANT: our caller swapped it out.
            *place.get_mut() = ptr;
            self.len = self.len.saturating_add(1);
        }
    }
}

impl Drop for Removed {
    /// Frees them.  Sleeps; not under a [`crate::rcu::Guard`].
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        synchronize();
        for (freed, place) in self.nodes.iter_mut().take(self.len).enumerate() {
            if freed % RELAX == 0 {
                relax();
            }
            // SAFETY: by the invariant from `into_raw`; every reader that could have loaded it
            // before it was swapped out has left its section.
            drop(unsafe { NewNode::from_raw(*place.get_mut()) });
        }
    }
}
