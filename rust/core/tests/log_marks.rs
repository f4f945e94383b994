// SPDX-License-Identifier: GPL-2.0

//! FULL and CONTEXT entries of the flush log, and what supersedes what.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

mod common;

use common::{gva, Op, Recorder, Vm};
use gvahint_core::log::{Done, Scope};
use gvahint_core::sync::Ordering::Relaxed;

const SIZE: u64 = 8;
const ALL: u32 = u32::MAX;

#[test]
fn full_beats_context_beats_gva() {
    for (order, expect) in [
        ("gc", Op::Context),
        ("cg", Op::Context),
        ("gf", Op::Full),
        ("fg", Op::Full),
        ("cf", Op::Full),
        ("fc", Op::Full),
        ("gcfg", Op::Full),
        ("fgcg", Op::Full),
    ] {
        let vm = Vm::new(SIZE);
        let cursor = vm.cursor();
        for entry in order.chars() {
            vm.append(entry);
        }
        let mut r = Recorder::default();
        let _ = vm.log().drain(&cursor, ALL, &mut r);
        assert_eq!(r.ops, [expect], "{order}");
        assert!(!vm.log().pending(&cursor));
    }
}

#[test]
fn an_entry_of_the_past_does_not_count_again() {
    let vm = Vm::new(SIZE);
    let cursor = vm.cursor();
    vm.append('f');
    vm.append('c');
    let _ = vm.log().drain(&cursor, ALL, &mut Recorder::default());
    vm.append('g');
    let mut r = Recorder::default();
    let drained = vm.log().drain(&cursor, ALL, &mut r);
    assert_eq!(drained.done, Done::Gvas);
}

#[test]
fn a_full_entry_of_the_same_position_counts_for_who_is_before_it() {
    // Raised and not yet reserved: whoever drains now does it, and once more
    // when it is reserved. Never less.
    let vm = Vm::new(SIZE);
    let behind = vm.cursor();
    vm.append('g');
    let at_head = vm.cursor();
    vm.full.store(2, Relaxed);
    let mut r = Recorder::default();
    let _ = vm.log().drain(&behind, ALL, &mut r);
    assert_eq!(r.ops, [Op::Full]);
    assert_eq!(behind.load(Relaxed), 1);
    vm.head.store(2, Relaxed);
    for cursor in [behind, at_head] {
        let mut r = Recorder::default();
        let _ = vm.log().drain(&cursor, ALL, &mut r);
        assert_eq!(r.ops, [Op::Full]);
        assert_eq!(cursor.load(Relaxed), 2);
    }
}

#[test]
fn a_context_flush_supersedes_gva_and_context_but_not_full() {
    for (order, scope, served) in [
        ("g", Scope::Context, true),
        ("c", Scope::Context, true),
        ("gcg", Scope::Context, true),
        ("f", Scope::Context, false),
        ("fg", Scope::Context, false),
        ("gfc", Scope::Context, false),
        ("g", Scope::Root, true),
        ("gcfg", Scope::Root, true),
        ("", Scope::Context, false),
        ("", Scope::Root, false),
    ] {
        let vm = Vm::new(SIZE);
        let cursor = vm.cursor();
        for entry in order.chars() {
            vm.append(entry);
        }
        assert_eq!(
            vm.log().superseded(&cursor, scope),
            served,
            "{order} {scope:?}"
        );
        assert_eq!(
            vm.log().pending(&cursor),
            !served && !order.is_empty(),
            "{order}"
        );
        if order.contains('f') && !served {
            let mut r = Recorder::default();
            let _ = vm.log().drain(&cursor, ALL, &mut r);
            assert_eq!(r.ops, [Op::Full], "{order}");
        }
    }
}

#[test]
fn what_is_appended_during_a_flush_is_not_served_by_it() {
    // By a drain: the head was read before, whatever kind of flush it is.
    for (order, max) in [("g", ALL), ("c", ALL), ("f", ALL), ("gg", 1)] {
        for late in ['g', 'c', 'f'] {
            let vm = Vm::new(SIZE);
            let cursor = vm.cursor();
            for entry in order.chars() {
                vm.append(entry);
            }
            let mut r = Recorder::with(|| vm.append(late));
            let _ = vm.log().drain(&cursor, max, &mut r);
            assert!(vm.log().pending(&cursor), "{order} {late}");
            r.ops.clear();
            let _ = vm.log().drain(&cursor, ALL, &mut r);
            let expect = match late {
                'g' => Op::Gva(common::APPENDED),
                'c' => Op::Context,
                _ => Op::Full,
            };
            assert_eq!(r.ops, [expect], "{order} {late}");
        }
    }
    // By KVM's own flush, which follows the call.
    for scope in [Scope::Context, Scope::Root] {
        let vm = Vm::new(SIZE);
        let cursor = vm.cursor();
        vm.append('g');
        assert!(vm.log().superseded(&cursor, scope));
        vm.append('g');
        assert!(vm.log().pending(&cursor));
    }
}

#[test]
fn resync_makes_who_lags_flush_once() {
    let vm = Vm::new(SIZE);
    let lagging = vm.cursor();
    vm.append('g');
    let current = vm.cursor();
    vm.log().resync();
    let mut r = Recorder::default();
    let _ = vm.log().drain(&current, ALL, &mut r);
    assert_eq!(r.ops, []);
    let _ = vm.log().drain(&lagging, ALL, &mut r);
    assert_eq!(r.ops, [Op::Full]);
    vm.append('g');
    for cursor in [&lagging, &current] {
        let mut r = Recorder::default();
        let drained = vm.log().drain(cursor, ALL, &mut r);
        assert_eq!(drained.done, Done::Gvas);
    }
}

#[test]
fn context_and_full_need_no_ring_and_gvas_do() {
    // A length that is no power of two is taken for none.
    for slots in [0, 3, 6] {
        let vm = Vm::new(slots);
        assert_eq!(vm.log().size(), 0);
        let cursor = vm.cursor();
        assert!(!vm.log().append_gva(gva(1)));
        assert!(!vm.log().pending(&cursor));
        for (entry, expect) in [('c', Op::Context), ('f', Op::Full)] {
            vm.append(entry);
            let mut r = Recorder::default();
            let _ = vm.log().drain(&cursor, ALL, &mut r);
            assert_eq!(r.ops, [expect]);
        }
        // A gVA of a ring that is gone.
        vm.head.fetch_add(1, Relaxed);
        let mut r = Recorder::default();
        let _ = vm.log().drain(&cursor, ALL, &mut r);
        assert_eq!(r.ops, [Op::Context]);
    }
}
