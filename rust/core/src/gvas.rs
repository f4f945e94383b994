// SPDX-License-Identifier: GPL-2.0

//! The gVAs that a lookup finds, on the stack.

use crate::addr::{Gva, MapSize};

/// gVAs of one frame: those of a set and of the linear ranges that hold it.
pub const MAX_GVAS: usize = 16;

/// The gVAs under which a frame can be reached.
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
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none. A lookup never returns that.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The gVAs.
    pub fn iter(&self) -> impl Iterator<Item = Gva> + '_ {
        self.sized().map(|(gva, _)| gva)
    }

    /// The gVAs, and with which page size the guest maps each.
    pub fn sized(&self) -> impl Iterator<Item = (Gva, MapSize)> + '_ {
        // Not `take`: it leaves a panicking path.
        let gvas = self.gvas.get(..self.len).unwrap_or_default();
        gvas.iter().copied()
    }
}
