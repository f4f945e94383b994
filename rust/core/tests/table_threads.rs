// SPDX-License-Identifier: GPL-2.0

//! Readers beside a writer: a lookup finds one set, whole, or declines.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod storage;

use gvahint_core::addr::Gfn;
use gvahint_core::plan::Reason;
use gvahint_core::policy::LinearAlias;
use gvahint_core::sync::AtomicU64;
use gvahint_core::table::{Hints, Query, Shape};
use gvahint_core::writer::{Writer, WriterState};
use gvahint_core::{addr::VaBits, linear::LinearList, report};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use storage::{header, KERNEL_ONLY, MAPPED};

/// Frames that share few cells, each in another chunk.
const FRAMES: u64 = 3;
const APART: u64 = 512;
const QUERY: Query = Query {
    now_ms: 1,
    max_age_ms: 1000,
    alias: LinearAlias::Auto,
};

/// All gVAs of a set tell the set's number and their place in it: bits 40..44
/// the frame, 28..40 the number, 12..16 the place.
fn gvas(frame: u64, number: u64) -> Vec<u64> {
    let count = 2 + number % 6;
    (0..count)
        .map(|i| frame << 40 | (number & 0xfff) << 28 | i << 12)
        .collect()
}

fn reader(hints: &Hints<'_>, stop: &AtomicBool) -> (u64, u64) {
    let (mut whole, mut races) = (0, 0);
    while !stop.load(Relaxed) {
        for frame in 0..FRAMES {
            match hints.lookup(Gfn::new(frame * APART).unwrap(), &QUERY) {
                Err(Reason::Race) => races += 1,
                Err(_) => {}
                Ok(list) => {
                    let found: Vec<u64> = list.iter().map(|gva| gva.raw()).collect();
                    let linear = found[0] >> 63 != 0;
                    let number = found[0] >> 28 & 0xfff;
                    let set = (0..6).map(|i| number | i << 12).map(|n| gvas(frame, n));
                    let one = if linear {
                        // Both ranges of one list, see below.
                        found.len() == 2 && found[1] == found[0] | 1 << 40
                    } else {
                        set.into_iter().any(|set| set == found)
                    };
                    assert!(one, "torn: frame {frame}, {found:x?}");
                    whole += 1;
                }
            }
        }
    }
    (whole, races)
}

fn run(write: impl Fn(&mut Writer<'_>, u64) + Sync) {
    let shape = Shape::new(FRAMES * APART, FRAMES as u32 + 1).unwrap();
    let words: Vec<AtomicU64> = (0..shape.words()).map(|_| AtomicU64::new(0)).collect();
    let hints = Hints::new(&words, shape).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers = [0, 1].map(|_| scope.spawn(|| reader(&hints, &stop)));
        let mut state = WriterState::new();
        let mut writer = Writer::new(hints, &mut state);
        let start = Instant::now();
        let mut number = 0;
        while start.elapsed() < Duration::from_millis(700) {
            for _ in 0..100 {
                write(&mut writer, number);
                number += 1;
            }
        }
        stop.store(true, Relaxed);
        let whole: u64 = readers.map(|r| r.join().unwrap().0).iter().sum();
        assert!(whole > 1000, "{whole}");
    });
}

fn report(writer: &mut Writer<'_>, words: &[u64]) {
    let limits = report::Limits {
        bits: VaBits::Bits48,
        max_gfn: FRAMES * APART,
    };
    let applied = report::apply(words, limits, writer, 1, |_, _| true);
    assert_eq!(applied.refused, None);
}

fn set(writer: &mut Writer<'_>, frame: u64, number: u64) {
    let gvas = gvas(frame, number);
    let mut words = vec![header(frame * APART, 0, MAPPED, gvas.len() as u64)];
    words.extend(gvas);
    report(writer, &words);
}

#[test]
fn sets_are_read_whole() {
    run(|writer, number| set(writer, number * 7 % FRAMES, number));
}

#[test]
fn sets_are_read_whole_while_all_is_cleared() {
    run(|writer, number| {
        if number % 5 == 0 {
            writer.clear();
        }
        set(writer, number * 7 % FRAMES, number);
    });
}

#[test]
fn linear_ranges_are_read_whole() {
    run(|writer, number| {
        let base = 0xffff_8000_0000_0000 | (number & 0xff) << 28;
        let list = [0, base, 1 << 24, 4096, 0, base | 1 << 40, 1 << 24, 4096];
        writer.set_linear(&LinearList::parse(&list, VaBits::Bits48).unwrap());
        // A change drops all hints; give lookups a chance to succeed.
        for _ in 0..4 {
            report(writer, &[header(0, 0, KERNEL_ONLY, 0)]);
        }
    });
}
