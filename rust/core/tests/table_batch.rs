// SPDX-License-Identifier: GPL-2.0

//! Many sets in one report do what they do one by one: what the writer
//! remembers from one set to the next is true.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

mod storage;

use gvahint_core::addr::VaBits;
use gvahint_core::plan::Reason;
use gvahint_core::report::{apply, Limits, Sets};
use gvahint_core::writer::Writer;
use proptest::prelude::*;
use storage::{header, Arena, Storage, KERNEL_ONLY, MAPPED, REVOKED};

/// Frames of three large pages.
const FRAMES: u64 = 3 << 9;

/// A set's words: its range, its kind and its gVAs.
fn set() -> impl Strategy<Value = Vec<u64>> {
    let order = prop_oneof![6 => Just(0u64), 2 => 1u64..9, 1 => Just(9)];
    let kind = prop_oneof![6 => Just(MAPPED), 1 => Just(KERNEL_ONLY), 2 => Just(REVOKED)];
    (0..FRAMES, order, kind, 1u64..4).prop_map(|(frame, order, kind, gvas)| {
        let gvas = if kind == MAPPED { gvas } else { 0 };
        let gfn = frame >> order << order;
        let mut words = vec![header(gfn, order, kind, gvas)];
        words.extend((1..=gvas).map(|n| n << 40 | gfn << 12));
        words
    })
}

/// What can be seen of a table.
fn seen(table: &Storage) -> (Vec<Option<Vec<u64>>>, u64, u64) {
    let frames = (0..FRAMES).map(|gfn| table.lookup(gfn).ok());
    (frames.collect(), table.state.hints(), table.used())
}

/// A report of one frame's set, given to a writer that there is already.
fn report(writer: &mut Writer<'_, Arena>, gva: u64) {
    let limits = Limits {
        bits: VaBits::Bits48,
        max_gfn: FRAMES,
    };
    let words = [header(5, 0, MAPPED, 1), gva];
    let applied = apply(&mut Sets::new(&words, limits), 0, writer, 1, |_, _| true);
    assert_eq!(applied.answer(), Ok(1));
}

#[test]
fn a_writer_that_cleared_remembers_nothing() {
    let mut table = Storage::new(FRAMES, 64);
    table.now_ms = 1;
    table.set(600, 0, MAPPED, &[0x1000]).unwrap();
    table.state.set_exhausted(true);
    let mut writer = table.writer();
    report(&mut writer, 0x7000);
    writer.clear();
    report(&mut writer, 0x8000);
    assert_eq!(table.lookup(5), Ok(vec![0x8000]));
    assert_eq!(table.lookup(600), Err(Reason::NoHint));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_report_is_its_sets_one_by_one(
        reports in prop::collection::vec(prop::collection::vec(set(), 1..40), 1..4),
        later_ms in prop_oneof![Just(0u64), Just(300_000), Just(2_000_000)],
    ) {
        let [mut at_once, mut one_by_one] = [(); 2].map(|()| Storage::new(FRAMES, 64));
        for sets in reports {
            let applied = at_once.apply(&sets.concat());
            prop_assert_eq!(applied.refused, None);
            for words in &sets {
                prop_assert_eq!(one_by_one.apply(words).refused, None);
            }
            prop_assert_eq!(seen(&at_once), seen(&one_by_one));
            at_once.now_ms += later_ms;
            one_by_one.now_ms += later_ms;
        }
        for table in [&mut at_once, &mut one_by_one] {
            table.writer().revoke(0, u64::MAX);
            table.reap();
            prop_assert_eq!((table.state.hints(), table.used()), (0, 0));
        }
    }
}
