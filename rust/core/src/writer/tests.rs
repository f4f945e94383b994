// SPDX-License-Identifier: GPL-2.0

//! What only the inside of the table can show; the rest is in tests/table.rs.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::*;
use crate::addr::VaBits;
use crate::report::{Limits, Sets};
use crate::table::Shape;

/// A page gets back the cell that it had: its slot must not look as before,
/// or a reader that slept meanwhile would believe what it read of it.
#[test]
fn a_slot_differs_each_time_that_it_names_a_cell() {
    const WORDS: usize = 2048;
    let storage = [const { AtomicU64::new(0) }; WORDS];
    let shape = Shape::new(512, 2).unwrap();
    let hints = Hints::new(&storage, shape).unwrap();
    let mut state = WriterState::new();
    let mut writer = Writer::new(hints, &mut state);
    let words = [5 | 1 << 46 | 2 << 50, 0x1000, 0x2000];
    let limits = Limits {
        bits: VaBits::Bits48,
        max_gfn: 512,
    };
    let set = Sets::new(&words, limits).next(&mut |_, _| true);
    let set = set.unwrap().unwrap();

    let mut seen = [Slot::EMPTY; 6];
    let mut ids = [0; 6];
    for (slot, id) in seen.iter_mut().zip(&mut ids) {
        writer.replace(&set, 1).unwrap();
        let (_, place) = hints.place(5).unwrap();
        *slot = Slot(place.load(Ordering::Relaxed));
        if let Content::Cell { id: cell, .. } = slot.content() {
            *id = cell;
        }
    }
    assert_eq!(ids, [0, 1, 0, 1, 0, 1]);
    for (n, slot) in seen.iter().enumerate() {
        assert!(!seen.iter().skip(n + 1).any(|later| later == slot));
    }
}
