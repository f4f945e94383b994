// SPDX-License-Identifier: GPL-2.0

//! The gVAs that a lookup finds, on the stack.
//!
//! In the examples, `vm` is the storage of a small VM: `tests/doc/vm.rs`.

use crate::addr::{Gva, MapSize};
use crate::table::Few;

/// gVAs of one frame: those of a set and of the linear ranges that hold it.
pub const MAX_GVAS: usize = 16;

/// The gVAs under which a frame can be reached.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::addr::{Gfn, Gva};
/// vm.map(5, 0, &[0x7000, 0x9000]);
/// let found = vm.hints().lookup(Gfn::new(5).unwrap(), &vm.query()).unwrap();
/// // In the order in which the guest named them; a copy, whatever follows.
/// vm.map(5, 0, &[0x6000]);
/// assert!(found.iter().map(Gva::raw).eq([0x7000, 0x9000]));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GvaList {
    gvas: [(Gva, MapSize); MAX_GVAS],
    len: usize,
}

impl Default for GvaList {
    fn default() -> Self {
        Self {
            gvas: [(Gva::stored(0), MapSize::M4K); MAX_GVAS],
            len: 0,
        }
    }
}

impl GvaList {
    /// Only these.
    pub(crate) fn of(((gva, size), linear): Few) -> Self {
        let mut list = Self::default();
        list.push(gva, size);
        if let Some((gva, size)) = linear {
            list.push(gva, size);
        }
        list
    }

    /// Adds one; `false` if there is no place.
    pub(crate) fn push(&mut self, gva: Gva, size: MapSize) -> bool {
        let Some(place) = self.gvas.get_mut(self.len) else {
            return false;
        };
        *place = (gva, size);
        self.len = self.len.saturating_add(1);
        true
    }

    /// How many there are.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::{addr::{Gfn, Level}, leaf::Cover};
    /// // A leaf of 2M that the guest maps by 2M, twice: two gVAs, not 1024.
    /// vm.map(512, 9, &[0x4000_0000 | 9, 0x8000_0000 | 9]);
    /// let cover = vm.hints().cover(Gfn::new(600).unwrap(), Level::L2M, &vm.query());
    /// assert!(matches!(cover, Ok(Cover::Gvas(gvas)) if gvas.len() == 2));
    /// ```
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none: nobody listed those under which the frame is reached.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::addr::Gfn;
    /// vm.report(&[5 | 6 << 46]).answer().unwrap(); // frame 5: ANYWHERE
    /// let found = vm.hints().lookup(Gfn::new(5).unwrap(), &vm.query()).unwrap();
    /// assert!(found.is_empty());
    /// ```
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The gVAs.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::addr::{Gfn, Gva};
    /// // Four frames mapped contiguously: a lookup of the third gives its own gVA.
    /// vm.map(4, 2, &[0x7000_0000]);
    /// let found = vm.hints().lookup(Gfn::new(6).unwrap(), &vm.query()).unwrap();
    /// assert!(found.iter().map(Gva::raw).eq([0x7000_2000]));
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Gva> + '_ {
        self.sized().map(|(gva, _)| gva)
    }

    /// The gVAs, and with which page size the guest maps each.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::addr::{Gfn, MapSize};
    /// // One frame, in a page of 2M here and in one of 4K there.
    /// vm.map(5, 0, &[0x4000_5000 | 9, 0x7000]);
    /// let found = vm.hints().lookup(Gfn::new(5).unwrap(), &vm.query()).unwrap();
    /// assert!(found.sized().map(|(_, size)| size).eq([MapSize::M2M, MapSize::M4K]));
    /// ```
    pub fn sized(&self) -> impl Iterator<Item = (Gva, MapSize)> + '_ {
        // Not `take`: it leaves a panicking path.
        let gvas = self.gvas.get(..self.len).unwrap_or_default();
        gvas.iter().copied()
    }
}
