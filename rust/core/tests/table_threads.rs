// SPDX-License-Identifier: GPL-2.0

//! Readers beside a writer: a lookup finds one set, whole, or declines.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod storage;

use gvahint_core::addr::Gfn;
use gvahint_core::node::{Node, Nodes, NODE_SLOTS};
use gvahint_core::plan::Reason;
use gvahint_core::policy::LinearAlias;
use gvahint_core::pool::WriterState;
use gvahint_core::report::{self, Sets};
use gvahint_core::sync::AtomicU64;
use gvahint_core::table::{Hints, Query, Shape, Top};
use gvahint_core::writer::Writer;
use gvahint_core::{addr::VaBits, linear::LinearList};
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use storage::{header, KERNEL_ONLY, MAPPED};

/// Frames that share few cells, each in another 2M.
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

/// Nodes that are used again once each reader has been seen between lookups.
struct Fixed(Vec<OnceLock<Box<Node>>>);

impl Nodes for Fixed {
    fn node(&self, id: u32) -> Option<&Node> {
        let place = self.0.get((id as usize).checked_sub(1)?)?;
        Some(place.get_or_init(|| Box::new([const { AtomicU64::new(0) }; NODE_SLOTS])))
    }
}

/// Waits until each reader has begun another round.
fn grace_period(rounds: &[AtomicU64; 2], stop: &AtomicBool) {
    for round in rounds {
        let before = round.load(Relaxed);
        while round.load(Acquire) < before + 2 && !stop.load(Relaxed) {
            std::hint::spin_loop();
        }
    }
}

fn reader(hints: &Hints<'_, Fixed>, stop: &AtomicBool, rounds: &AtomicU64) -> (u64, u64) {
    let (mut whole, mut races) = (0, 0);
    let _stop = StopOnPanic(stop);
    while !stop.load(Relaxed) {
        rounds.fetch_add(1, AcqRel);
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

fn run(write: impl Fn(&mut Writer<'_, Fixed>, u64) + Sync) {
    let nodes = Fixed((0..256).map(|_| OnceLock::new()).collect());
    let top = Top::new();
    let hints = Hints::new(&top, &nodes, Shape::new(FRAMES * APART).unwrap());
    let stop = AtomicBool::new(false);
    let rounds = [const { AtomicU64::new(0) }; 2];
    std::thread::scope(|scope| {
        let readers = [0, 1].map(|n| {
            let (stop, round) = (&stop, &rounds[n]);
            scope.spawn(move || reader(&hints, stop, round))
        });
        let mut state = WriterState::new();
        let mut writer = Writer::new(hints, &mut state);
        let start = Instant::now();
        let (mut number, mut next) = (0, 1..=256u32);
        'run: while start.elapsed() < Duration::from_millis(700) {
            for _ in 0..100 {
                while writer.state().wanted() > 0 {
                    if let Some(id) = next.next() {
                        assert!(writer.state().hand_in(&nodes, id));
                        continue;
                    }
                    // Some readers' threads may have failed.
                    if stop.load(Relaxed) {
                        break 'run;
                    }
                    let back = std::iter::from_fn(|| writer.state().take_back(&nodes));
                    let back: Vec<u32> = back.collect();
                    assert!(!back.is_empty());
                    grace_period(&rounds, &stop);
                    for id in back {
                        let node = nodes.node(id).unwrap();
                        node.iter().for_each(|word| word.store(0, Relaxed));
                        assert!(writer.state().hand_in(&nodes, id));
                    }
                }
                if writer.state().needs_grace() {
                    grace_period(&rounds, &stop);
                    writer.state().grace_passed();
                }
                write(&mut writer, number);
                number += 1;
            }
        }
        stop.store(true, Relaxed);
        let whole: u64 = readers.map(|r| r.join().unwrap().0).iter().sum();
        assert!(whole > 1000, "{whole}");
    });
}

fn report(writer: &mut Writer<'_, Fixed>, words: &[u64]) {
    let limits = report::Limits {
        bits: VaBits::Bits48,
        max_gfn: FRAMES * APART,
    };
    let applied = report::apply(&mut Sets::new(words, limits), 0, writer, 1, |_, _| true);
    assert_eq!(applied.refused, None);
}

fn set(writer: &mut Writer<'_, Fixed>, frame: u64, number: u64) {
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
        let list = LinearList::parse(&list, VaBits::Bits48).unwrap();
        writer.set_linear(&list).unwrap();
        // Who looked up by the ranges before declines; give lookups a chance to succeed.
        for _ in 0..4 {
            report(writer, &[header(0, 0, KERNEL_ONLY, 0)]);
        }
    });
}

/// Lets the writer end when an assertion fails.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
