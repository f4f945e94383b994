// SPDX-License-Identifier: GPL-2.0

//! The flush log against a naive one: each vCPU has a list of what it has not
//! served.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod common;

use common::{gva, Op, Recorder, Vm};
use gvahint_core::log::Scope;
use gvahint_core::sync::{AtomicU64, Ordering::Relaxed};
use proptest::prelude::*;

const SIZE: u64 = 4;
const VCPUS: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Gva(u64),
    Context,
    Full,
    /// A producer reserves and is held up.
    Reserve(u64),
    /// The one that waits longest writes.
    Write,
    Drain(usize, u32),
    Superseded(usize, bool),
    Resync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u64..9).prop_map(Step::Gva),
        1 => Just(Step::Context),
        1 => Just(Step::Full),
        1 => (10u64..19).prop_map(Step::Reserve),
        2 => Just(Step::Write),
        5 => (0..VCPUS, 1u32..6).prop_map(|(v, n)| Step::Drain(v, n)),
        1 => (0..VCPUS, any::<bool>()).prop_map(|(v, root)| Step::Superseded(v, root)),
        1 => Just(Step::Resync),
    ]
}

/// What an entry needs; a resync is served by nothing but a full flush.
type Entry = (u64, Op);

struct Model {
    unserved: [Vec<Entry>; VCPUS],
    held_up: Vec<(u64, u64)>,
}

impl Model {
    fn append(&mut self, pos: u64, op: Op) {
        for list in &mut self.unserved {
            list.push((pos, op));
        }
    }

    fn serve(&mut self, vcpu: usize, op: Op) {
        self.unserved[vcpu].retain(|(_, entry)| match op {
            Op::Full => false,
            Op::Context => *entry == Op::Full,
            Op::Gva(_) => *entry != op,
        });
    }
}

fn play(start: u64, steps: Vec<Step>) {
    let vm = Vm::at(SIZE, start);
    let cursors: [AtomicU64; VCPUS] = std::array::from_fn(|_| vm.cursor());
    let mut model = Model {
        unserved: Default::default(),
        held_up: Vec::new(),
    };
    for step in steps {
        let head = vm.head.load(Relaxed);
        match step {
            Step::Gva(page) => {
                assert!(vm.log().append_gva(gva(page)));
                model.append(head, Op::Gva(page));
            }
            Step::Context => {
                vm.log().append_context();
                model.append(head, Op::Context);
            }
            Step::Full => {
                vm.log().append_full();
                model.append(head, Op::Full);
            }
            // Whoever is held up for a whole lap is log::tests' business.
            Step::Reserve(page) => {
                vm.head.fetch_add(1, Relaxed);
                model.append(head, Op::Gva(page));
                model.held_up.push((head, page));
            }
            Step::Write => {
                if !model.held_up.is_empty() {
                    let (pos, page) = model.held_up.remove(0);
                    if head - pos <= SIZE {
                        vm.write(pos, page);
                    }
                }
            }
            Step::Drain(vcpu, max) => drain(&vm, &cursors[vcpu], &mut model, vcpu, max),
            Step::Superseded(vcpu, root) => {
                let scope = if root { Scope::Root } else { Scope::Context };
                let full = model.unserved[vcpu].iter().any(|(_, op)| *op == Op::Full);
                let pending = vm.log().pending(&cursors[vcpu]);
                let all = vm.log().superseded(&cursors[vcpu], scope);
                assert_eq!(all, pending && (root || !full));
                model.serve(vcpu, if root { Op::Full } else { Op::Context });
            }
            Step::Resync => {
                vm.log().resync();
                for (list, cursor) in model.unserved.iter_mut().zip(&cursors) {
                    if cursor.load(Relaxed) < head {
                        list.push((head - 1, Op::Full));
                    }
                }
            }
        }
        for (vcpu, cursor) in cursors.iter().enumerate() {
            let cursor = cursor.load(Relaxed);
            let lost = model.unserved[vcpu].iter().find(|(pos, _)| *pos < cursor);
            assert_eq!(lost, None, "vcpu {vcpu} at {cursor}");
        }
    }
}

fn drain(vm: &Vm, cursor: &AtomicU64, model: &mut Model, vcpu: usize, max: u32) {
    let list = &model.unserved[vcpu];
    let lag = vm.head.load(Relaxed) - cursor.load(Relaxed);
    let only_gvas = list.iter().all(|(_, op)| matches!(op, Op::Gva(_)));
    let few = lag <= SIZE.min(u64::from(max));
    let mut r = Recorder::default();
    let drained = vm.log().drain(cursor, max, &mut r);
    if only_gvas && few {
        let singly = r.ops.iter().all(|op| matches!(op, Op::Gva(_)));
        assert!(singly, "needless {:?}", r.ops);
        let all = !vm.log().pending(cursor);
        assert_eq!(all, !drained.unpublished);
    } else {
        assert_eq!(r.ops.len(), 1);
        assert!(!vm.log().pending(cursor));
    }
    for op in r.ops {
        model.serve(vcpu, op);
    }
    assert!(!drained.unpublished || !model.held_up.is_empty());
}

/// As many cases as PROPTEST_CASES says, 256 by default.
fn cases() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_log_serves_what_a_list_would(
        lap in prop_oneof![Just(0u64), Just(4093), Just(8188), 0..10_000u64],
        offset in 0..SIZE,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        play(lap * SIZE + offset, steps);
    }
}
