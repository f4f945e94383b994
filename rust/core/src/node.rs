// SPDX-License-Identifier: GPL-2.0

//! The memory that a hint table is made of: nodes of 4 KiB, known by number.
//!
//! The host owns them. It hands nodes in when the table asks for some, outside
//! of every lock that ageing takes, and gets back what the table has emptied.

use crate::sync::AtomicU64;

/// Slots in a node, as log2.
pub const NODE_BITS: u32 = 9;
/// Slots in a node.
pub const NODE_SLOTS: usize = 1 << NODE_BITS;
/// Bytes of a node.
pub const NODE_BYTES: u64 = 8 << NODE_BITS;
/// The largest number of a node; the smallest is 1.
pub const MAX_NODE: u32 = (1 << 24) - 1;

/// One node.
pub type Node = [AtomicU64; NODE_SLOTS];

/// Where the nodes of one table are found.
///
/// A node that was handed in is found under its number, always the same one,
/// until it is taken back; a number that names no node is `None`, so that no
/// word in the table can do harm, whatever it holds.
///
/// ```
/// use gvahint_core::node::{Node, Nodes};
/// struct Few(Vec<Box<Node>>);
/// impl Nodes for Few {
///     fn node(&self, id: u32) -> Option<&Node> {
///         Some(self.0.get((id as usize).checked_sub(1)?)?)
///     }
/// }
/// assert!(Few(Vec::new()).node(1).is_none());
/// ```
pub trait Nodes {
    /// The node of that number.
    ///
    /// ```
    /// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::node::Nodes;
    /// // Of 16 nodes. No link leads to number 0, and none may be invented.
    /// assert!(vm.nodes.node(1).is_some() && vm.nodes.node(16).is_some());
    /// assert!(vm.nodes.node(0).is_none() && vm.nodes.node(17).is_none());
    /// ```
    fn node(&self, id: u32) -> Option<&Node>;
}
