// SPDX-License-Identifier: GPL-2.0

//! Lookups for EPT leaves of any size.
//!
//! | leaf | the guest maps with | to drop |
//! |---|---|---|
//! | 4K | any size | the gVAs |
//! | 4K | under gVAs that nobody listed | the context |
//! | 2M, 1G | that size or a larger one | the gVAs of the first frame |
//! | 2M, 1G | smaller pages, contiguously | more than are worth it: the context |
//! | 2M | hinted page by page, all of them, listed or not | the same |
//! | 1G | hinted 2M by 2M, all of them | the same |
//! | any | hinted in part, or a page table among them | uncovered, unless it was kept young |
//!
//! In the examples, `vm` is the storage of a small VM: `tests/doc/vm.rs`.

use crate::addr::{Gfn, Gva, Level, MapSize};
use crate::gvas::GvaList;
use crate::node::{Nodes, NODE_BITS};
use crate::plan::Reason;
use crate::policy::LinearAlias;
use crate::slot::{Child, Content, Slot};
use crate::sync::Ordering;
use crate::table::{Hints, Query};

/// What drops all translations of a leaf.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::{Gfn, Level}, leaf::Cover};
/// // An EPT leaf of 2M: the guest maps it by small pages, then by one of 2M.
/// let leaf = Gfn::new(512).unwrap();
/// vm.map(512, 9, &[0x4000_0000]);
/// let cover = vm.hints().cover(leaf, Level::L2M, &vm.query()).unwrap();
/// assert!(matches!(cover, Cover::Context));
/// vm.map(512, 9, &[0x4000_0000 | 9]);
/// let cover = vm.hints().cover(leaf, Level::L2M, &vm.query()).unwrap();
/// assert!(matches!(cover, Cover::Gva((gva, _), None) if gva.raw() == 0x4000_0000));
/// ```
// There is no heap that the larger variant could be on.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug)]
pub enum Cover {
    /// This gVA, and that of the linear ranges if it counts.
    Gva((Gva, MapSize), Option<(Gva, MapSize)>),
    /// These gVAs, one by one.
    Gvas(GvaList),
    /// The whole context; nothing less would do, nothing more is needed.
    Context,
}

impl<'a, N: Nodes> Hints<'a, N> {
    /// What drops all translations of the leaf of that level that `gfn` lies in.
    ///
    /// Lock-free; at most one node is read for a leaf of 2M.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::{addr::{Gfn, Level}, plan::Reason};
    /// // One page of the leaf is hinted, 511 are not.
    /// vm.map(512, 0, &[0x7000]);
    /// let cover = |level| vm.hints().cover(Gfn::new(512).unwrap(), level, &vm.query());
    /// assert!(cover(Level::L4K).is_ok());
    /// assert_eq!(cover(Level::L2M).err(), Some(Reason::LargeLeaf));
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Hints::lookup`]; [`Reason::LargeLeaf`] if hints cover it in part.
    #[inline]
    pub fn cover(&self, gfn: Gfn, level: Level, query: &Query) -> Result<Cover, Reason> {
        let size = level.size();
        let first = gfn.aligned(size);
        match self.few(first, size, query)? {
            Some((gva, linear)) => Ok(Cover::Gva(gva, linear)),
            None => self.cover_all(first, size, query),
        }
    }

    /// The same where a slot does not say it all.
    #[inline(never)]
    fn cover_all(&self, gfn: Gfn, size: MapSize, query: &Query) -> Result<Cover, Reason> {
        self.in_one_epoch(|| match size {
            MapSize::M4K => Ok(match self.read(gfn, query)? {
                list if list.is_empty() => Cover::Context,
                list => Cover::Gvas(list),
            }),
            _ => self.read_large(gfn, size, query),
        })
    }

    fn read_large(&self, gfn: Gfn, size: MapSize, query: &Query) -> Result<Cover, Reason> {
        let found = self.find(gfn.raw(), size.order(), query.now_ms)?;
        let with_linear = match found.slot.content() {
            Content::Child(node) => return self.read_all(node, query),
            Content::KernelOnly => query.alias != LinearAlias::Never,
            _ => query.alias == LinearAlias::Always,
        };
        // A hint for all of it: what it says of the first frame holds for all.
        let list = self.read_slot(gfn, &found, query)?;
        let whole = list.sized().all(|(_, mapped)| mapped >= size);
        if whole && !list.is_empty() && !(with_linear && self.linear().splits(gfn, size)) {
            Ok(Cover::Gvas(list))
        } else {
            Ok(Cover::Context)
        }
    }

    /// A node of hints for the next smaller size: the context serves them if
    /// all are known. Those that are in yet smaller pieces are not looked at.
    ///
    /// A page table may change places with data behind and before the reader: it
    /// then finds data that was none, and with that a flush of everything due.
    fn read_all(&self, node: Child, query: &Query) -> Result<Cover, Reason> {
        let slots = self.nodes.node(node.id()).ok_or(Reason::Race)?;
        // Of the hints that are slots of this node, not of those below.
        let dead = node.is_dead(query.now_ms);
        for slot in slots {
            let slot = Slot(slot.load(Ordering::Acquire));
            match slot.content() {
                Content::One(..) | Content::Cell { .. } | Content::Anywhere => {}
                Content::KernelOnly if query.alias != LinearAlias::Never => {}
                _ => return Err(Reason::LargeLeaf),
            }
            if dead || slot.is_older(query.now_ms, query.max_age_ms) {
                return Err(Reason::Aged);
            }
        }
        Ok(Cover::Context)
    }
}

// A node's slots span the next smaller size.
const _: () = assert!(NODE_BITS == MapSize::M2M.order());
const _: () = assert!(2 * NODE_BITS == MapSize::M1G.order());
