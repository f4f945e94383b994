// SPDX-License-Identifier: GPL-2.0

//! The standard library's ordered map.

use super::{each_set, gva};
use crate::maps::Map;
use std::collections::BTreeMap;

/// Frame -> entry.
pub struct Tree {
    map: BTreeMap<u64, u64>,
    pages: u64,
}

impl Map for Tree {
    const NAME: &'static str = "btreemap";

    fn new(pages: u64) -> Self {
        let map = BTreeMap::new();
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
