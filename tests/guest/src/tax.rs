// SPDX-License-Identifier: GPL-2.0
//! What reporting costs a guest, in its own instructions.
//!
//! The guest makes marks between blocks of equal work; the machine counts what it executed in between,
//! whoever did it: the process, the kernel, interrupts, the reporter's thread. The same operations run in
//! a guest without our series, and in one with it: before the reporter is loaded, after but switched off,
//! switched on, and while the host ages. Between two boots memory lies elsewhere, which is some percent of
//! a fork, and whatever else happens in a guest moves some: to read a file is half a percent of an exec.
//! So what is compared comes from guests that did the same until then, and from some boots, which differ
//! in their command lines.

use crate::guest::{image, Guest, Plan};
use crate::mailbox::Phase;
use anyhow::{ensure, Context, Result};
use gvahint_vm::age::PageIdle;
use gvahint_vm::knobs::{Knobs, Policy};
use gvahint_vm::tax::{Blocks, Reporter, Tax};
use gvahint_vm::{module, sys, PAGE};
use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Operations, and how many make a block: some hundred million instructions.
pub const OPERATIONS: [(&str, u64); 6] = [
    ("page_fault", 16_384),
    ("fork_exit", 400),
    ("mmap_touch_munmap", 1_000),
    ("mremap", 8_000),
    ("mremap_table", 8_000),
    ("exec", 100),
];
/// Blocks that count; one more comes before them.
pub const BLOCKS: usize = 2;
/// Before each block one in so many pages is aged: all of them once in a thousand million instructions.
const AGED_PARTS: usize = 12;
/// Marks with nothing between them, before all blocks.
pub const BARE_MARKS: usize = 4;
/// Settings, in the order in which a guest has them: no reporter; one that is disabled; enabled; and while
/// the host ages.
pub const SETTINGS: [&str; 4] = ["off", "disabled", "quiet", "on"];
/// Workloads, by how many of these they have.
pub const WORKS: [(&str, usize); 3] = [("tax_off", 1), ("tax_quiet", 3), ("tax_on", 4)];
/// Boots of each kernel that are compared.
const BOOTS: usize = 5;
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

const PATCHED: &str = "vmlinux";
/// Kernel without our series, where the machine has one.
const UNPATCHED: &str = "unpatched";

/// Machine time that a guest may take for all of it.
const LIMIT: Duration = Duration::from_secs(600);

const HINT: Policy = Policy::new("hint", "batched");

/// Prints a `TAX` line for each operation and a `REPORTER` line for each of two guests.
pub fn run() -> Result<()> {
    sys::pin(0, 0)?;
    module::provide("gvahint")?;
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
    let names = OPERATIONS.into_iter();
    let mut all: Vec<Tax> = names
        .map(|(operation, count)| Tax {
            operation: operation.to_owned(),
            count,
            ..Tax::default()
        })
        .collect();
    let has_unpatched = image(UNPATCHED).exists();
    if !has_unpatched {
        println!("# there is no kernel {UNPATCHED}: not measured");
    }
    for boot in 0..BOOTS {
        let absent = match has_unpatched {
            true => measure(UNPATCHED, WORKS[0], boot)?,
            false => Vec::new(),
        };
        let with = measure(PATCHED, WORKS[if boot == 0 { 2 } else { 1 }], boot)?;
        for (n, tax) in all.iter_mut().enumerate() {
            if let Some(absent) = absent.get(n) {
                tax.add_absent(&absent[0]);
            }
            tax.add_with(&with[n]);
        }
    }
    Ok(all)
}

/// Boots a guest for the so many-eth time and measures each operation in so many settings. In the last of
/// all the guest's memory is aged, all of it at first, and then a part before each block.
fn measure(kernel: &str, work: (&str, usize), boot: usize) -> Result<Vec<Vec<Blocks>>> {
    let (work, settings) = work;
    println!("# {kernel}, boot {boot}");
    let mut plan = Plan::new(work, 0);
    plan.kernel = kernel.to_owned();
    plan.reporter = false;
    plan.append = format!("gvahint.boot={}", "x".repeat(boot));
    let mut guest = Guest::boot(&plan)?;
    let blocks = OPERATIONS.len() * (BLOCKS + 1);
    // A mark begins each setting.
    let per_setting = 1 + blocks;
    let total = BARE_MARKS + settings * per_setting;
    let marks = follow(&mut guest, total, |guest, number| {
        let place = number
            .checked_sub(BARE_MARKS)
            .map(|n| (n / per_setting, n % per_setting));
        match place {
            // What was in use since the boot is aged before anything counts.
            Some((setting, 0)) if SETTINGS[setting] == "on" => age(guest, 0, 1),
            Some((setting, n)) if SETTINGS[setting] == "on" => {
                age(guest, n % AGED_PARTS, AGED_PARTS)
            }
            _ => Ok(()),
        }
    })?;
    finish(guest)?;
    let (bare, marks) = marks.split_at(BARE_MARKS);
    // A timer's tick may fall between two.
    let mark = bare.windows(2).map(|pair| pair[1] - pair[0]).min();
    let mut all = vec![Vec::new(); OPERATIONS.len()];
    for marks in marks.chunks(per_setting) {
        let blocks: Vec<u64> = marks.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (n, blocks) in blocks.chunks(BLOCKS + 1).enumerate() {
            let (operation, count) = OPERATIONS[n];
            // The first block fills caches of the kernel's.
            let counted = blocks[1..].iter().map(|n| n - mark.unwrap_or(0));
            let each: Blocks = counted.map(|n| n as f64 / count as f64).collect();
            println!("# {operation}: {each:.1?}");
            all[n].push(each);
        }
    }
    Ok(all)
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

/// Ages one in `parts` of the guest's pages that are there.
fn age(guest: &Guest, part: usize, parts: usize) -> Result<()> {
    const PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;
    let base = guest.hva(0).context("a guest of this process is needed")?;
    let mut entries = vec![0; guest.pages() as usize * 8];
    let pagemap = File::open("/proc/self/pagemap").context("pagemap")?;
    pagemap.read_exact_at(&mut entries, base / PAGE * 8)?;
    let entries = entries.as_chunks().0.iter().map(|e| u64::from_le_bytes(*e));
    let there = entries.filter(|entry| entry & PRESENT != 0);
    let frames = there.map(|entry| entry & FRAME).skip(part).step_by(parts);
    let frames: Vec<u64> = frames.collect();
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
        6 => age(guest, 0, 1),
        _ => Ok(()),
    })?;
    let figures = (0..=SWEEP_FIGURES.len() as u64)
        .map(|index| guest.figure(index))
        .collect::<Result<Vec<u64>>>()?;
    let memory_mib = (guest.pages() * PAGE) >> 20;
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
        memory_mib,
        mapped_mib,
        sweep_ms: *sweep_ms,
        swept: *swept,
        reported: reported.iter().sum(),
        sweep_instructions: sweep,
        sweep_instructions_per_gib: sweep * 1_024 / memory_mib,
        idle_instructions_per_s: idle,
        steady_instructions_per_s: steady,
        asked: *asked,
        instructions_per_asked: asking as f64 / (*asked).max(1) as f64,
    })
}
