// SPDX-License-Identifier: GPL-2.0

//! One log, as many cursors as a large VM has vCPUs. The machine runs 64 of them for real.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

mod common;

use common::{gva, Op, Recorder, Vm};
use gvahint_core::log::{Done, Escalation, Scope};
use gvahint_core::sync::{AtomicU64, Ordering::Relaxed};

const VCPUS: [u64; 3] = [1, 64, 1024];
const SIZE: u64 = 256;
const ALL: u32 = u32::MAX;

fn cursors(vm: &Vm, vcpus: u64) -> Vec<AtomicU64> {
    (0..vcpus).map(|_| vm.cursor()).collect()
}

/// What a vCPU executes that drains now.
fn drain(vm: &Vm, cursor: &AtomicU64) -> (Vec<Op>, Done, Option<Escalation>) {
    let mut recorder = Recorder::default();
    let drained = vm.log().drain(cursor, ALL, &mut recorder);
    (recorder.ops, drained.done, drained.why)
}

// Fails if an append costs more positions with more vCPUs, if a vCPU misses an entry or executes
// one twice, or if one vCPU's drain serves another.
#[test]
fn each_vcpu_drains_each_entry_once() {
    for vcpus in VCPUS {
        let vm = Vm::new(SIZE);
        let cursors = cursors(&vm, vcpus);
        for round in 0..3 {
            let pages = round * SIZE..(round + 1) * SIZE;
            for page in pages.clone() {
                assert!(vm.log().append_gva(gva(page)));
            }
            assert_eq!(vm.head.load(Relaxed), pages.end, "{vcpus} vCPUs");
            let due: Vec<_> = pages.map(Op::Gva).collect();
            for cursor in &cursors {
                assert!(vm.log().pending(cursor));
                assert_eq!(drain(&vm, cursor), (due.clone(), Done::Gvas, None));
                assert!(!vm.log().pending(cursor));
                assert_eq!(drain(&vm, cursor), (vec![], Done::Nothing, None));
            }
        }
    }
}

// Fails if a vCPU's drain depends on anything but its own distance from the head: exact as far as
// the ring reaches, one flush of the context from there on.
#[test]
fn vcpus_are_at_as_many_distances_as_there_are() {
    for vcpus in VCPUS {
        let vm = Vm::new(SIZE);
        let cursors = cursors(&vm, vcpus);
        for (page, cursor) in (0..vcpus).zip(&cursors) {
            assert!(vm.log().append_gva(gva(page)));
            let due = if page < SIZE {
                let gvas = (0..=page).map(Op::Gva).collect();
                (gvas, Done::Gvas, None)
            } else {
                (vec![Op::Context], Done::Context, Some(Escalation::Lag))
            };
            assert_eq!(drain(&vm, cursor), due, "vCPU {page} of {vcpus}");
        }
        // Whoever went first lags the most now.
        let (last, others) = cursors.split_last().unwrap();
        assert!(!vm.log().pending(last));
        assert!(others.iter().all(|cursor| vm.log().pending(cursor)));
    }
}

// Fails if a flush that KVM executes on one vCPU is taken for one on all.
#[test]
fn a_flush_serves_its_own_vcpu() {
    for vcpus in VCPUS {
        let vm = Vm::new(SIZE);
        let cursors = cursors(&vm, vcpus);
        assert!(vm.log().append_gva(gva(7)));
        for (i, cursor) in cursors.iter().enumerate() {
            if i % 2 == 0 {
                assert!(vm.log().superseded(cursor, Scope::Context));
            }
        }
        for (i, cursor) in cursors.iter().enumerate() {
            let due = if i % 2 == 0 {
                (vec![], Done::Nothing, None)
            } else {
                (vec![Op::Gva(7)], Done::Gvas, None)
            };
            assert_eq!(drain(&vm, cursor), due, "vCPU {i} of {vcpus}");
        }
    }
}
