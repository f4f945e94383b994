// SPDX-License-Identifier: GPL-2.0

//! An append interrupted by a vCPU at every access, and a vCPU by an append:
//! in the end a flush that serves the entry has been executed after the entry
//! was begun.

extern crate std;

use super::*;
use crate::sync::step::interrupt;
use core::cell::RefCell;
use std::boxed::Box;
use std::format;
use std::vec::Vec;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Gva(u64),
    Context,
    Full,
}

/// What a vCPU does.
#[derive(Clone, Copy, Debug)]
enum Vcpu {
    Drain(u32),
    Superseded(Scope),
}

struct World {
    words: [AtomicU64; 3],
    cursor: AtomicU64,
    slots: [AtomicU64; 4],
    ops: RefCell<Vec<Op>>,
}

struct Recorder(&'static World);

impl Flusher for Recorder {
    fn gva(&mut self, gva: Gva) -> bool {
        self.0.ops.borrow_mut().push(Op::Gva(gva.raw() >> 12));
        true
    }

    fn context(&mut self) {
        self.0.ops.borrow_mut().push(Op::Context);
    }

    fn full(&mut self) {
        self.0.ops.borrow_mut().push(Op::Full);
    }
}

impl World {
    /// A log in which these entries wait.
    fn new(waiting: &[Op]) -> &'static Self {
        let world = Box::leak(Box::new(Self {
            words: [const { AtomicU64::new(0) }; 3],
            cursor: AtomicU64::new(0),
            slots: [const { AtomicU64::new(0) }; 4],
            ops: RefCell::default(),
        }));
        waiting.iter().for_each(|op| world.append(*op));
        world
    }

    fn log(&self) -> Log<'_> {
        let [head, full, context] = &self.words;
        Log::new(head, full, context, &self.slots)
    }

    fn append(&self, op: Op) {
        match op {
            Op::Gva(page) => assert!(self.log().append_gva(Gva::stored(page << 12))),
            Op::Context => self.log().append_context(),
            Op::Full => self.log().append_full(),
        }
    }

    fn run(&'static self, vcpu: Vcpu) {
        match vcpu {
            Vcpu::Drain(max) => {
                let _ = self.log().drain(&self.cursor, max, &mut Recorder(self));
            }
            Vcpu::Superseded(scope) => {
                if self.log().superseded(&self.cursor, scope) {
                    self.ops.borrow_mut().push(match scope {
                        Scope::Context => Op::Context,
                        Scope::Root => Op::Full,
                    });
                }
            }
        }
    }

    /// Whether flushes from number `from` on serve that entry, once the vCPU
    /// has caught up.
    fn serves(&'static self, entry: Op, from: usize) -> bool {
        self.run(Vcpu::Drain(u32::MAX));
        assert!(!self.log().pending(&self.cursor));
        self.ops.borrow().iter().skip(from).any(|op| match op {
            Op::Full => true,
            Op::Context => entry != Op::Full,
            Op::Gva(_) => *op == entry,
        })
    }
}

const ENTRIES: [Op; 3] = [Op::Gva(9), Op::Context, Op::Full];
const VCPUS: [Vcpu; 4] = [
    Vcpu::Drain(u32::MAX),
    Vcpu::Drain(1),
    Vcpu::Superseded(Scope::Context),
    Vcpu::Superseded(Scope::Root),
];
const WAITING: [&[Op]; 6] = [
    &[],
    &[Op::Gva(1)],
    &[Op::Gva(1), Op::Gva(2)],
    &[Op::Gva(1), Op::Gva(2), Op::Gva(3), Op::Gva(4)],
    &[Op::Context],
    &[Op::Full],
];

/// All combinations of what waits, what is appended, and what the vCPU does.
fn each(mut f: impl FnMut(&[Op], Op, Vcpu)) {
    for waiting in WAITING {
        for entry in ENTRIES {
            for vcpu in VCPUS {
                f(waiting, entry, vcpu);
            }
        }
    }
}

#[test]
fn a_vcpu_interrupted_by_an_append() {
    each(|waiting, entry, vcpu| {
        for at in 0.. {
            let world = World::new(waiting);
            let from: &RefCell<usize> = Box::leak(Box::default());
            let inner = move || {
                *from.borrow_mut() = world.ops.borrow().len();
                world.append(entry);
            };
            let ran = interrupt(at, inner, || world.run(vcpu));
            if !ran {
                assert!(at > 0);
                break;
            }
            let what = format!("{entry:?} at {at} of {vcpu:?}, waiting {waiting:?}");
            let from = *from.borrow();
            assert!(world.serves(entry, from), "lost: {what}");
        }
    });
}

#[test]
fn an_append_interrupted_by_a_vcpu() {
    each(|waiting, entry, vcpu| {
        for at in 0.. {
            let world = World::new(waiting);
            let ran = interrupt(at, move || world.run(vcpu), || world.append(entry));
            if !ran {
                assert!(at > 0);
                break;
            }
            let what = format!("{vcpu:?} at {at} of {entry:?}, waiting {waiting:?}");
            assert!(world.serves(entry, 0), "lost: {what}");
        }
    });
}

#[test]
fn an_append_interrupted_by_another_and_a_vcpu() {
    each(|waiting, entry, vcpu| {
        for other in ENTRIES {
            for at in 0.. {
                let world = World::new(waiting);
                let from: &RefCell<usize> = Box::leak(Box::default());
                let inner = move || {
                    *from.borrow_mut() = world.ops.borrow().len();
                    world.append(other);
                    world.run(vcpu);
                };
                if !interrupt(at, inner, || world.append(entry)) {
                    break;
                }
                let what = format!("{other:?} {vcpu:?} at {at} of {entry:?}, {waiting:?}");
                let from = *from.borrow();
                assert!(world.serves(entry, 0), "lost: {what}");
                assert!(world.serves(other, from), "other lost: {what}");
            }
        }
    });
}

#[test]
fn an_append_interrupted_for_a_whole_lap() {
    for entry in ENTRIES {
        for at in 0.. {
            let world = World::new(&[]);
            let inner = move || {
                // The first lap is served one by one, and its entries are not
                // waited for. Of the second, none may get lost.
                for page in 20..24 {
                    world.append(Op::Gva(page));
                    world.run(Vcpu::Drain(u32::MAX));
                }
                for page in 30..34 {
                    world.append(Op::Gva(page));
                }
            };
            if !interrupt(at, inner, || world.append(entry)) {
                break;
            }
            for page in 30..34 {
                let served = world.serves(Op::Gva(page), 0);
                assert!(served, "{page} at {at} of {entry:?}");
            }
        }
    }
}
