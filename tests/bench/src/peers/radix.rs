// SPDX-License-Identifier: GPL-2.0

//! A plain radix tree with a word a frame, in the shape of KVM's rmap: what our table
//! would be without sizes, several gVAs, revocation by range and readers beside a writer.

use super::{each_set, gva};
use crate::maps::Map;

const BITS: u32 = 9;
const SLOTS: usize = 1 << BITS;

type Leaf = Box<[u64; SLOTS]>;
type Middle = Box<[Option<Leaf>; SLOTS]>;

/// 1G -> 2M -> 4K.
pub struct Radix {
    root: Vec<Option<Middle>>,
    pages: u64,
    hints: u64,
}

fn index(gfn: u64, level: u32) -> usize {
    (gfn >> (BITS * level)) as usize % SLOTS
}

impl Radix {
    fn slot(&mut self, gfn: u64) -> &mut u64 {
        let top = (gfn >> (2 * BITS)) as usize;
        let middle = self.root[top].get_or_insert_with(|| Box::new([const { None }; SLOTS]));
        let leaf = middle[index(gfn, 1)].get_or_insert_with(|| Box::new([0; SLOTS]));
        &mut leaf[index(gfn, 0)]
    }
}

impl Map for Radix {
    const NAME: &'static str = "radix";

    fn new(pages: u64) -> Self {
        let tops = pages.div_ceil(1 << (2 * BITS));
        Self {
            root: (0..tops).map(|_| None).collect(),
            pages,
            hints: 0,
        }
    }

    fn report(&mut self, words: &[u64]) {
        each_set(words, self.pages, |frames, entry| {
            for (n, gfn) in (0u64..).zip(frames) {
                // No entry is 0: each holds a time.
                let new = entry.map_or(0, |entry| entry + (n << 12));
                let old = std::mem::replace(self.slot(gfn), new);
                self.hints += u64::from(new != 0);
                self.hints -= u64::from(old != 0);
            }
        });
    }

    fn lookup(&self, gfn: u64) -> Option<u64> {
        let middle = self.root.get((gfn >> (2 * BITS)) as usize)?.as_ref()?;
        let leaf = middle[index(gfn, 1)].as_ref()?;
        match leaf[index(gfn, 0)] {
            0 => None,
            entry => gva(entry),
        }
    }

    fn hints(&self) -> u64 {
        self.hints
    }
}
