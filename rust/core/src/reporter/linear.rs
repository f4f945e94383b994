// SPDX-License-Identifier: GPL-2.0

//! LINEAR's buffer: from pages of the direct map to as few ranges as need be.
//!
//! A page size smaller than the true one is safe, it makes the host drop more.
//! So is a range that nothing is mapped in: the host drops what is not there.
//! The other way round neither is. So where there are more ranges than the host
//! takes, neighbours become one, of the smaller size.

use crate::addr::{MapSize, PAGE_SIZE};

/// Words of a range.
pub const RANGE_WORDS: usize = 4;

/// Whether both ends of a range of pages are in ranges of LINEAR's buffer.
///
/// ```
/// use gvahint_core::reporter::linear::reach;
/// let words = [0x1000, 0xffff_8880_0000_1000, 0x2000, 0x1000];
/// assert!(reach(&words, 1, 2));
/// assert!(!reach(&words, 2, 2) && !reach(&words, 0, 1));
/// ```
pub fn reach(words: &[u64], gfn: u64, pages: u64) -> bool {
    let has = |gfn: u64| {
        words.chunks_exact(RANGE_WORDS).any(|range| match range {
            &[gpa, _, len, _] => gfn
                .checked_sub(gpa / PAGE_SIZE)
                .is_some_and(|at| at < len / PAGE_SIZE),
            _ => false,
        })
    };
    has(gfn) && (pages <= 1 || has(gfn.saturating_add(pages).saturating_sub(1)))
}

/// Ranges, sorted by gVA, in a buffer for LINEAR.
///
/// ```
/// use gvahint_core::addr::MapSize;
/// use gvahint_core::reporter::linear::Ranges;
/// let base = 0xffff_8880_0000_0000;
/// let mut words = [0; 8];
/// let mut ranges = Ranges::new(&mut words, 2);
/// ranges.add(0, base, MapSize::M2M);
/// ranges.add(0x20_0000, base + 0x20_0000, MapSize::M2M);
/// assert_eq!(words[..4], [0, base, 0x40_0000, 0x20_0000]);
/// ```
#[derive(Debug)]
pub struct Ranges<'a> {
    words: &'a mut [u64],
    len: usize,
    max: usize,
}

#[derive(Clone, Copy)]
struct Range {
    gpa: u64,
    gva: u64,
    len: u64,
    size: u64,
}

impl Range {
    /// Both as one, if one stands behind the other in both address spaces; the
    /// gap between them becomes part of it.
    fn with(self, next: Self) -> Option<Self> {
        let gap = next.gva.checked_sub(self.gva.checked_add(self.len)?)?;
        let gpa = self.gpa.checked_add(self.len)?.checked_add(gap)?;
        (gpa == next.gpa).then_some(Self {
            len: self.len.checked_add(gap)?.checked_add(next.len)?,
            size: self.size.min(next.size),
            ..self
        })
    }

    /// Whether `next` goes on exactly where this ends.
    fn touches(self, next: Self) -> bool {
        self.size == next.size && self.gva.wrapping_add(self.len) == next.gva
    }

    /// What is lost when both become one: pages that count as smaller than they are.
    fn loss(self, next: Self) -> u64 {
        match self.size.cmp(&next.size) {
            core::cmp::Ordering::Less => next.len / PAGE_SIZE,
            core::cmp::Ordering::Equal => 0,
            core::cmp::Ordering::Greater => self.len / PAGE_SIZE,
        }
    }
}

impl<'a> Ranges<'a> {
    /// None yet; the buffer and `max` say how many there may be.
    ///
    /// ```
    /// use gvahint_core::addr::MapSize;
    /// use gvahint_core::reporter::linear::Ranges;
    /// // A buffer for one range holds one, whatever the host takes.
    /// let mut words = [0; 7];
    /// let mut ranges = Ranges::new(&mut words, 64);
    /// assert!(ranges.add(0, 0x1000, MapSize::M4K));
    /// assert!(!ranges.add(0, 0x9000, MapSize::M4K));
    /// ```
    pub fn new(words: &'a mut [u64], max: usize) -> Self {
        let max = max.min(words.len() / RANGE_WORDS);
        Self { words, len: 0, max }
    }

    /// Words that are in use.
    ///
    /// ```
    /// use gvahint_core::addr::MapSize;
    /// use gvahint_core::reporter::linear::Ranges;
    /// let base = 0xffff_8880_0000_0000;
    /// let mut words = [0; 8];
    /// let mut ranges = Ranges::new(&mut words, 2);
    /// assert_eq!(ranges.len_words(), 0);
    /// ranges.add(0, base, MapSize::M2M);
    /// assert_eq!(ranges.len_words(), 4);
    /// ```
    pub const fn len_words(&self) -> usize {
        self.len.saturating_mul(RANGE_WORDS)
    }

    /// Adds a page that is mapped at `gva`, behind all others; `false` if there
    /// are more ranges than there may be, and no two of them can become one.
    ///
    /// ```
    /// use gvahint_core::addr::MapSize;
    /// use gvahint_core::reporter::linear::Ranges;
    /// let base = 0xffff_8880_0000_0000;
    /// let mut words = [0; 8];
    /// let mut ranges = Ranges::new(&mut words, 2);
    /// for gpa in [0x1000, 0x4000, 0x9000] {
    ///     assert!(ranges.add(gpa, base + gpa, MapSize::M4K));
    /// }
    /// // There is room for two: the first two are one now.
    /// assert_eq!(words, [0x1000, base + 0x1000, 0x4000, 0x1000, 0x9000, base + 0x9000, 0x1000, 0x1000]);
    /// ```
    pub fn add(&mut self, gpa: u64, gva: u64, size: MapSize) -> bool {
        let page = Range {
            gpa,
            gva,
            len: size.bytes(),
            size: size.bytes(),
        };
        if let Some(last) = self.len.checked_sub(1) {
            let joined = self.get(last).filter(|range| range.touches(page));
            if let Some(joined) = joined.and_then(|range| range.with(page)) {
                return self.put(last, joined);
            }
        }
        if self.len < self.max {
            self.len = self.len.saturating_add(1);
            return self.put(self.len.saturating_sub(1), page);
        }
        self.add_to_full(page)
    }

    /// Makes one of the two neighbours with which the least is lost; `page` is
    /// behind the last of them.
    fn add_to_full(&mut self, page: Range) -> bool {
        let mut best: Option<(u64, usize, Range)> = None;
        for at in 1..=self.len {
            let next = if at == self.len {
                Some(page)
            } else {
                self.get(at)
            };
            let Some((before, next)) = self.get(at.saturating_sub(1)).zip(next) else {
                continue;
            };
            let Some(joined) = before.with(next) else {
                continue;
            };
            let loss = before.loss(next);
            if best.is_none_or(|(least, _, _)| loss < least) {
                best = Some((loss, at, joined));
            }
        }
        let Some((_, at, joined)) = best else {
            return false;
        };
        self.put(at.saturating_sub(1), joined);
        if at == self.len {
            return true;
        }
        // The others move up, and there is a place for the page.
        for to in at..self.len.saturating_sub(1) {
            if let Some(next) = self.get(to.saturating_add(1)) {
                self.put(to, next);
            }
        }
        self.put(self.len.saturating_sub(1), page)
    }

    fn get(&self, at: usize) -> Option<Range> {
        match self.words.chunks_exact(RANGE_WORDS).nth(at)? {
            &[gpa, gva, len, size] => Some(Range {
                gpa,
                gva,
                len,
                size,
            }),
            _ => None,
        }
    }

    fn put(&mut self, at: usize, range: Range) -> bool {
        let Some(place) = self.words.chunks_exact_mut(RANGE_WORDS).nth(at) else {
            return false;
        };
        let words = [range.gpa, range.gva, range.len, range.size];
        for (place, word) in place.iter_mut().zip(words) {
            *place = word;
        }
        true
    }
}
