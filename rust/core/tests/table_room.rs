// SPDX-License-Identifier: GPL-2.0

//! What the hint table does with the memory that it has, and without any more.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod storage;

use gvahint_core::addr::VaBits;
use gvahint_core::plan::Reason;
use gvahint_core::report::{self, Limits, Sets};
use gvahint_core::wire::Errno;
use storage::{header, Storage, MAPPED, REVOKED, TOO_MANY};

const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;

#[test]
fn a_split_that_finds_no_memory_uncovers() {
    // Root, node of 2M, node of cells: nothing left for a split.
    let mut t = Storage::new(4096, 3);
    t.set(512, 9, MAPPED, &[0x1000, DIRECT_MAP]).unwrap();
    t.set(1024, 9, MAPPED, &[0x1000]).unwrap();
    let refused = t.set(600, 0, MAPPED, &[0x7000]);
    assert_eq!(refused, Err(Errno::TooBig));
    assert_eq!(t.lookup(600), Err(Reason::NoHint));
    assert_eq!(t.lookup(512), Err(Reason::NoHint), "it said too much");
    // What was right stays.
    assert_eq!(t.lookup(1024), Ok(vec![0x1000]));
    assert_eq!(t.state.hints(), 512);
}

#[test]
fn memory_is_bounded_and_comes_back() {
    // Root, node of 2M, one of 4K, one of 63 cells.
    let mut t = Storage::new(4096, 4);
    let two = [0x1000, DIRECT_MAP];
    for round in 0..5 {
        for gfn in 0..63 {
            t.set(gfn, 0, MAPPED, &two).unwrap();
        }
        // No room for its gVAs: a flush of the context serves, and what was known is not the truth any more.
        t.set(100, 0, MAPPED, &[0x7000]).unwrap();
        t.set(100, 0, MAPPED, &two).unwrap();
        assert_eq!(t.lookup(100), Ok(vec![]));
        assert_eq!(t.state.take_shortened(), 1);
        assert_eq!(t.lookup(1), Ok(two.to_vec()));
        // A page's own cell is room enough.
        let other = [0x5000, 0x6000, 0x7000];
        t.set(1, 0, MAPPED, &other).unwrap();
        assert_eq!(t.lookup(1), Ok(other.to_vec()));
        // One gVA needs none, but a node for its neighbours.
        t.set(100, 0, MAPPED, &[0x7000]).unwrap();
        for gvas in [&[0x7000][..], &two] {
            assert_eq!(t.set(600, 0, MAPPED, gvas), Err(Errno::TooBig));
            assert_eq!(t.lookup(600), Err(Reason::NoHint));
        }
        match round % 3 {
            0 => t.clear(),
            1 => t.set(0, 9, REVOKED, &[]).unwrap(),
            _ => t.set(0, 9, TOO_MANY, &[]).unwrap(),
        }
        t.reap();
        assert!(t.nodes.len() <= 2, "{}", t.nodes.len());
    }
    t.clear();
    t.reap();
    assert_eq!(t.nodes.len(), 0);
}

#[test]
fn memory_per_page() {
    // 1 GiB of single pages.
    let mut t = Storage::new(1 << 27, usize::MAX);
    for gfn in 0..1 << 18 {
        t.set(gfn, 0, MAPPED, &[gfn << 12]).unwrap();
    }
    let bytes = t.used() * 4096;
    assert!(bytes * 10 <= 81 << 18, "{bytes}");
    // 64 GiB by 2M.
    let mut t = Storage::new(1 << 27, usize::MAX);
    for at in 0..1u64 << 15 {
        t.set(at << 9, 9, MAPPED, &[at << 21 | 9]).unwrap();
    }
    let bytes = t.used() * 4096;
    assert!(bytes * 10 <= 1 << 24, "{bytes}");
}

#[test]
fn a_cell_looks_new_until_a_grace_period_has_passed() {
    let mut t = Storage::new(512, 64);
    t.grow();
    t.state.set_exhausted(true);
    let words = [header(1, 0, MAPPED, 2), 0x1000, 0x2000];
    let limits = Limits {
        bits: VaBits::Bits48,
        max_gfn: 512,
    };
    let report = |t: &mut Storage| {
        let sets = &mut Sets::new(&words, limits);
        report::apply(sets, 0, &mut t.writer(), 1, |_, _| true).answer()
    };
    // Half of the versions are enough to ask for one; without it, gVAs are
    // refused before a version comes again.
    let mut asked = 0;
    let refused = (0..1 << 16).find(|_| {
        asked += u32::from(!t.state.needs_grace());
        assert_eq!(report(&mut t), Ok(1));
        t.state.take_shortened() > 0
    });
    assert_eq!((asked, refused), (1 << 14, Some((1 << 15) - 1)));
    assert_eq!(t.lookup(1), Ok(vec![]));
    t.state.grace_passed();
    assert_eq!(report(&mut t), Ok(1));
    assert_eq!(t.lookup(1), Ok(vec![0x1000, 0x2000]));
}
