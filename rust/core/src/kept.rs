// SPDX-License-Identifier: GPL-2.0

//! Large leaves that are kept young for a page table in them: which, and how many.
//!
//! The table knows nothing of the size of EPT leaves, so that the quota is not
//! the writer's business, as that of single pages is, but is spent as leaves are aged.
//!
//! # Invariants
//!
//! - A place holds 0 or one leaf: its number plus 1, and when it was last kept,
//!   in units of 2^10 ms.
//! - A leaf loses its place only if it was not kept for [`STALE`] units: no more
//!   leaves than there are places are kept in that time by a session.
//!
//! In the examples, `vm` is the storage of a small VM: `tests/doc/vm.rs`.

use crate::addr::{Gfn, MapSize};
use crate::sync::{AtomicU64, Ordering};

const LEAF_SHIFT: u32 = 32;
const TIME_MASK: u64 = (1 << LEAF_SHIFT) - 1;
const UNIT_SHIFT: u32 = 10;
/// A minute.
const STALE: u64 = 60;

/// Places: the most leaves that are kept of a VM, however large it is (1 GiB).
pub const MAX_LEAVES: usize = 512;

/// How many leaves of 2 MiB of a VM with `pages` of memory may be kept young.
///
/// One in 256, as with single pages; but in each guest there are some that the
/// kernel took when it booted, so up to 16 MiB if that is no more than 1/32.
///
/// ```
/// use gvahint_core::kept::leaf_quota;
/// let mib = |mib: u64| leaf_quota(mib << 8);
/// assert_eq!([32, 128, 512, 4096, 8192].map(mib), [0, 2, 8, 8, 16]);
/// ```
pub fn leaf_quota(pages: u64) -> u64 {
    let leaves = pages >> MapSize::M2M.order();
    (leaves / 256).max((leaves / 32).min(8))
}

/// The leaves of a VM that are kept, as far as one call needs them.
///
/// ```
/// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::addr::Gfn;
/// // It has places for two.
/// let admit = |leaf: u64| vm.kept().admit(Gfn::new(leaf << 9).unwrap(), 1_000);
/// assert_eq!([7, 8, 9, 7].map(admit), [true, true, false, true]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a>(&'a [AtomicU64]);

impl<'a> Kept<'a> {
    /// As many leaves as there are places, which are zeroed when they are new.
    ///
    /// ```
    /// use gvahint_core::{addr::Gfn, kept::Kept};
    /// assert!(!Kept::new(&[]).admit(Gfn::new(0).unwrap(), 1_000));
    /// ```
    pub const fn new(places: &'a [AtomicU64]) -> Self {
        Self(places)
    }

    /// Whether the leaf of 2 MiB that `gfn` lies in may be kept once more, `now_ms`.
    ///
    /// One call at a time: two that run beside each other may use up two places
    /// for one leaf, or find none.
    ///
    /// ```
    /// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::addr::Gfn;
    /// let admit = |leaf: u64, ms| vm.kept().admit(Gfn::new(leaf << 9).unwrap(), ms);
    /// assert!(admit(7, 1_000) && admit(8, 50_000) && !admit(9, 60_000));
    /// // A place whose leaf was not kept for a minute is free.
    /// assert!(admit(9, 70_000) && !admit(7, 70_000));
    /// ```
    pub fn admit(&self, gfn: Gfn, now_ms: u64) -> bool {
        let leaf = (gfn.raw() >> MapSize::M2M.order()).wrapping_add(1);
        let now = now_ms >> UNIT_SHIFT & TIME_MASK;
        let new = leaf << LEAF_SHIFT | now;
        let mut oldest: Option<(&AtomicU64, u64)> = None;
        for place in self.0 {
            let word = place.load(Ordering::Relaxed);
            if word >> LEAF_SHIFT == leaf {
                if word != new {
                    place.store(new, Ordering::Relaxed);
                }
                return true;
            }
            // One that nobody has comes first.
            let key = |word| (word != 0, word & TIME_MASK);
            if oldest.is_none_or(|(_, old)| key(word) < key(old)) {
                oldest = Some((place, word));
            }
        }
        let Some((place, old)) = oldest else {
            return false;
        };
        let age = now.saturating_sub(old & TIME_MASK);
        (old == 0 || age > STALE)
            && place
                .compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}
