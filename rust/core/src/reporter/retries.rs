// SPDX-License-Identifier: GPL-2.0

//! Pages that a lock was not to be had of, or that changed meanwhile.

/// Pages to try again, each a few times.
///
/// ```
/// use gvahint_core::reporter::retries::{Retries, Retry};
/// let mut retries = Retries::new();
/// assert!(retries.push(Retry::first(5)));
/// let mut left = retries.len();
/// assert_eq!(retries.pop(&mut left).map(|retry| retry.pfn), Some(5));
/// assert_eq!(retries.pop(&mut left), None);
/// ```
#[derive(Debug)]
pub struct Retries {
    /// Page, and from bit [`TRIES_SHIFT`] on how often it was tried.
    pages: [u64; RETRIES],
    len: usize,
}

const RETRIES: usize = 256;
const TRIES_SHIFT: u32 = 56;
const MAX_TRIES: u64 = 4;

impl Default for Retries {
    fn default() -> Self {
        Self::new()
    }
}

/// A page that is tried again.
///
/// ```
/// use gvahint_core::reporter::retries::{Retries, Retry};
/// let mut retries = Retries::new();
/// let mut retry = Retry::first(5);
/// let mut tries = 0;
/// while retries.push(retry) {
///     tries += 1;
///     retry = retries.pop(&mut 1).unwrap();
/// }
/// assert_eq!(tries, 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Which.
    pub pfn: u64,
    tries: u64,
}

impl Retry {
    /// One that is tried for the first time.
    ///
    /// ```
    /// use gvahint_core::reporter::retries::Retry;
    /// assert_eq!(Retry::first(5).pfn, 5);
    /// ```
    pub const fn first(pfn: u64) -> Self {
        Self { pfn, tries: 0 }
    }
}

impl Retries {
    /// None.
    ///
    /// ```
    /// use gvahint_core::reporter::retries::Retries;
    /// assert!(Retries::new().is_empty());
    /// ```
    pub const fn new() -> Self {
        Self {
            pages: [0; RETRIES],
            len: 0,
        }
    }

    /// How many there are.
    ///
    /// ```
    /// use gvahint_core::reporter::retries::{Retries, Retry};
    /// let mut retries = Retries::new();
    /// retries.push(Retry::first(5));
    /// assert_eq!(retries.len(), 1);
    /// ```
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    ///
    /// ```
    /// use gvahint_core::reporter::retries::{Retries, Retry};
    /// let mut retries = Retries::new();
    /// retries.push(Retry::first(5));
    /// assert!(!retries.is_empty());
    /// ```
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all.
    ///
    /// ```
    /// use gvahint_core::reporter::retries::{Retries, Retry};
    /// let mut retries = Retries::new();
    /// retries.push(Retry::first(5));
    /// retries.clear();
    /// assert!(retries.is_empty());
    /// ```
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// A page was busy; `false` if it is given up: the host asks if it matters.
    ///
    /// ```
    /// use gvahint_core::reporter::retries::{Retries, Retry};
    /// let mut retries = Retries::new();
    /// retries.push(Retry::first(5));
    /// assert!((6..261).all(|pfn| retries.push(Retry::first(pfn))));
    /// // There is no room for more.
    /// assert!(!retries.push(Retry::first(261)));
    /// ```
    pub fn push(&mut self, retry: Retry) -> bool {
        let tries = retry.tries.saturating_add(1);
        match self.pages.get_mut(self.len) {
            Some(place) if tries <= MAX_TRIES => {
                *place = retry.pfn | tries << TRIES_SHIFT;
                self.len = self.len.saturating_add(1);
                true
            }
            _ => false,
        }
    }

    /// Takes one of the first `len` that there were at the start of a round.
    ///
    /// ```
    /// use gvahint_core::reporter::retries::{Retries, Retry};
    /// let mut retries = Retries::new();
    /// retries.push(Retry::first(5));
    /// let mut left = 1;
    /// assert!(retries.pop(&mut left).is_some());
    /// assert_eq!(left, 0);
    /// ```
    pub fn pop(&mut self, left: &mut usize) -> Option<Retry> {
        *left = left.checked_sub(1)?;
        let word = *self.pages.first()?;
        if self.len == 0 {
            return None;
        }
        self.pages.copy_within(1.., 0);
        self.len = self.len.saturating_sub(1);
        Some(Retry {
            pfn: word & u64::MAX.wrapping_shr(64 - TRIES_SHIFT),
            tries: word >> TRIES_SHIFT,
        })
    }
}
