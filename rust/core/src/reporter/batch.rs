// SPDX-License-Identifier: GPL-2.0

//! REPORT's buffer: sets become words, in the form that [`crate::report`] parses.

use crate::cast;
use crate::report::Kind;
use crate::wire;

/// What stands for a set in the buffer.
///
/// ```
/// use gvahint_core::report::Kind;
/// use gvahint_core::reporter::batch::{Batch, Header};
/// let all_of_2m = Header { gfn: 0x200, order: 9, kind: Kind::KernelOnly };
/// let mut words = [0];
/// assert!(Batch::new().push(&mut words, all_of_2m, &[]));
/// assert_eq!(words, [0x200 | 9 << 40 | 2 << 46]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// First frame.
    pub gfn: u64,
    /// log2 of the frames.
    pub order: u32,
    /// What is said of them.
    pub kind: Kind,
}

/// Sets that wait to be sent.
///
/// ```
/// use gvahint_core::report::Kind;
/// use gvahint_core::reporter::batch::{Batch, Header};
/// let mut words = [0; 8];
/// let mut batch = Batch::new();
/// let set = Header { gfn: 5, order: 0, kind: Kind::Mapped };
/// assert!(batch.push(&mut words, set, &[0x7000]));
/// assert_eq!(words[..2], [5 | 1 << 46 | 1 << 50, 0x7000]);
/// // The host took one set.
/// batch.sent(&mut words, 1);
/// assert!(batch.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Batch {
    used: usize,
}

impl Batch {
    /// Nothing.
    ///
    /// ```
    /// use gvahint_core::reporter::batch::Batch;
    /// assert!(Batch::new().is_empty());
    /// ```
    pub const fn new() -> Self {
        Self { used: 0 }
    }

    /// Whether there is nothing to send.
    ///
    /// ```
    /// use gvahint_core::report::Kind;
    /// use gvahint_core::reporter::batch::{Batch, Header};
    /// let set = Header { gfn: 5, order: 0, kind: Kind::Mapped };
    /// let (mut words, mut batch) = ([0; 8], Batch::new());
    /// batch.push(&mut words, set, &[0x7000]);
    /// assert!(!batch.is_empty());
    /// ```
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The number of words to send.
    ///
    /// ```
    /// use gvahint_core::report::Kind;
    /// use gvahint_core::reporter::batch::{Batch, Header};
    /// let set = Header { gfn: 5, order: 0, kind: Kind::Mapped };
    /// let (mut words, mut batch) = ([0; 8], Batch::new());
    /// batch.push(&mut words, set, &[0x7000]);
    /// assert_eq!(batch.len(), 2);
    /// ```
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Forgets what there is.
    ///
    /// ```
    /// use gvahint_core::report::Kind;
    /// use gvahint_core::reporter::batch::{Batch, Header};
    /// let set = Header { gfn: 5, order: 0, kind: Kind::Mapped };
    /// let (mut words, mut batch) = ([0; 8], Batch::new());
    /// batch.push(&mut words, set, &[0x7000]);
    /// batch.clear();
    /// assert!(batch.is_empty());
    /// ```
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Adds a set; `false`, and nothing is added, if there is no room for it.
    /// `gvas` are words as the interface has them.
    ///
    /// ```
    /// use gvahint_core::report::Kind;
    /// use gvahint_core::reporter::batch::{Batch, Header};
    /// let set = Header { gfn: 5, order: 0, kind: Kind::Mapped };
    /// let (mut words, mut batch) = ([0; 3], Batch::new());
    /// assert!(batch.push(&mut words, set, &[0x7000]));
    /// assert!(!batch.push(&mut words, set, &[0x7000]));
    /// ```
    pub fn push(&mut self, words: &mut [u64], set: Header, gvas: &[u64]) -> bool {
        let end = self.used.saturating_add(1).saturating_add(gvas.len());
        let Some(place) = words.get_mut(self.used..end) else {
            return false;
        };
        let Some((header, places)) = place.split_first_mut() else {
            return false;
        };
        *header = set.gfn
            | u64::from(set.order) << wire::SET_ORDER_SHIFT
            | kind_number(set.kind) << wire::SET_KIND_SHIFT
            | cast::u64_from_usize(gvas.len()) << wire::SET_COUNT_SHIFT;
        for (place, gva) in places.iter_mut().zip(gvas) {
            *place = *gva;
        }
        self.used = end;
        true
    }

    /// The host refused the first set. For lack of room it would refuse others
    /// as well: then all that wait become revocations, which need none and make
    /// sure that it holds nothing older of these pages. `false`, and nothing
    /// changes: that was a revocation, for which KVM itself had no memory. The
    /// host has to forget all then, which takes HELLO.
    ///
    /// ```
    /// use gvahint_core::report::Kind;
    /// use gvahint_core::reporter::batch::{Batch, Header};
    /// let set = Header { gfn: 5, order: 0, kind: Kind::Mapped };
    /// let (mut words, mut batch) = ([0; 8], Batch::new());
    /// batch.push(&mut words, set, &[0x7000]);
    /// assert!(batch.refused(&mut words, true));
    /// assert_eq!(words[..batch.len()], [5 | 5 << 46]);
    /// assert!(!batch.refused(&mut words, true));
    /// ```
    #[must_use]
    pub fn refused(&mut self, words: &mut [u64], no_room: bool) -> bool {
        if !no_room {
            self.sent(words, 1);
            return true;
        }
        let revoked = kind_number(Kind::Revoked);
        if words.first().map(|header| kind_of(*header)) == Some(revoked) {
            return false;
        }
        let (mut from, mut to) = (0, 0);
        while from < self.used {
            let Some(header) = words.get(from).copied() else {
                break;
            };
            let low = header & 1u64.wrapping_shl(wire::SET_KIND_SHIFT).wrapping_sub(1);
            if let Some(place) = words.get_mut(to) {
                *place = low | revoked << wire::SET_KIND_SHIFT;
            }
            let gvas = cast::usize_from_u64(header >> wire::SET_COUNT_SHIFT);
            from = from.saturating_add(1).saturating_add(gvas);
            to = to.saturating_add(1);
        }
        self.used = to;
        true
    }

    /// The host has taken, or will never take, the first `sets` sets: the rest
    /// moves to the front.
    ///
    /// ```
    /// use gvahint_core::report::Kind;
    /// use gvahint_core::reporter::batch::{Batch, Header};
    /// let set = Header { gfn: 5, order: 0, kind: Kind::Mapped };
    /// let (mut words, mut batch) = ([0; 8], Batch::new());
    /// batch.push(&mut words, set, &[0x7000]);
    /// batch.push(&mut words, Header { gfn: 6, ..set }, &[0x8000]);
    /// batch.sent(&mut words, 1);
    /// assert_eq!(words[..batch.len()], [6 | 1 << 46 | 1 << 50, 0x8000]);
    /// ```
    pub fn sent(&mut self, words: &mut [u64], sets: u64) {
        let mut at: usize = 0;
        for _ in 0..sets {
            let Some(header) = words.get(..self.used).and_then(|words| words.get(at)) else {
                break;
            };
            let gvas = cast::usize_from_u64(header >> wire::SET_COUNT_SHIFT);
            at = at.saturating_add(1).saturating_add(gvas);
        }
        let rest = self.used.saturating_sub(at);
        for to in 0..rest {
            let moved = words.get(to.saturating_add(at)).copied();
            if let (Some(place), Some(moved)) = (words.get_mut(to), moved) {
                *place = moved;
            }
        }
        self.used = rest;
    }
}

const fn kind_of(header: u64) -> u64 {
    header >> wire::SET_KIND_SHIFT & 1u64.wrapping_shl(wire::SET_KIND_BITS).wrapping_sub(1)
}

const fn kind_number(kind: Kind) -> u64 {
    match kind {
        Kind::Mapped => 1,
        Kind::KernelOnly => 2,
        Kind::PageTable => 3,
        Kind::TooMany => 4,
        Kind::Revoked => 5,
        Kind::Anywhere => 6,
    }
}
