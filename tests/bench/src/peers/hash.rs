// SPDX-License-Identifier: GPL-2.0

//! A hash table, with the hash function that it brings.

use super::{each_set, gva};
use crate::maps::Map;
use hashbrown::HashMap;

/// Frame -> entry.
pub struct Hash {
    map: HashMap<u64, u64>,
    pages: u64,
}

impl Map for Hash {
    const NAME: &'static str = "hashbrown";

    fn new(pages: u64) -> Self {
        let map = HashMap::new();
        Self { map, pages }
    }

    fn report(&mut self, words: &[u64]) {
        each_set(words, self.pages, |frames, entry| match entry {
            Some(entry) => {
                for (n, gfn) in (0u64..).zip(frames) {
                    self.map.insert(gfn, entry + (n << 12));
                }
            }
            None => {
                for gfn in frames {
                    self.map.remove(&gfn);
                }
            }
        });
    }

    fn lookup(&self, gfn: u64) -> Option<u64> {
        gva(*self.map.get(&gfn)?)
    }

    fn hints(&self) -> u64 {
        self.map.len() as u64
    }
}
