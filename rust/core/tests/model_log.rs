// SPDX-License-Identifier: GPL-2.0

//! The flush log under loom: every interleaving up to a number of preemptions,
//! and every value that the orderings let a load return. Run by scripts/models.
//!
//! A page's accessed bit is cleared by a plain store, then its entry is
//! appended. A flush makes the vCPU see the bit as it is, which the model
//! asks of a relaxed load. Once the vCPU has caught up it must have flushed
//! each page after its bit was cleared.

#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

use gvahint_core::addr::{Gva, VaBits};
use gvahint_core::log::{Flusher, Log, Scope};
use gvahint_core::sync::{AtomicU64, Ordering::Relaxed};
use loom::thread;
use std::sync::Arc;

/// Pages: by gVA from 0 on, one that a context flush serves, one that only a
/// full flush serves.
const BY_CONTEXT: usize = 3;
const BY_FULL: usize = 4;
const PAGES: usize = 5;

struct World {
    words: [AtomicU64; 3],
    slots: Vec<AtomicU64>,
    cleared: [AtomicU64; PAGES],
}

impl World {
    /// A log of that size in which the pages `waiting` wait.
    fn new(size: usize, waiting: &[usize]) -> Arc<Self> {
        let world = Self {
            words: [const { AtomicU64::new(0) }; 3],
            slots: (0..size).map(|_| AtomicU64::new(0)).collect(),
            cleared: [const { AtomicU64::new(0) }; PAGES],
        };
        let all = world.words.iter().chain(&world.slots).chain(&world.cleared);
        all.for_each(AtomicU64::touch);
        waiting.iter().for_each(|page| world.age(*page));
        Arc::new(world)
    }

    fn log(&self) -> Log<'_> {
        let [head, full, context] = &self.words;
        Log::new(head, full, context, &self.slots)
    }

    fn age(&self, page: usize) {
        self.cleared[page].store(1, Relaxed);
        match page {
            BY_CONTEXT => self.log().append_context(),
            BY_FULL => self.log().append_full(),
            _ => {
                let gva = Gva::new((page as u64) << 12, VaBits::Bits48);
                assert!(self.log().append_gva(gva.unwrap()));
            }
        }
    }
}

/// A vCPU and the bits that it saw when it last flushed.
struct Vcpu<'a> {
    world: &'a World,
    cursor: AtomicU64,
    seen: [u64; PAGES],
}

impl<'a> Vcpu<'a> {
    fn new(world: &'a World) -> Self {
        Self {
            world,
            cursor: AtomicU64::new(0),
            seen: [0; PAGES],
        }
    }

    fn flush(&mut self, pages: std::ops::Range<usize>) {
        for page in pages {
            self.seen[page] = self.world.cleared[page].load(Relaxed);
        }
    }

    fn drain(&mut self, max_gvas: u32) {
        let cursor = AtomicU64::new(self.cursor.load(Relaxed));
        let _ = self.world.log().drain(&cursor, max_gvas, self);
        self.cursor.store(cursor.load(Relaxed), Relaxed);
    }

    fn flush_context_anyway(&mut self) {
        let _ = self.world.log().superseded(&self.cursor, Scope::Context);
        self.flush(0..BY_FULL);
    }

    fn flush_root_anyway(&mut self) {
        let _ = self.world.log().superseded(&self.cursor, Scope::Root);
        self.flush(0..PAGES);
    }

    /// The producers are done: catches up, and has missed nothing.
    fn check(mut self) {
        self.drain(u32::MAX);
        assert!(!self.world.log().pending(&self.cursor), "left behind");
        for (page, bit) in self.world.cleared.iter().enumerate() {
            assert_eq!(self.seen[page], bit.load(Relaxed), "page {page} lost");
        }
    }
}

impl Flusher for Vcpu<'_> {
    fn gva(&mut self, gva: Gva) -> bool {
        let page = (gva.raw() >> 12) as usize;
        self.flush(page..page + 1);
        true
    }

    fn context(&mut self) {
        self.flush(0..BY_FULL);
    }

    fn full(&mut self) {
        self.flush(0..PAGES);
    }
}

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// Producers age a page each while the vCPU does something.
fn run(
    preemptions: usize,
    size: usize,
    waiting: &'static [usize],
    producers: &'static [&'static [usize]],
    vcpu: fn(&mut Vcpu<'_>),
) {
    model(preemptions, move || {
        let world = World::new(size, waiting);
        let producers: Vec<_> = producers
            .iter()
            .map(|pages| {
                let world = world.clone();
                thread::spawn(move || pages.iter().for_each(|page| world.age(*page)))
            })
            .collect();
        let mut cpu = Vcpu::new(&world);
        vcpu(&mut cpu);
        for producer in producers {
            producer.join().unwrap();
        }
        cpu.check();
    });
}

#[test]
fn one_producer_and_a_drain() {
    const ONE: [&[&[usize]]; 3] = [&[&[0]], &[&[BY_CONTEXT]], &[&[BY_FULL]]];
    for producers in ONE {
        run(3, 2, &[], producers, |cpu| {
            cpu.drain(u32::MAX);
            cpu.drain(u32::MAX);
        });
    }
}

#[test]
fn two_producers_and_a_drain() {
    run(3, 2, &[], &[&[0], &[1]], |cpu| cpu.drain(u32::MAX));
    run(2, 2, &[], &[&[0], &[BY_FULL]], |cpu| cpu.drain(u32::MAX));
    run(2, 2, &[], &[&[0], &[BY_CONTEXT]], |cpu| cpu.drain(u32::MAX));
}

#[test]
fn more_than_one_entry_may_serve_is_a_context_flush() {
    run(3, 4, &[], &[&[0, 1]], |cpu| cpu.drain(1));
}

#[test]
fn slots_are_overwritten_while_they_are_drained() {
    run(3, 2, &[0, 1], &[&[2]], |cpu| cpu.drain(u32::MAX));
    run(2, 2, &[0], &[&[1], &[2]], |cpu| cpu.drain(u32::MAX));
}

#[test]
fn a_producer_is_held_up_for_a_lap() {
    run(3, 1, &[], &[&[0], &[1]], |cpu| cpu.drain(u32::MAX));
    run(2, 1, &[], &[&[0], &[BY_CONTEXT]], |cpu| cpu.drain(u32::MAX));
}

#[test]
fn a_context_flush_never_supersedes_a_full_entry() {
    run(3, 2, &[], &[&[BY_FULL]], |c| c.flush_context_anyway());
    run(2, 2, &[], &[&[BY_FULL], &[0]], |c| c.flush_context_anyway());
    run(2, 2, &[], &[&[BY_FULL], &[BY_CONTEXT]], |cpu| {
        cpu.flush_context_anyway();
        cpu.drain(1);
    });
}

#[test]
fn superseding_never_loses_what_is_appended_after_it() {
    run(3, 2, &[0], &[&[1]], |c| c.flush_context_anyway());
    run(3, 2, &[0], &[&[BY_FULL]], |c| c.flush_root_anyway());
    run(2, 2, &[0], &[&[1], &[2]], |c| c.flush_root_anyway());
}
