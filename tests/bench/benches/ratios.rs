// SPDX-License-Identifier: GPL-2.0

//! Times by criterion, ours and the rivals' in one run; `src/ratios.rs` divides them.

use criterion::{measurement::WallTime, BenchmarkGroup, BenchmarkId, Criterion, SamplingMode};
use gvahint_bench::flushes::{self, Vm};
use gvahint_bench::guest::{scatter, Guest};
use gvahint_bench::maps::Map;
use gvahint_bench::ours::Table;
use gvahint_bench::peers::{btree::Tree, fifo::Fifos, hash::Hash, radix::Radix};
use std::hint::black_box;
use std::time::Duration;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Looked up in turn; the frames of a table of 64 GiB do not fit a cache.
const FRAMES: u64 = 1 << 20;

fn build<M: Map>(group: &mut Group<'_>, guest: &Guest) {
    group.bench_function(M::NAME, |b| {
        b.iter_custom(|times| (0..times).map(|_| M::build(guest).1).sum());
    });
}

fn lookup<M: Map>(group: &mut Group<'_>, guest: &Guest) {
    let (map, _) = M::build(guest);
    let mut n = 0;
    group.bench_function(M::NAME, |b| {
        b.iter(|| {
            n = (n + 1) % FRAMES;
            black_box(map.lookup(scatter(n, guest.pages)))
        });
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let guest = Guest::gib(64);

    let mut group = criterion.benchmark_group("table_build_64gib");
    group.sampling_mode(SamplingMode::Flat);
    build::<Table>(&mut group, &guest);
    build::<Tree>(&mut group, &guest);
    build::<Hash>(&mut group, &guest);
    build::<Radix>(&mut group, &guest);
    group.finish();

    let mut group = criterion.benchmark_group("lookup_time");
    lookup::<Table>(&mut group, &guest);
    lookup::<Tree>(&mut group, &guest);
    lookup::<Hash>(&mut group, &guest);
    lookup::<Radix>(&mut group, &guest);
    group.finish();

    // As many as a FIFO holds, and the drain that makes room for the next.
    let mut group = criterion.benchmark_group("append_64_vcpus_time");
    let gvas: Vec<_> = (0..14).map(flushes::gva).collect();
    let (vm, fifos) = (Vm::new(64), Fifos::new(64));
    group.bench_function(BenchmarkId::from_parameter(Table::NAME), |b| {
        b.iter(|| {
            vm.append(black_box(&gvas));
            black_box(vm.drain())
        });
    });
    group.bench_function(BenchmarkId::from_parameter(Fifos::NAME), |b| {
        b.iter(|| {
            fifos.append(black_box(&gvas));
            black_box(fifos.drain())
        });
    });
    group.finish();
    criterion.final_summary();
}
