// SPDX-License-Identifier: GPL-2.0

//! Where a table starts, and how far it reaches.

use crate::addr::GFN_BITS;
use crate::node::NODE_BITS;
use crate::owed::Owed;
use crate::sync::AtomicU64;

/// Where a table starts; zeroed for an empty one.
///
/// ```
/// use gvahint_core::table::Top;
/// // What a VM costs whose guest does not report.
/// assert_eq!(size_of::<Top>(), 56);
/// ```
#[derive(Debug)]
pub struct Top {
    /// Odd while everything changes at once.
    pub(crate) epoch: AtomicU64,
    /// The link to the root, or 0.
    pub(crate) root: AtomicU64,
    /// The number of the node that holds the linear ranges, or 0.
    pub(crate) linear: AtomicU64,
    /// A flush of everything, for pages that may have been page tables.
    pub(crate) turned: Owed,
    /// A flush of the context, for pages whose gVAs were others than was known.
    pub(crate) moved: Owed,
}

impl Default for Top {
    fn default() -> Self {
        Self::new()
    }
}

impl Top {
    /// An empty table.
    ///
    /// ```
    /// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::{addr::Gfn, plan::Reason, table::{Hints, Shape, Top}};
    /// let (top, shape) = (Top::new(), Shape::new(1 << 40).unwrap());
    /// // It reaches everything, holds nothing, and needs no node for that.
    /// let hints = Hints::new(&top, &vm.nodes, shape);
    /// let found = hints.lookup(Gfn::new((1 << 40) - 1).unwrap(), &vm.query());
    /// assert_eq!(found.err(), Some(Reason::NoHint));
    /// ```
    pub const fn new() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            root: AtomicU64::new(0),
            linear: AtomicU64::new(0),
            turned: Owed::new(),
            moved: Owed::new(),
        }
    }
}

/// How far a table reaches.
///
/// ```
/// use gvahint_core::table::Shape;
/// // A VM with 16 GiB: hints for memory hotplugged up to 512 GiB find room.
/// assert_eq!(Shape::new(1 << 22), Shape::new(1 << 27));
/// assert_ne!(Shape::new(1 << 22), Shape::new((1 << 27) + 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    levels: u32,
}

impl Shape {
    /// The smallest table that reaches all frames below `max_gfn` (at most 2^40).
    ///
    /// ```
    /// use gvahint_core::table::Shape;
    /// assert_eq!(Shape::new(1 << 18).map(|shape| shape.max_gfn()), Some(1 << 27));
    /// assert_eq!(Shape::new(1 << 40).map(|shape| shape.max_gfn()), Some(1 << 40));
    /// assert_eq!(Shape::new((1 << 40) + 1), None);
    /// ```
    pub fn new(max_gfn: u64) -> Option<Self> {
        let levels = match max_gfn.saturating_sub(1) {
            last if last >> 27 == 0 => 3,
            last if last >> 36 == 0 => 4,
            last if last >> GFN_BITS == 0 => 5,
            _ => return None,
        };
        Some(Self { levels })
    }

    /// First frame for which there is no room.
    ///
    /// ```
    /// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::{addr::Gfn, plan::Reason};
    /// // Beyond it a page is uncovered, which is no error.
    /// let beyond = Gfn::new(vm.hints().shape().max_gfn()).unwrap();
    /// let found = vm.hints().lookup(beyond, &vm.query());
    /// assert_eq!(found.err(), Some(Reason::NoRoom));
    /// ```
    #[inline]
    pub fn max_gfn(&self) -> u64 {
        1u64.wrapping_shl(self.levels.wrapping_mul(NODE_BITS).min(GFN_BITS))
    }

    /// log2 of the frames that a slot of the root spans.
    #[inline]
    pub(crate) fn root_shift(&self) -> u32 {
        self.levels.wrapping_sub(1).wrapping_mul(NODE_BITS)
    }
}
