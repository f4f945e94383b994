// SPDX-License-Identifier: GPL-2.0
//! What reporting costs a guest, in its own instructions.
//!
//! The guest makes marks between blocks of equal work; the machine counts what it executed in between,
//! whoever did it: the process, the kernel, interrupts, the reporter's thread. The same operations run in
//! a guest without our series, with it, and with a reporter at work.

use crate::guest::{image, Guest, Plan};
use crate::mailbox::Phase;
use anyhow::{ensure, Context, Result};
use gvahint_vm::age::PageIdle;
use gvahint_vm::knobs::{Knobs, Policy};
use gvahint_vm::tax::{Reporter, Tax};
use gvahint_vm::{module, sys, PAGE};
use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Operations, and how many make a block: some ten million instructions.
pub const OPERATIONS: [(&str, u64); 6] = [
    ("page_fault", 16_384),
    ("fork_exit", 400),
    ("mmap_touch_munmap", 1_000),
    ("mremap", 8_000),
    ("mremap_table", 8_000),
    ("exec", 100),
];
/// Blocks that count; one more comes before them.
pub const BLOCKS: usize = 3;
/// Marks with nothing between them, before all blocks.
pub const BARE_MARKS: usize = 4;
/// The name by which the guest's program ends at once.
pub const NOTHING: &CStr = c"nothing";

/// What a sweep's guest tells, in this order.
pub const SWEEP_FIGURES: [&str; 6] = [
    "sweep_ms",
    "swept",
    "pages_mapped",
    "pages_kernel",
    "pages_page_table",
    "pages_too_many",
];
/// How long it stays idle: two of the longest intervals in which the reporter asks.
pub const IDLE_MS: u64 = 4_000;
/// Time in which the reporter is asked for what was aged.
pub const ASKED_MS: u64 = 4_000;

/// Kernel without our series, where the machine has one.
const UNPATCHED: &str = "unpatched";

/// Machine time that a guest may take for all of it.
const LIMIT: Duration = Duration::from_secs(600);

const HINT: Policy = Policy::new("hint", "batched");

/// Prints a `TAX` line for each operation and a `REPORTER` line for each of two guests.
pub fn run() -> Result<()> {
    sys::pin(0, 0)?;
    if !module::loaded("gvahint") {
        module::insert("gvahint")?;
    }
    let mut knobs = Knobs::new();
    knobs.policy("clear_young", HINT)?;
    for tax in operations()? {
        tax.print()?;
    }
    for mapped in [1, 64] {
        reporter(mapped)?.print()?;
    }
    Ok(())
}

fn operations() -> Result<Vec<Tax>> {
    let mut all = OPERATIONS.map(|(operation, count)| Tax {
        operation: operation.to_owned(),
        count,
        ..Tax::default()
    });
    type Place = fn(&mut Tax) -> &mut Option<f64>;
    let settings: [(&str, bool, bool, Place); 4] = [
        (UNPATCHED, false, false, |tax| &mut tax.absent),
        ("vmlinux", false, false, |tax| &mut tax.off),
        ("vmlinux", true, false, |tax| &mut tax.quiet),
        ("vmlinux", true, true, |tax| &mut tax.on),
    ];
    for (kernel, reporter, aged, place) in settings {
        if !image(kernel).exists() {
            println!("# there is no kernel {kernel}: not measured");
            continue;
        }
        let mut plan = Plan::new("tax", 0);
        plan.kernel = kernel.to_owned();
        plan.reporter = reporter;
        println!("# {kernel}, reporter {reporter}, aged {aged}");
        let blocks = measure(&plan, aged)?;
        for (tax, blocks) in all.iter_mut().zip(blocks) {
            let mean = blocks.iter().sum::<f64>() / blocks.len() as f64;
            println!("# {}: {blocks:.1?}", tax.operation);
            *place(tax) = Some(mean);
            if !aged {
                let far = blocks.iter().map(|block| (block / mean - 1.0).abs());
                tax.spread = far.fold(tax.spread, f64::max);
            }
        }
    }
    Ok(all.into())
}

/// Instructions for each operation, block by block.
fn measure(plan: &Plan, aged: bool) -> Result<Vec<Vec<f64>>> {
    let mut guest = Guest::boot(plan)?;
    let reports = guest.reports()?;
    ensure!(
        reports == plan.reporter,
        "the guest {} report",
        if reports { "does" } else { "doesn't" }
    );
    let total = BARE_MARKS + OPERATIONS.len() * (BLOCKS + 1);
    let marks = follow(&mut guest, total, |guest, number| {
        if aged && number + 1 >= BARE_MARKS {
            age(guest)?;
        }
        Ok(())
    })?;
    finish(guest)?;
    let between: Vec<u64> = marks.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let (bare, blocks) = between.split_at(BARE_MARKS - 1);
    // A timer's tick may fall between two.
    let mark = bare.iter().copied().min().unwrap_or(0);
    let blocks: Vec<u64> = blocks.iter().map(|block| block - mark).collect();
    let each = OPERATIONS.iter().zip(blocks.chunks(BLOCKS + 1));
    // The first block fills caches of the kernel's.
    let per_operation = |((_, count), blocks): (&(_, u64), &[u64])| {
        let counted = blocks.iter().skip(1);
        counted.map(|n| *n as f64 / *count as f64).collect()
    };
    Ok(each.map(per_operation).collect())
}

/// Waits for `total` marks, and calls `at` with each one's number, soon after it was made.
fn follow(
    guest: &mut Guest,
    total: usize,
    at: impl Fn(&Guest, usize) -> Result<()>,
) -> Result<Vec<u64>> {
    let (start, mut seen) = (Instant::now(), 0);
    loop {
        let marks = guest.marks();
        while seen < marks.len() {
            at(guest, seen)?;
            seen += 1;
        }
        if seen >= total {
            return Ok(marks);
        }
        guest.await_phase(Phase::Running, LIMIT)?;
        ensure!(
            start.elapsed() < LIMIT,
            "{seen} of {total} marks; console:\n{}",
            guest.console()
        );
        sys::sleep_ms(1);
    }
}

/// Ages all of the guest's memory that is there.
fn age(guest: &Guest) -> Result<()> {
    const PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;
    let base = guest.hva(0).context("a guest of this process is needed")?;
    let mut entries = vec![0; guest.pages() as usize * 8];
    let pagemap = File::open("/proc/self/pagemap").context("pagemap")?;
    pagemap.read_exact_at(&mut entries, base / PAGE * 8)?;
    let entries = entries.as_chunks().0.iter().map(|e| u64::from_le_bytes(*e));
    let there = entries.filter(|entry| entry & PRESENT != 0);
    let frames: Vec<u64> = there.map(|entry| entry & FRAME).collect();
    PageIdle::open()?.mark(&frames)
}

fn finish(mut guest: Guest) -> Result<()> {
    guest.finish()?;
    guest.check_console()
}

/// What the reporter does in a guest of which so much is mapped.
fn reporter(mapped_mib: u64) -> Result<Reporter> {
    let mut plan = Plan::new("sweep", mapped_mib);
    plan.reporter = false;
    let mut guest = Guest::boot(&plan)?;
    // Idle without it, the sweep, idle with it, asked: two marks each, and one when all is said.
    let marks = follow(&mut guest, 9, |guest, number| match number {
        6 => age(guest),
        _ => Ok(()),
    })?;
    let figures = (0..=SWEEP_FIGURES.len() as u64)
        .map(|index| guest.figure(index))
        .collect::<Result<Vec<u64>>>()?;
    finish(guest)?;
    let between = |first: usize| marks[first + 1] - marks[first];
    let [sweep_ms, swept, reported @ .., asked] = &figures[..] else {
        unreachable!("as many figures as were read");
    };
    let per_second = |instructions: u64| instructions * 1_000 / IDLE_MS;
    let (idle, steady) = (per_second(between(0)), per_second(between(4)));
    let sweep = between(2).saturating_sub(idle * sweep_ms / 1_000);
    let asking = between(6).saturating_sub(steady * ASKED_MS / 1_000);
    Ok(Reporter {
        memory_mib: plan.memory,
        mapped_mib,
        sweep_ms: *sweep_ms,
        swept: *swept,
        reported: reported.iter().sum(),
        sweep_instructions: sweep,
        sweep_instructions_per_gib: sweep * 1_024 / plan.memory,
        idle_instructions_per_s: idle,
        steady_instructions_per_s: steady,
        asked: *asked,
        instructions_per_asked: asking as f64 / (*asked).max(1) as f64,
    })
}
