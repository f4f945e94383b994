// SPDX-License-Identifier: GPL-2.0

//! What a host takes, by its answer to HELLO.

use crate::cast;
use crate::wire::{self, MAX_LINEAR};

/// What the host said that it takes.
///
/// ```
/// use gvahint_core::reporter::session::Session;
/// use gvahint_core::wire::Hello;
/// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
/// let mut session = Session::new();
/// session.hello(7, &words, 0);
/// assert_eq!(session.limits().max_gvas, 7);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// How often to call at least.
    pub poll_ms: u32,
    /// Ranges in a LINEAR call.
    pub max_linear: usize,
    /// gVAs in a set.
    pub max_gvas: usize,
    /// Order of a set's range.
    pub max_order: u32,
    /// First frame that the table does not reach.
    pub max_gfn: u64,
}

impl HostLimits {
    /// What takes nothing.
    pub(crate) const NONE: Self = Self {
        poll_ms: 1_000,
        max_linear: 0,
        max_gvas: 0,
        max_order: 0,
        max_gfn: 0,
    };

    /// From `struct gvahint_hello`. What the host says is bounded by what makes sense here.
    ///
    /// ```
    /// use gvahint_core::reporter::host::HostLimits;
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// let limits = HostLimits::from_words(&words).unwrap();
    /// assert_eq!((limits.poll_ms, limits.max_gfn), (2_000, 0x1000));
    /// assert!(HostLimits::from_words(&[9, 0, 0, 0]).is_none());
    /// ```
    pub fn from_words(words: &[u64]) -> Option<Self> {
        let &[version, poll, sets, max_gfn] = words else {
            return None;
        };
        if cast::low_u32(version) != wire::ABI_VERSION {
            return None;
        }
        let at_most = |value: u32, most: usize| cast::usize_from_u32(value).min(most);
        Some(Self {
            poll_ms: cast::low_u32(poll).clamp(1, 60_000),
            max_linear: at_most(cast::high_u32(poll), MAX_LINEAR),
            max_gvas: at_most(cast::low_u32(sets), super::pages::MAX_FOUND),
            max_order: cast::high_u32(sets).min(wire::MAX_ORDER),
            max_gfn: max_gfn.min(1 << wire::SET_GFN_BITS),
        })
    }
}
