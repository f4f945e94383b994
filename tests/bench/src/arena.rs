// SPDX-License-Identifier: GPL-2.0

//! Nodes by number, found with the same loads as in the host's `arena.rs`: parts of
//! 32, 64, 128 ... pointers.

use gvahint_core::node::{Node, Nodes, NODE_BYTES, NODE_SLOTS};
use gvahint_core::sync::AtomicU64;

/// Pointers in the first part, as log2.
const FIRST_BITS: u32 = 5;
/// Parts: enough for all numbers.
const PARTS: usize = 20;

// A box of a vector, as the host has it: the loads are what is measured.
#[allow(clippy::box_collection)]
type Part = Option<Box<Vec<Option<Box<Node>>>>>;

/// All nodes of a table.
#[derive(Default)]
pub struct Arena {
    parts: [Part; PARTS],
    /// Numbers that name no node; and all from `next` on.
    vacant: Vec<u32>,
    next: u32,
}

fn locate(id: u32) -> Option<(usize, usize)> {
    let at = id.checked_sub(1)?.checked_add(1 << FIRST_BITS)?;
    let bits = at.checked_ilog2()?;
    let part = usize::try_from(bits.checked_sub(FIRST_BITS)?).ok()?;
    Some((part, usize::try_from(at ^ 1u32.wrapping_shl(bits)).ok()?))
}

impl Nodes for Arena {
    #[inline]
    fn node(&self, id: u32) -> Option<&Node> {
        let (part, place) = locate(id)?;
        self.parts.get(part)?.as_ref()?.get(place)?.as_deref()
    }
}

impl Arena {
    /// Puts a zeroed node under a number that is free.
    pub fn add(&mut self) -> u32 {
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        let (part, place) = locate(id).expect("a number from 1 on");
        let entries = self.parts[part].get_or_insert_with(|| {
            let len = 1usize << FIRST_BITS << part;
            Box::new((0..len).map(|_| None).collect())
        });
        entries[place] = Some(Box::new([const { AtomicU64::new(0) }; NODE_SLOTS]));
        id
    }

    /// Frees a node.
    pub fn remove(&mut self, id: u32) {
        let (part, place) = locate(id).expect("a number from 1 on");
        let node = self.parts[part]
            .as_mut()
            .and_then(|part| part[place].take());
        assert!(node.is_some(), "no node {id}");
        self.vacant.push(id);
    }

    /// Bytes allocated for nodes and for finding them.
    pub fn bytes(&self) -> u64 {
        let parts = self.parts.iter().flatten();
        let places: usize = parts.clone().map(|part| part.len()).sum();
        let nodes = parts
            .map(|part| part.iter().flatten().count())
            .sum::<usize>();
        NODE_BYTES * nodes as u64 + 8 * places as u64 + 4 * self.vacant.capacity() as u64
    }
}
