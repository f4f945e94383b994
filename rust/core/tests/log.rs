// SPDX-License-Identifier: GPL-2.0

//! The flush log, case by case, without threads.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

mod common;

use common::{gva, Op, Recorder, Vm};
use gvahint_core::log::{Done, Escalation};
use gvahint_core::sync::{AtomicU64, Ordering::Relaxed};

const SIZE: u64 = 8;
const ALL: u32 = u32::MAX;

#[test]
fn gvas_are_drained_in_order_and_once() {
    let vm = Vm::new(SIZE);
    let cursor = vm.cursor();
    for page in 0..3 {
        assert!(vm.log().append_gva(gva(page)));
    }
    let mut r = Recorder::default();
    let drained = vm.log().drain(&cursor, ALL, &mut r);
    assert_eq!(r.ops, [Op::Gva(0), Op::Gva(1), Op::Gva(2)]);
    assert_eq!(
        (drained.gvas, drained.done, drained.why),
        (3, Done::Gvas, None)
    );
    assert!(!vm.log().pending(&cursor));

    let drained = vm.log().drain(&cursor, ALL, &mut r);
    assert_eq!((drained.gvas, drained.done), (0, Done::Nothing));
    assert_eq!(r.ops.len(), 3);
}

#[test]
fn high_and_low_halves_come_out_as_they_went_in() {
    for raw in [
        0x1000,
        0x7fff_ffff_f000,
        0xffff_8000_0000_0000,
        0xffff_ffff_ffff_f000,
    ] {
        let vm = Vm::new(SIZE);
        let cursor = vm.cursor();
        let gva = gvahint_core::addr::Gva::new(raw | 0xabc, gvahint_core::addr::VaBits::Bits48);
        assert!(vm.log().append_gva(gva.unwrap()));
        let mut r = Recorder::default();
        let _ = vm.log().drain(&cursor, ALL, &mut r);
        assert_eq!(r.ops, [Op::Gva(raw >> 12)]);
    }
}

#[test]
fn a_lag_of_the_size_is_drained_singly_and_one_more_by_context() {
    for (lag, expect) in [
        (SIZE - 1, (Done::Gvas, None)),
        (SIZE, (Done::Gvas, None)),
        (SIZE + 1, (Done::Context, Some(Escalation::Lag))),
        (3 * SIZE, (Done::Context, Some(Escalation::Lag))),
    ] {
        // At several offsets, so that slots are in their first and later laps.
        for offset in [0, 1, SIZE - 1, SIZE, 5 * SIZE + 3] {
            let vm = Vm::new(SIZE);
            for page in 0..offset {
                assert!(vm.log().append_gva(gva(page)));
            }
            let cursor = vm.cursor();
            for page in 0..lag {
                assert!(vm.log().append_gva(gva(100 + page)));
            }
            let mut r = Recorder::default();
            let drained = vm.log().drain(&cursor, ALL, &mut r);
            assert_eq!(
                (drained.done, drained.why),
                expect,
                "lag {lag} from {offset}"
            );
            if drained.done == Done::Gvas {
                assert_eq!(u64::from(drained.gvas), lag);
                assert!(r.ops.iter().copied().eq((0..lag).map(|p| Op::Gva(100 + p))));
            } else {
                assert_eq!(r.ops, [Op::Context]);
            }
            assert!(!vm.log().pending(&cursor));
        }
    }
}

#[test]
fn max_gvas_bounds_what_one_entry_flushes_singly() {
    for (n, expect) in [
        (3, (Done::Gvas, None)),
        (4, (Done::Context, Some(Escalation::TooMany))),
    ] {
        let vm = Vm::new(SIZE);
        let cursor = vm.cursor();
        for page in 0..n {
            assert!(vm.log().append_gva(gva(page)));
        }
        let drained = vm.log().drain(&cursor, 3, &mut Recorder::default());
        assert_eq!((drained.done, drained.why), expect);
        assert!(!vm.log().pending(&cursor));
    }
}

#[test]
fn an_unwritten_slot_stops_the_drain_and_is_served_later() {
    for lap in [0, 1, 4093, 4094, 4095, 8190] {
        let vm = Vm::at(SIZE, lap * SIZE + 2);
        let cursor = vm.cursor();
        assert!(vm.log().append_gva(gva(1)));
        let reserved = vm.head.fetch_add(1, Relaxed);
        assert!(vm.log().append_gva(gva(3)));

        let mut r = Recorder::default();
        let drained = vm.log().drain(&cursor, ALL, &mut r);
        assert!(drained.unpublished, "lap {lap}");
        assert_eq!((drained.gvas, drained.done), (1, Done::Gvas));
        assert_eq!(r.ops, [Op::Gva(1)]);
        assert_eq!(cursor.load(Relaxed), reserved);

        // Still nothing, and nothing twice.
        let drained = vm.log().drain(&cursor, ALL, &mut r);
        assert!(drained.unpublished && drained.done == Done::Nothing);

        vm.write(reserved, 2);
        let drained = vm.log().drain(&cursor, ALL, &mut r);
        assert!(!drained.unpublished);
        assert_eq!(r.ops, [Op::Gva(1), Op::Gva(2), Op::Gva(3)]);
        assert!(!vm.log().pending(&cursor));
    }
}

#[test]
fn an_overwritten_slot_flushes_the_context() {
    let vm = Vm::new(4);
    let cursor = vm.cursor();
    assert!(vm.log().append_gva(gva(0)));
    assert!(vm.log().append_gva(gva(1)));
    // While the first is flushed, others lap the second.
    let mut r = Recorder::with(|| {
        for page in 2..6 {
            assert!(vm.log().append_gva(gva(page)));
        }
    });
    let drained = vm.log().drain(&cursor, ALL, &mut r);
    assert_eq!(drained.why, Some(Escalation::Overwritten));
    assert_eq!(r.ops, [Op::Gva(0), Op::Context]);
    // What came after the head was read is still there.
    assert_eq!(cursor.load(Relaxed), 2);
    r.ops.clear();
    let drained = vm.log().drain(&cursor, ALL, &mut r);
    assert_eq!(drained.done, Done::Gvas);
    assert_eq!(r.ops, [Op::Gva(2), Op::Gva(3), Op::Gva(4), Op::Gva(5)]);
}

#[test]
fn being_lapped_by_exactly_the_size_is_the_boundary() {
    for (meanwhile, expect) in [(3, None), (4, Some(Escalation::Overwritten))] {
        let vm = Vm::new(4);
        let cursor = vm.cursor();
        assert!(vm.log().append_gva(gva(0)));
        let mut r = Recorder::with(|| {
            for page in 0..meanwhile {
                assert!(vm.log().append_gva(gva(10 + page)));
            }
        });
        let drained = vm.log().drain(&cursor, ALL, &mut r);
        assert_eq!(drained.why, expect, "{meanwhile}");
        assert_eq!(cursor.load(Relaxed), 1);
    }
}

#[test]
fn a_refused_gva_flushes_the_context() {
    let vm = Vm::new(SIZE);
    let cursor = vm.cursor();
    for page in 0..3 {
        assert!(vm.log().append_gva(gva(page)));
    }
    let mut r = Recorder {
        refuse: Some(1),
        ..Recorder::default()
    };
    let drained = vm.log().drain(&cursor, ALL, &mut r);
    assert_eq!(drained.why, Some(Escalation::Refused));
    assert_eq!((drained.gvas, drained.done), (1, Done::Context));
    assert_eq!(r.ops, [Op::Gva(0), Op::Context]);
    assert!(!vm.log().pending(&cursor));
}

#[test]
fn tags_wrap_without_a_trace() {
    // Three laps on both sides of each place where a 12-bit tag could wrap.
    for lap in [4092, 8187] {
        let vm = Vm::at(4, lap * 4);
        let cursor = vm.cursor();
        for page in 0..4 * 7 {
            assert!(vm.log().append_gva(gva(page)));
            let mut r = Recorder::default();
            let drained = vm.log().drain(&cursor, ALL, &mut r);
            assert_eq!(r.ops, [Op::Gva(page)]);
            assert_eq!(drained.done, Done::Gvas);
        }
    }
}

#[test]
fn a_tag_that_recurs_is_not_taken_for_an_entry() {
    // A gVA, then nothing but FULL entries (another policy) until its tag
    // comes round, then a slot that is reserved and not yet written.
    let vm = Vm::new(4);
    assert!(vm.log().append_gva(gva(7)));
    while vm.head.load(Relaxed) < 4 * 4095 {
        vm.log().append_full();
    }
    let cursor = vm.cursor();
    vm.head.fetch_add(1, Relaxed);
    let mut r = Recorder::default();
    let drained = vm.log().drain(&cursor, ALL, &mut r);
    assert!(drained.unpublished);
    assert_eq!(r.ops, []);
}

#[test]
fn a_cursor_far_behind_or_of_another_world_is_served() {
    let vm = Vm::at(SIZE, 1_000_000_000_000);
    let far = AtomicU64::new(0);
    let mut r = Recorder::default();
    let drained = vm.log().drain(&far, ALL, &mut r);
    assert_eq!(drained.why, Some(Escalation::Lag));
    assert_eq!(r.ops, [Op::Context]);
    assert!(!vm.log().pending(&far));

    let beyond = AtomicU64::new(u64::MAX);
    let mut r = Recorder::default();
    let _ = vm.log().drain(&beyond, ALL, &mut r);
    assert_eq!(r.ops, [Op::Full]);
    assert!(!vm.log().pending(&beyond));
}
