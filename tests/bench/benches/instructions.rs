// SPDX-License-Identifier: GPL-2.0

//! Instructions, counted by callgrind. Each job is done once with N and once with 2 N
//! items; what the second needs more, divided by N, is what one item costs, whatever
//! it costs to begin and to end. `src/counts.rs` reads the names: `WHO_ITEMS`.

// What the macros expand to has no documentation.
#![allow(missing_docs)]

use gungraun::{library_benchmark, library_benchmark_group, main};
use gvahint_bench::flushes::{self, Vm};
use gvahint_bench::guest::{Guest, Mapping};
use gvahint_bench::maps::Map;
use gvahint_bench::ours::Table;
use gvahint_bench::pages::{Ageing, Lookups};
use gvahint_bench::peers::{btree::Tree, fifo::Fifos, hash::Hash, radix::Radix};
use gvahint_core::addr::Gva;
use std::hint::black_box;

/// Something to count.
trait Job {
    fn run(&self) -> u64;
}

impl<F: Fn() -> u64> Job for F {
    fn run(&self) -> u64 {
        self()
    }
}

type AnyJob = Box<dyn Job>;

/// Pages of a guest that is small enough to be built under callgrind; its table has the
/// levels of one up to 512 GiB.
const PAGES: u64 = 1 << 16;

fn guest() -> Guest {
    Guest {
        pages: PAGES,
        ..Guest::gib(1)
    }
}

fn lookups<M: Map + 'static>(guest: &Guest, count: u64, offset: u64) -> AnyJob {
    let all = Lookups::<M>::new(guest, count, offset);
    Box::new(move || all.run())
}

fn covered<M: Map + 'static>(count: u64) -> AnyJob {
    lookups::<M>(&guest(), count, 0)
}

/// Frames beyond those that were reported.
fn uncovered<M: Map + 'static>(count: u64) -> AnyJob {
    lookups::<M>(&guest(), count, PAGES)
}

fn in_2m_run(count: u64) -> AnyJob {
    let guest = Guest {
        mapping: Mapping::Large,
        ..guest()
    };
    lookups::<Table>(&guest, count, 0)
}

fn lookup_append(count: u64) -> AnyJob {
    let all = Ageing::new(&guest(), PAGES, count);
    Box::new(move || all.lookup_append())
}

/// In the table of a guest that needs one level more.
fn lookup_append_large(count: u64) -> AnyJob {
    let all = Ageing::new(&guest(), Guest::gib(1024).pages, count);
    Box::new(move || all.lookup_append())
}

fn plan(count: u64) -> AnyJob {
    let all = Ageing::new(&guest(), PAGES, count);
    Box::new(move || all.plan())
}

fn gvas(count: u64) -> Vec<Gva> {
    (0..count).map(flushes::gva).collect()
}

fn append(count: u64, vcpus: usize) -> AnyJob {
    let (vm, gvas) = (Vm::new(vcpus), gvas(count));
    Box::new(move || {
        vm.append(black_box(&gvas));
        count
    })
}

fn append_fifo(count: u64, vcpus: usize) -> AnyJob {
    let (vm, gvas) = (Fifos::new(vcpus), gvas(count));
    Box::new(move || {
        vm.append(black_box(&gvas));
        count
    })
}

fn drain(count: u64) -> AnyJob {
    let vm = Vm::new(1);
    vm.append(&gvas(count));
    Box::new(move || u64::from(vm.drain()))
}

fn drain_fifo(count: u64) -> AnyJob {
    let vm = Fifos::new(1);
    vm.append(&gvas(count));
    Box::new(move || {
        assert_eq!(vm.drain(), 0, "a FIFO overflowed");
        count
    })
}

fn pending(count: u64) -> AnyJob {
    let vm = Vm::new(1);
    vm.append(&gvas(1));
    Box::new(move || vm.pending(count))
}

/// A row of the report: who does it, with how many items, and what that is.
macro_rules! rows {
    ($($row:ident { $($id:ident: $job:expr;)+ })+) => {
        $(
            #[library_benchmark]
            $(#[bench::$id($job)])+
            fn $row(job: AnyJob) -> (AnyJob, u64) {
                let done = black_box(job.run());
                (job, done)
            }
        )+
        library_benchmark_group!(name = instructions, benchmarks = [$($row),+]);
    };
}

rows! {
    lookup_append_1gva {
        gvahint_500: lookup_append(500);
        gvahint_1000: lookup_append(1000);
    }
    lookup_append_1gva_1tib {
        gvahint_500: lookup_append_large(500);
        gvahint_1000: lookup_append_large(1000);
    }
    aged_1gva {
        gvahint_500: plan(500);
        gvahint_1000: plan(1000);
    }
    lookup_4k {
        gvahint_500: covered::<Table>(500);
        gvahint_1000: covered::<Table>(1000);
        btreemap_500: covered::<Tree>(500);
        btreemap_1000: covered::<Tree>(1000);
        hashbrown_500: covered::<Hash>(500);
        hashbrown_1000: covered::<Hash>(1000);
        radix_500: covered::<Radix>(500);
        radix_1000: covered::<Radix>(1000);
    }
    lookup_2m_run {
        gvahint_500: in_2m_run(500);
        gvahint_1000: in_2m_run(1000);
    }
    lookup_uncovered {
        gvahint_500: uncovered::<Table>(500);
        gvahint_1000: uncovered::<Table>(1000);
        btreemap_500: uncovered::<Tree>(500);
        btreemap_1000: uncovered::<Tree>(1000);
        hashbrown_500: uncovered::<Hash>(500);
        hashbrown_1000: uncovered::<Hash>(1000);
        radix_500: uncovered::<Radix>(500);
        radix_1000: uncovered::<Radix>(1000);
    }
    drain_per_gva {
        gvahint_200: drain(200);
        gvahint_400: drain(400);
        hyperv_fifo_7: drain_fifo(7);
        hyperv_fifo_14: drain_fifo(14);
    }
    pending_compare {
        gvahint_500: pending(500);
        gvahint_1000: pending(1000);
    }
    append_vcpus_1 {
        gvahint_7: append(7, 1);
        gvahint_14: append(14, 1);
        hyperv_fifo_7: append_fifo(7, 1);
        hyperv_fifo_14: append_fifo(14, 1);
    }
    append_vcpus_4 {
        gvahint_7: append(7, 4);
        gvahint_14: append(14, 4);
        hyperv_fifo_7: append_fifo(7, 4);
        hyperv_fifo_14: append_fifo(14, 4);
    }
    append_vcpus_16 {
        gvahint_7: append(7, 16);
        gvahint_14: append(14, 16);
        hyperv_fifo_7: append_fifo(7, 16);
        hyperv_fifo_14: append_fifo(14, 16);
    }
    append_vcpus_64 {
        gvahint_7: append(7, 64);
        gvahint_14: append(14, 64);
        hyperv_fifo_7: append_fifo(7, 64);
        hyperv_fifo_14: append_fifo(14, 64);
    }
    append_vcpus_256 {
        gvahint_7: append(7, 256);
        gvahint_14: append(14, 256);
        hyperv_fifo_7: append_fifo(7, 256);
        hyperv_fifo_14: append_fifo(14, 256);
    }
    append_vcpus_1024 {
        gvahint_7: append(7, 1024);
        gvahint_14: append(14, 1024);
        hyperv_fifo_7: append_fifo(7, 1024);
        hyperv_fifo_14: append_fifo(14, 1024);
    }
}

main!(library_benchmark_groups = instructions);
