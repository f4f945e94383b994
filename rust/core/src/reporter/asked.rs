// SPDX-License-Identifier: GPL-2.0

//! What the host wants, worked through a bounded number of pages at a time.

use super::pages::wanted_range;
use core::ops::Range;

/// How far an answer of WANTED has been worked through. Its words are the caller's.
///
/// ```
/// use gvahint_core::reporter::asked::Asked;
/// // Frames 0x200 to 0x3ff, and frame 7.
/// let words = [0x200 | 9 << 40, 7];
/// let mut asked = Asked::default();
/// asked.begin(2);
/// assert_eq!(asked.next(&words, 300), Some(0x200..0x32c));
/// // All up to there was looked at, and nothing said of it.
/// asked.looked(0x32c, 0..0);
/// assert_eq!(asked.next(&words, 300), Some(0x32c..0x400));
/// asked.looked(0x400, 0..0);
/// assert_eq!(asked.next(&words, 300), Some(7..8));
/// asked.looked(8, 7..8);
/// assert!(asked.next(&words, 300).is_none() && asked.is_done());
/// ```
#[derive(Debug, Default)]
pub struct Asked {
    /// Words, and those of them that were begun.
    words: usize,
    begun: usize,
    /// What is left of the last of these.
    rest: Range<u64>,
    /// What the host was told of last.
    said: Range<u64>,
}

impl Asked {
    /// The host has answered with so many words.
    ///
    /// ```
    /// use gvahint_core::reporter::asked::Asked;
    /// let mut asked = Asked::default();
    /// asked.begin(1);
    /// assert!(!asked.is_done());
    /// ```
    pub fn begin(&mut self, words: usize) {
        *self = Self {
            words,
            ..Self::default()
        };
    }

    /// Whether nothing is left.
    ///
    /// ```
    /// use gvahint_core::reporter::asked::Asked;
    /// assert!(Asked::default().is_done());
    /// ```
    pub fn is_done(&self) -> bool {
        self.rest.is_empty() && self.begun >= self.words
    }

    /// The next pages to look at, `most` of them at most.
    ///
    /// ```
    /// use gvahint_core::reporter::asked::Asked;
    /// // Frames 5 and 6 are in a large page of the guest's.
    /// let words = [5, 6, 9];
    /// let mut asked = Asked::default();
    /// asked.begin(3);
    /// assert_eq!(asked.next(&words, 64), Some(5..6));
    /// asked.looked(8, 0..8);
    /// // Once is enough.
    /// assert_eq!(asked.next(&words, 64), Some(9..10));
    /// ```
    pub fn next(&mut self, words: &[u64], most: u64) -> Option<Range<u64>> {
        while self.rest.is_empty() {
            let Some(word) = words.get(self.begun).filter(|_| self.begun < self.words) else {
                self.words = 0;
                return None;
            };
            self.begun = self.begun.saturating_add(1);
            let (pfn, end) = wanted_range(*word);
            if !(self.said.contains(&pfn) && end <= self.said.end) {
                self.rest = pfn..end;
            }
        }
        let stop = self.rest.start.saturating_add(most).min(self.rest.end);
        Some(self.rest.start..stop)
    }

    /// All pages before `next` were looked at; the host was told of `said` last.
    ///
    /// ```
    /// use gvahint_core::reporter::asked::Asked;
    /// let mut asked = Asked::default();
    /// asked.begin(1);
    /// assert_eq!(asked.next(&[9 << 40], 64), Some(0..64));
    /// // They belong to something larger.
    /// asked.looked(512, 0..512);
    /// assert!(asked.is_done());
    /// ```
    pub fn looked(&mut self, next: u64, said: Range<u64>) {
        self.rest.start = self.rest.start.max(next);
        self.said = said;
    }
}
