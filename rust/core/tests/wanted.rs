// SPDX-License-Identifier: GPL-2.0

//! The wanted list: bounded, each leaf once, the latest first.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

use gvahint_core::addr::{Gfn, Level};
use gvahint_core::sync::AtomicU64;
use gvahint_core::wanted::Wanted;
use proptest::prelude::*;

struct List {
    records: AtomicU64,
    places: Vec<AtomicU64>,
}

impl List {
    fn new(places: usize) -> Self {
        Self {
            records: AtomicU64::new(0),
            places: (0..places).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn list(&self) -> Wanted<'_> {
        Wanted::new(&self.records, &self.places)
    }

    fn record(&self, gfns: &[u64]) {
        for gfn in gfns {
            self.list().record(Gfn::new(*gfn).unwrap(), Level::L4K);
        }
    }

    fn take(&self, words: usize) -> Vec<u64> {
        // What is in the buffer before does not matter.
        let mut out = vec![u64::MAX; words];
        let taken = self.list().take(&mut out);
        assert!(out[taken..].iter().all(|word| *word == 0));
        out.truncate(taken);
        out
    }
}

#[test]
fn the_latest_come_first_and_are_gone_then() {
    let list = List::new(16);
    list.record(&[1, 2, 3, 4]);
    assert_eq!(list.take(3), [4, 3, 2]);
    assert_eq!(list.take(3), [1]);
    assert_eq!(list.take(3), []);
    list.record(&[5, 6]);
    assert_eq!(list.take(0), []);
    assert_eq!(list.take(1), [6]);
}

#[test]
fn a_leaf_stands_there_once_as_late_as_it_was_recorded_last() {
    let list = List::new(16);
    list.record(&[1, 2, 3, 1, 1]);
    assert_eq!(list.take(16), [1, 3, 2]);
}

#[test]
fn the_list_is_bounded_and_neighbours_have_room() {
    let list = List::new(16);
    list.record(&(0..1_000).collect::<Vec<_>>());
    let latest: Vec<u64> = (984..1_000).rev().collect();
    assert_eq!(list.take(100), latest);
    for level in [Level::L2M, Level::L1G] {
        for n in 0..16 {
            let first = Gfn::new(n * level.pages()).unwrap();
            list.list().record(first, level);
        }
        assert_eq!(list.take(100).len(), 16, "{level:?}");
    }
}

#[test]
fn a_leaf_is_named_by_its_first_frame_and_order() {
    let list = List::new(16);
    let gfn = Gfn::new((1 << 40) - 1).unwrap();
    for (level, order) in [(Level::L4K, 0), (Level::L2M, 9), (Level::L1G, 18)] {
        list.list().record(gfn, level);
        let first = gfn.raw() >> order << order;
        assert_eq!(list.take(1), [first | order << 40]);
    }
}

#[test]
fn without_a_power_of_two_of_places_it_stays_empty() {
    for places in [0, 3, 15] {
        let list = List::new(places);
        list.record(&[1, 2]);
        assert_eq!(list.take(8), [], "{places}");
    }
}

#[test]
fn its_clock_may_wrap() {
    let list = List::new(16);
    list.records
        .store((1 << 22) - 2, core::sync::atomic::Ordering::Relaxed);
    list.record(&[1, 2, 3, 4]);
    assert_eq!(list.take(16), [4, 3, 2, 1]);
}

proptest! {
    /// With a place for each frame nothing is lost: the list is what a naive one says.
    #[test]
    fn it_agrees_with_a_naive_list(
        steps in prop::collection::vec((0u64..64, 0usize..12, prop::bool::weighted(0.1)), 1..200)
    ) {
        let list = List::new(64);
        let mut naive: Vec<u64> = Vec::new();
        for (gfn, words, take) in steps {
            if take {
                let rest = naive.len().saturating_sub(words);
                let latest: Vec<u64> = naive.drain(rest..).rev().collect();
                prop_assert_eq!(list.take(words), latest);
            } else {
                list.record(&[gfn]);
                naive.retain(|other| *other != gfn);
                naive.push(gfn);
            }
        }
    }
}
