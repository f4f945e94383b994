// SPDX-License-Identifier: GPL-2.0

//! The flush log under real threads: what a thread knows to be in the log has
//! been served once its cursor is at the head.
//!
//! Pages have a number of "clears". Ageing raises it, appends an entry, and
//! then announces it. A vCPU's "TLB" holds, per page, the clear that it last
//! served. A FULL entry stands for a page that only a full flush serves.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod common;

use common::{gva, Vm};
use gvahint_core::addr::Gva;
use gvahint_core::log::{Flusher, Scope};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

/// Pages: by gVA, by context, by full flush.
const GVAS: usize = 6;
const BY_CONTEXT: usize = 6;
const BY_FULL: usize = 7;
const PAGES: usize = 8;

#[derive(Default)]
struct World {
    cleared: [AtomicU64; PAGES],
    announced: [AtomicU64; PAGES],
    stop: AtomicBool,
}

struct Tlb<'a> {
    world: &'a World,
    served: [u64; PAGES],
}

impl Tlb<'_> {
    fn flush(&mut self, pages: std::ops::Range<usize>) {
        for page in pages {
            self.served[page] = self.world.cleared[page].load(SeqCst);
        }
    }
}

impl Flusher for Tlb<'_> {
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

fn age(world: &World, vm: &Vm, seed: u64) {
    let mut random = seed;
    while !world.stop.load(Relaxed) {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(seed);
        let page = match random >> 33 & 0x1f {
            0..=3 => BY_FULL,
            4 => BY_CONTEXT,
            n => n as usize % GVAS,
        };
        let clear = world.cleared[page].fetch_add(1, SeqCst) + 1;
        match page {
            BY_FULL => vm.log().append_full(),
            BY_CONTEXT => vm.log().append_context(),
            _ => assert!(vm.log().append_gva(gva(page as u64))),
        }
        world.announced[page].fetch_max(clear, SeqCst);
    }
}

fn run(world: &World, vm: &Vm, max_gvas: u32) -> u64 {
    let cursor = AtomicU64::new(vm.log().start());
    let mut tlb = Tlb {
        world,
        served: std::array::from_fn(|p| world.cleared[p].load(SeqCst)),
    };
    let mut rounds = 0;
    while !world.stop.load(Relaxed) {
        let announced: [u64; PAGES] = std::array::from_fn(|p| world.announced[p].load(SeqCst));
        if vm.log().superseded(&cursor, Scope::Context) {
            tlb.context();
        }
        let head = vm.log().start();
        while cursor.load(Relaxed) < head && !world.stop.load(Relaxed) {
            let _ = vm.log().drain(&cursor, max_gvas, &mut tlb);
        }
        if cursor.load(Relaxed) >= head {
            for (page, clear) in announced.iter().enumerate() {
                assert!(tlb.served[page] >= *clear, "page {page} lost");
            }
        }
        rounds += 1;
    }
    rounds
}

#[test]
fn nothing_that_was_announced_is_lost() {
    for (size, max_gvas) in [(4, 4), (64, 2), (1024, 512)] {
        let vm = Vm::new(size);
        let world = World::default();
        let rounds = std::thread::scope(|scope| {
            scope.spawn(|| age(&world, &vm, 0x9e3779b97f4a7c15));
            scope.spawn(|| age(&world, &vm, 0xbf58476d1ce4e5b9));
            let vcpus = [0, 1].map(|_| {
                scope.spawn(|| {
                    let stop = StopOnPanic(&world);
                    let rounds = run(&world, &vm, max_gvas);
                    std::mem::forget(stop);
                    rounds
                })
            });
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(700) && !world.stop.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            world.stop.store(true, Relaxed);
            vcpus.map(|vcpu| vcpu.join().unwrap())
        });
        assert!(rounds.iter().all(|r| *r > 100), "{rounds:?}");
    }
}

/// Lets the others end when an assertion fails.
struct StopOnPanic<'a>(&'a World);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Relaxed);
    }
}
