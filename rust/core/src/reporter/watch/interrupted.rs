// SPDX-License-Identifier: GPL-2.0

//! A change in the middle of a look, and a look in the middle of a change.

#![allow(clippy::unwrap_used)]

extern crate std;

use super::{Revocations, Watch};
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

/// Both pages are told and hinted.
fn watch() -> Watch<'static> {
    let kicked = Box::leak(Box::new(AtomicU32::new(0)));
    let watch = Watch::new(words(2), words(2), words(1), kicked);
    for pfn in [PAGE, OTHER] {
        watch.set_hinted(pfn, 1);
        watch.set_told(pfn, 1);
    }
    watch
}

/// What the kernel does, and its callback.
fn change(watch: &Watch<'_>, pfn: u64) {
    watch.clear_hinted(pfn, 1);
    watch.stale(pfn, 1);
}

fn look(watch: &Watch<'_>) {
    let mut revocations = Revocations::start(watch);
    while revocations.next(watch).is_some() {}
}

/// Whoever is to be revoked will be: the reporter has been kicked.
fn nothing_is_lost(watch: &Watch<'_>, at: u32) {
    for pfn in [PAGE, OTHER] {
        let lost = watch.is_told(pfn) && !watch.all_hinted(pfn, 1) && !watch.is_kicked();
        assert!(!lost, "page {pfn}, interrupted before access {at}");
    }
    look(watch);
    for pfn in [PAGE, OTHER] {
        let revoked = !watch.is_told(pfn) || watch.all_hinted(pfn, 1);
        assert!(revoked, "page {pfn}, interrupted before access {at}");
    }
    assert_eq!(watch.kicked.load(Ordering::SeqCst), 0);
}

// Fails if kicked is cleared after dirty was looked at, or dirty after the bits of the pages.
#[test]
fn a_change_in_the_middle_of_a_look() {
    for at in 0.. {
        let watch = watch();
        change(&watch, OTHER);
        let more = interrupt(at, move || change(&watch, PAGE), || look(&watch));
        nothing_is_lost(&watch, at);
        if !more {
            return assert!(at > 4);
        }
    }
}

// Fails if somebody is kicked before dirty is set, or dirty set before the page's bit is cleared.
#[test]
fn a_look_in_the_middle_of_a_change() {
    for kicked in [false, true] {
        for at in 0.. {
            let watch = watch();
            if kicked {
                change(&watch, OTHER);
            }
            let more = interrupt(at, move || look(&watch), || change(&watch, PAGE));
            nothing_is_lost(&watch, at);
            if !more {
                assert!(at > 2);
                break;
            }
        }
    }
}
