// SPDX-License-Identifier: GPL-2.0

//! A change in the middle of a look, and a look in the middle of a change.

#![allow(clippy::unwrap_used)]

extern crate std;

use super::{Revocations, Watch};
use crate::report::Kind;
use crate::sync::step::interrupt;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use std::boxed::Box;
use std::vec::Vec;

/// A page in a word of its own, and another one in the same part of *dirty*.
const PAGE: u64 = 70;
const OTHER: u64 = 3;

fn words(len: usize) -> &'static [AtomicU64] {
    (0..len)
        .map(|_| AtomicU64::new(0))
        .collect::<Vec<_>>()
        .leak()
}

/// Both pages are told, with their gVAs.
fn watch() -> Watch<'static> {
    let kicked = Box::leak(Box::new(AtomicU32::new(0)));
    let watch = Watch::new([words(2), words(2), words(2), words(2)], words(1), kicked);
    for pfn in [PAGE, OTHER] {
        watch.begin(pfn, 1);
        watch.tell(Kind::Mapped, pfn, 1);
    }
    watch
}

/// What the kernel does, and its callback: the page is freed.
fn change(watch: &Watch<'_>, pfn: u64) {
    watch.hinted.clear(pfn, 1);
    watch.stale(pfn, 1);
}

/// The same, and it is a page table next.
fn reuse(watch: &Watch<'_>, pfn: u64) {
    change(watch, pfn);
    watch.data.clear(pfn, 1);
    watch.stale(pfn, 1);
}

/// One of the two.
type Kernel = fn(&Watch<'_>, u64);

/// Whether what the host was told of a page is true.
fn is_true(watch: &Watch<'_>, pfn: u64) -> bool {
    let needed = if watch.exact.all(pfn, 1) {
        watch.hinted
    } else {
        watch.data
    };
    !watch.told.all(pfn, 1) || needed.all(pfn, 1)
}

fn look(watch: &Watch<'_>) {
    let mut revocations = Revocations::start(watch);
    while revocations.next(watch).is_some() {}
}

/// Whoever is to be revoked will be: the reporter has been kicked.
fn nothing_is_lost(watch: &Watch<'_>, at: u32) {
    for pfn in [PAGE, OTHER] {
        let lost = !is_true(watch, pfn) && !watch.is_kicked();
        assert!(!lost, "page {pfn}, interrupted before access {at}");
    }
    look(watch);
    for pfn in [PAGE, OTHER] {
        assert!(
            is_true(watch, pfn),
            "page {pfn}, interrupted before access {at}"
        );
    }
    assert_eq!(watch.kicked.load(Ordering::SeqCst), 0);
}

// Fails if kicked is cleared after dirty was looked at, or dirty after the bits of the pages.
#[test]
fn a_change_in_the_middle_of_a_look() {
    for kernel in [change, reuse] {
        for at in 0.. {
            let watch = watch();
            change(&watch, OTHER);
            let more = interrupt(at, move || kernel(&watch, PAGE), || look(&watch));
            nothing_is_lost(&watch, at);
            if !more {
                assert!(at > 4);
                break;
            }
        }
    }
}

// Fails if somebody is kicked before dirty is set, or dirty set before the page's bit is cleared.
#[test]
fn a_look_in_the_middle_of_a_change() {
    let cases: [(Kernel, bool); 4] = [
        (change, false),
        (change, true),
        (reuse, false),
        (reuse, true),
    ];
    for (kernel, kicked) in cases {
        for at in 0.. {
            let watch = watch();
            if kicked {
                change(&watch, OTHER);
            }
            let more = interrupt(at, move || look(&watch), || kernel(&watch, PAGE));
            nothing_is_lost(&watch, at);
            if !more {
                assert!(at > 2);
                break;
            }
        }
    }
}

// Fails if a page that is freed is not known as no page table, or one that is allocated for anything
// but data is.
#[test]
fn what_is_left_of_a_hint() {
    let cases: [(Kernel, Kind); 2] = [(change, Kind::Anywhere), (reuse, Kind::Revoked)];
    for (kernel, left) in cases {
        let watch = watch();
        kernel(&watch, PAGE);
        let mut revocations = Revocations::start(&watch);
        let set = revocations.next(&watch);
        assert_eq!(set.map(|set| (set.gfn, set.kind)), Some((PAGE, left)));
        assert_eq!(revocations.next(&watch), None);
    }
}
