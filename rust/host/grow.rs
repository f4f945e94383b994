// SPDX-License-Identifier: GPL-2.0
//! Memory for a VM's hint table, and back again: outside of every section that ageing runs in.
//!
//! All that is here sleeps, under the VM's mutex and without a [`Guard`] but where it says so.

use crate::arena::{Arena, NewNode, Removed};
use crate::rcu::{self, Guard};
use crate::shim::{relax, zeroed};
use crate::vm::{Guest, Vm};
use core::sync::atomic::{AtomicU64, Ordering};
use gvahint_core::cast;
use kernel::prelude::*;

/// Nodes that are freed at a time, at most: one grace period for all of them, and one for 16 GiB of
/// memory whose hints are dropped.
const BATCH: u32 = 8192;
/// And at least.
const LEAST: u32 = 64;
/// So many nodes wait before a grace period is spent on them.
const ENOUGH: u32 = 64;

/// The numbers that name no node.
pub(crate) struct Numbers {
    /// The first `len` of these, and all from `next` on.
    vacant: KVVec<AtomicU64>,
    len: usize,
    next: u32,
}

impl Numbers {
    /// Those of an arena without nodes.
    pub(crate) const fn new() -> Self {
        Self {
            vacant: KVVec::new(),
            len: 0,
            next: 1,
        }
    }

    /// One of them.
    fn first(&self) -> u32 {
        let last = self.len.checked_sub(1);
        let vacant = last.and_then(|last| self.vacant.get(last));
        vacant.map_or(self.next, |id| cast::low_u32(id.load(Ordering::Relaxed)))
    }

    /// The one that [`Numbers::first`] says now names a node.
    fn take(&mut self) {
        match self.len.checked_sub(1) {
            Some(len) => self.len = len,
            None => self.next = self.next.saturating_add(1),
        }
    }

    /// Makes room for `more` numbers.  Sleeps.
    fn reserve(&mut self, more: usize) -> Result {
        let wanted = self.len.saturating_add(more);
        if self.vacant.len() < wanted {
            // The kernel's own way to grow a vector leaves panics behind.
            let larger = zeroed(wanted.saturating_mul(2))?;
            for (to, from) in larger.iter().zip(self.vacant.iter()) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            self.vacant = larger;
        }
        Ok(())
    }

    /// A number names no node any more; there has to be room.
    fn give(&mut self, id: u32) {
        if let Some(place) = self.vacant.get(self.len) {
            place.store(u64::from(id), Ordering::Relaxed);
            self.len = self.len.saturating_add(1);
        }
    }
}

/// Hands `wanted` nodes in, or says that there are no more.
pub(crate) fn grow(vm: &Vm, guest: &mut Guest, wanted: u32) {
    for _ in 0..wanted {
        if !one(vm, guest) {
            // What waits to be taken back may make room.
            let room = guest.writer.retired() > 0;
            reap(vm, guest);
            if !room || !one(vm, guest) {
                guest.writer.set_exhausted(true);
                return;
            }
        }
    }
}

/// Hands a node in, if the VM may have one and there is memory.
fn one(vm: &Vm, guest: &mut Guest) -> bool {
    let id = guest.numbers.first();
    let Some(has_part) = may_grow(vm, guest, id) else {
        return false;
    };
    let Ok(node) = NewNode::new() else {
        return false;
    };
    // Dropped after the guard, if anything is left in it.
    let mut part = None;
    if !has_part {
        let Ok(new) = Arena::new_part(id) else {
            return false;
        };
        part = Some(new);
    }
    let guard = Guard::new();
    let Some(store) = vm.store().get(&guard) else {
        return false;
    };
    let nodes = store.nodes();
    nodes.add_part(id, &mut part);
    if !nodes.add(id, node) {
        return false;
    }
    guest.numbers.take();
    guest.writer.hand_in(nodes, id)
}

/// Whether the directory has a place for the node `id`; `None` if the VM may not have one more.
fn may_grow(vm: &Vm, guest: &Guest, id: u32) -> Option<bool> {
    let guard = Guard::new();
    let store = vm.store().get(&guard)?;
    let may = store.may_grow(&guest.writer);
    may.then(|| store.nodes().has_part(id))
}

/// Frees what the table has let go of, if that is worth a grace period; lets one pass if the table
/// needs it.
pub(crate) fn reap_if_enough(vm: &Vm, guest: &mut Guest) {
    if guest.writer.retired() >= ENOUGH {
        reap(vm, guest);
    }
    if guest.writer.needs_grace() {
        rcu::synchronize();
        guest.writer.grace_passed();
    }
}

/// Frees what the table has let go of.
pub(crate) fn reap(vm: &Vm, guest: &mut Guest) {
    let mut most = BATCH;
    while guest.writer.retired() > 0 {
        let batch = cast::usize_from_u32(guest.writer.retired().min(most));
        let (Ok(mut removed), Ok(())) = (Removed::new(batch), guest.numbers.reserve(batch)) else {
            // Memory is short; where it is that short this waits for another time.
            most /= 2;
            if most < LEAST {
                return;
            }
            continue;
        };
        if !take_back(vm, guest, &mut removed, batch) {
            return;
        }
        // After a grace period.
        drop(removed);
        relax();
    }
}

/// Takes a batch out of the table; `false` if there is none.
fn take_back(vm: &Vm, guest: &mut Guest, removed: &mut Removed, batch: usize) -> bool {
    let guard = Guard::new();
    let Some(store) = vm.store().get(&guard) else {
        return false;
    };
    for _ in 0..batch {
        let Some(id) = guest.writer.take_back(store.nodes()) else {
            break;
        };
        store.nodes().remove(id, removed);
        guest.numbers.give(id);
    }
    true
}
