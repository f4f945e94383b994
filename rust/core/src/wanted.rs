// SPDX-License-Identifier: GPL-2.0

//! The wanted list: what was aged lately without a hint, and a report would
//! cover. The guest asks for it, to report what matters first.
//!
//! A leaf has one place, by its first frame: so it stands in the list once,
//! however often it is aged, and recording it costs two atomic operations and
//! no lock. Where two leaves share a place, the later one has it.
//!
//! # Invariants
//!
//! - A place holds 0 or one leaf, in one word: its first frame, its level and
//!   when it was recorded, counted in records modulo 2^22.
//! - What is taken leaves its place unless it was recorded again meanwhile.
//!
//! In the examples, `vm` is the storage of a small VM: `tests/doc/vm.rs`.

use crate::addr::{Gfn, Level, GFN_BITS};
use crate::cast;
use crate::node::NODE_BITS;
use crate::sync::{AtomicU64, Ordering};
use crate::wire::SET_ORDER_SHIFT;

const FRAME_MASK: u64 = (1 << GFN_BITS) - 1;
const LEVEL_SHIFT: u32 = GFN_BITS;
const STAMP_SHIFT: u32 = LEVEL_SHIFT + 2;
const STAMP_MASK: u64 = u64::MAX >> STAMP_SHIFT;

/// A VM's wanted list, as far as one call needs it.
///
/// ```
/// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::addr::{Gfn, Level};
/// for gfn in [5, 6, 5] {
///     vm.wanted().record(Gfn::new(gfn).unwrap(), Level::L4K);
/// }
/// // Once each, the latest first.
/// let mut out = [0; 3];
/// assert_eq!((vm.wanted().take(&mut out), out), (2, [5, 6, 0]));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    records: &'a AtomicU64,
    places: &'a [AtomicU64],
}

impl<'a> Wanted<'a> {
    /// `records` counts from 0, `places` are zeroed when they are new; their
    /// number is a power of two. Any other number, or none, makes a list that
    /// stays empty.
    ///
    /// ```
    /// use gvahint_core::{addr::{Gfn, Level}, sync::AtomicU64, wanted::Wanted};
    /// let records = AtomicU64::new(0);
    /// let places = [const { AtomicU64::new(0) }; 3];
    /// // No power of two: as if there were none.
    /// let wanted = Wanted::new(&records, &places);
    /// wanted.record(Gfn::new(5).unwrap(), Level::L4K);
    /// assert_eq!(wanted.take(&mut [0]), 0);
    /// ```
    pub const fn new(records: &'a AtomicU64, places: &'a [AtomicU64]) -> Self {
        let places = if places.len().is_power_of_two() {
            places
        } else {
            &[]
        };
        Self { records, places }
    }

    /// A leaf was aged without a hint. Callable anywhere.
    ///
    /// ```
    /// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::addr::{Gfn, Level};
    /// // Two frames of one 2M leaf are one leaf, told by its first frame and order.
    /// for gfn in [600, 601] {
    ///     vm.wanted().record(Gfn::new(gfn).unwrap(), Level::L2M);
    /// }
    /// let mut out = [0; 2];
    /// vm.wanted().take(&mut out);
    /// assert_eq!(out, [512 | 9 << 40, 0]);
    /// ```
    pub fn record(&self, gfn: Gfn, level: Level) {
        let size = level.size();
        let first = gfn.aligned(size).raw();
        let Some(place) = self.place(first) else {
            return;
        };
        let level = u64::from(size.order() / NODE_BITS).wrapping_add(1);
        let stamp = self.records.fetch_add(1, Ordering::Relaxed) & STAMP_MASK;
        let word = first | level << LEVEL_SHIFT | stamp << STAMP_SHIFT;
        place.store(word, Ordering::Relaxed);
    }

    /// Neighbours have places of their own, of whichever size they are.
    fn place(&self, first: u64) -> Option<&'a AtomicU64> {
        let mask = cast::u64_from_usize(self.places.len()).wrapping_sub(1);
        let index = first ^ first >> 9 ^ first >> 18;
        self.places.get(cast::usize_from_u64(index & mask))
    }

    /// Takes the latest, as many as `out` has words for, the latest first: each
    /// as the header of a set has it, gfn and order. Returns how many; the rest
    /// of `out` is 0. What is recorded meanwhile may be left for the next time.
    ///
    /// ```
    /// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::addr::{Gfn, Level};
    /// for gfn in [5, 6] {
    ///     vm.wanted().record(Gfn::new(gfn).unwrap(), Level::L4K);
    /// }
    /// let mut out = [0];
    /// // What found no room in the buffer waits; what was told is forgotten.
    /// for told in [6, 5] {
    ///     assert_eq!((vm.wanted().take(&mut out), out), (1, [told]));
    /// }
    /// assert_eq!(vm.wanted().take(&mut out), 0);
    /// ```
    pub fn take(&self, out: &mut [u64]) -> usize {
        let now = self.records.load(Ordering::Relaxed);
        let age = |word: u64| now.wrapping_sub(word >> STAMP_SHIFT) & STAMP_MASK;
        let mut taken: usize = 0;
        for place in self.places {
            let word = place.load(Ordering::Relaxed);
            if word == 0 {
                continue;
            }
            let sorted = out.get(..taken).unwrap_or_default();
            let at = sorted.partition_point(|other| age(*other) <= age(word));
            taken = taken.saturating_add(1).min(out.len());
            let mut moved = word;
            for place in out.iter_mut().take(taken).skip(at) {
                moved = core::mem::replace(place, moved);
            }
        }
        for word in out.iter_mut().take(taken) {
            if let Some(place) = self.place(*word & FRAME_MASK) {
                let _ = place.compare_exchange(*word, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
            let order = (*word >> LEVEL_SHIFT & 3)
                .wrapping_sub(1)
                .wrapping_mul(u64::from(NODE_BITS));
            *word = *word & FRAME_MASK | order << SET_ORDER_SHIFT;
        }
        for word in out.iter_mut().skip(taken) {
            *word = 0;
        }
        taken
    }
}
