// SPDX-License-Identifier: GPL-2.0

//! One bit a page.

use crate::cast;
use crate::sync::{AtomicU64, Ordering};

/// Pages in a word, as log2.
pub(super) const WORD_BITS: u32 = 6;

/// Words for so many bits.
pub(super) const fn words(bits: u64) -> u64 {
    bits.div_ceil(1 << WORD_BITS)
}

/// Bits that some thread reads while others change them. Those that there are no words for are 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bitmap<'a>(pub(super) &'a [AtomicU64]);

/// The part of a range that lies in one word.
struct Part {
    word: usize,
    mask: u64,
}

/// The parts of `nr` bits from `first`.
fn parts(first: u64, nr: u64) -> impl Iterator<Item = Part> {
    let end = first.saturating_add(nr);
    let words = first >> WORD_BITS..words(end);
    words.map(move |word| {
        let base = word << WORD_BITS;
        let low = first.saturating_sub(base);
        let high = end.saturating_sub(base);
        let upto = if high >= 64 {
            u64::MAX
        } else {
            bit(high).wrapping_sub(1)
        };
        Part {
            word: cast::usize_from_u64(word),
            mask: upto & u64::MAX.wrapping_shl(cast::low_u32(low)),
        }
    })
}

/// The bit of that number, modulo 64.
pub(super) const fn bit(number: u64) -> u64 {
    1u64.wrapping_shl(cast::low_u32(number))
}

impl Bitmap<'_> {
    /// 64 bits.
    pub(super) fn word(&self, word: usize) -> u64 {
        self.0.get(word).map_or(0, |w| w.load(Ordering::SeqCst))
    }

    /// Whether all bits of a range are set.
    pub(super) fn all(&self, first: u64, nr: u64) -> bool {
        parts(first, nr).all(|part| self.word(part.word) & part.mask == part.mask)
    }

    /// Sets the bits of a range; returns whether all of them were.
    pub(super) fn set(&self, first: u64, nr: u64) -> bool {
        self.set_beside(first, nr, &Bitmap(&[])).0
    }

    /// The same; also returns whether one was not that is set in `other`.
    pub(super) fn set_beside(&self, first: u64, nr: u64, other: &Self) -> (bool, bool) {
        let (mut all, mut only_there) = (true, false);
        for part in parts(first, nr) {
            let before = self
                .0
                .get(part.word)
                .map_or(0, |word| word.fetch_or(part.mask, Ordering::SeqCst));
            all &= before & part.mask == part.mask;
            only_there |= other.word(part.word) & !before & part.mask != 0;
        }
        (all, only_there)
    }

    /// The same; nothing but reads where they are set.
    pub(super) fn mark(&self, first: u64, nr: u64) {
        if !self.all(first, nr) {
            self.set(first, nr);
        }
    }

    /// Clears the bits of a range; returns whether any of them was set.
    pub(super) fn clear(&self, first: u64, nr: u64) -> bool {
        let mut any = 0;
        for part in parts(first, nr) {
            if let Some(word) = self.0.get(part.word) {
                any |= word.fetch_and(!part.mask, Ordering::SeqCst) & part.mask;
            }
        }
        any != 0
    }

    /// Clears 64 bits; returns what they were.
    pub(super) fn take(&self, word: usize) -> Option<u64> {
        let word = self.0.get(word)?;
        match word.load(Ordering::SeqCst) {
            0 => Some(0),
            _ => Some(word.swap(0, Ordering::SeqCst)),
        }
    }

    /// Clears all.
    pub(super) fn reset(&self) {
        (0..self.0.len()).for_each(|word| {
            self.take(word);
        });
    }
}
