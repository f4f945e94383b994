// SPDX-License-Identifier: GPL-2.0

//! The hint table, case by case.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod storage;

use gvahint_core::addr::MapSize;
use gvahint_core::plan::Reason;
use gvahint_core::policy::LinearAlias;
use gvahint_core::table::Shape;
use gvahint_core::wire::Errno;
use storage::{header, Storage, ANYWHERE, KERNEL_ONLY, MAPPED, PAGE_TABLE, REVOKED, TOO_MANY};

const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;

fn table() -> Storage {
    Storage::new(4096, 64)
}

#[test]
fn a_new_table_covers_nothing() {
    let t = table();
    assert_eq!(t.lookup(0), Err(Reason::NoHint));
    assert_eq!(t.lookup((1 << 27) - 1), Err(Reason::NoHint));
    assert_eq!(t.lookup(1 << 27), Err(Reason::NoRoom));
    assert_eq!(t.lookup((1 << 40) - 1), Err(Reason::NoRoom));
}

#[test]
fn one_gva_of_either_half() {
    let mut t = table();
    for gva in [0, 0x1000, 0x7fff_ffff_f000, 0xffff_8000_0000_0000, !0xfff] {
        t.set(7, 0, MAPPED, &[gva]).unwrap();
        assert_eq!(t.lookup(7), Ok(vec![gva]));
    }
    assert_eq!(t.lookup(6), Err(Reason::NoHint));
    assert_eq!(t.lookup(8), Err(Reason::NoHint));
    assert_eq!(t.state.hints(), 1);
}

#[test]
fn five_level_addresses() {
    let mut t = table();
    t.bits = gvahint_core::addr::VaBits::Bits57;
    let gvas = [
        0xff_ffff_ffff_f000,
        0xff00_0000_0000_0000,
        0x1_0000_0000_0000,
    ];
    for gva in gvas {
        t.set(7, 0, MAPPED, &[gva]).unwrap();
        assert_eq!(t.lookup(7), Ok(vec![gva]));
    }
    t.set(7, 0, MAPPED, &gvas).unwrap();
    assert_eq!(t.lookup(7), Ok(gvas.to_vec()));
}

#[test]
fn several_gvas_up_to_the_limit() {
    let mut t = table();
    for n in 2..=7 {
        let gvas: Vec<u64> = (0..n).map(|i| DIRECT_MAP + (i << 12)).collect();
        t.set(9, 0, MAPPED, &gvas).unwrap();
        assert_eq!(t.lookup(9), Ok(gvas));
    }
}

#[test]
fn a_set_of_an_order_is_expanded_over_its_range() {
    let mut t = table();
    for order in 0..=9 {
        let (gfn, pages) = (1024, 1u64 << order);
        for gvas in [&[0x4000_0000][..], &[0x4000_0000, DIRECT_MAP]] {
            t.clear();
            t.set(gfn, order, MAPPED, gvas).unwrap();
            assert_eq!(t.state.hints(), pages);
            for page in 0..pages {
                let expect = gvas.iter().map(|gva| gva + (page << 12)).collect();
                assert_eq!(t.lookup(gfn + page), Ok(expect), "{order} {page}");
            }
            assert_eq!(t.lookup(gfn - 1), Err(Reason::NoHint));
            assert_eq!(t.lookup(gfn + pages), Err(Reason::NoHint));
        }
    }
}

#[test]
fn the_size_of_the_guests_mapping_is_kept() {
    let mut t = table();
    t.set(3, 0, MAPPED, &[0x20_3000 | 9]).unwrap();
    assert_eq!(t.sized(3), [(0x20_3000, MapSize::M2M)]);
    t.set(3, 0, MAPPED, &[0x4000_3000 | 18, 0x5000]).unwrap();
    assert_eq!(
        t.sized(3),
        [(0x4000_3000, MapSize::M1G), (0x5000, MapSize::M4K)]
    );
}

#[test]
fn kinds_that_do_not_cover() {
    let mut t = table();
    for (kind, reason) in [
        (KERNEL_ONLY, Reason::KernelOnly),
        (PAGE_TABLE, Reason::PageTable),
        (REVOKED, Reason::NoHint),
    ] {
        t.set(512, 9, MAPPED, &[0x1000, 0x40_1000]).unwrap();
        assert!(t.lookup(700).is_ok());
        t.set(512, 9, kind, &[]).unwrap();
        assert_eq!(t.lookup(512), Err(reason));
        assert_eq!(t.lookup(1023), Err(reason));
    }
}

#[test]
fn kinds_whose_gvas_are_not_listed() {
    for kind in [TOO_MANY, ANYWHERE] {
        let mut t = table();
        // By order: in 4K slots, and in one of 2M that then is split.
        t.set(64, 4, kind, &[]).unwrap();
        t.set(512, 9, kind, &[]).unwrap();
        t.set(600, 0, MAPPED, &[0x1000]).unwrap();
        for gfn in [64, 79, 512, 599, 601, 1023] {
            assert_eq!(t.lookup(gfn), Ok(vec![]), "{kind} {gfn}");
        }
        assert_eq!(t.lookup(600), Ok(vec![0x1000]));
        assert_eq!(t.lookup(80), Err(Reason::NoHint));
        t.set(64, 0, PAGE_TABLE, &[]).unwrap();
        assert_eq!(t.lookup(64), Err(Reason::PageTable));
        // The linear ranges say no more.
        t.alias = LinearAlias::Always;
        assert_eq!(t.lookup(65), Ok(vec![]));
        t.now_ms += 60_000;
        assert_eq!(t.lookup(65), Err(Reason::Aged));
    }
}

#[test]
fn revoking_one_page_of_a_run_leaves_the_others() {
    let mut t = table();
    t.set(512, 8, MAPPED, &[0x1000, DIRECT_MAP]).unwrap();
    t.set(600, 0, REVOKED, &[]).unwrap();
    assert_eq!(t.lookup(600), Err(Reason::NoHint));
    assert!(t.lookup(599).is_ok() && t.lookup(601).is_ok());
    assert_eq!(t.state.hints(), 255);
    t.writer().revoke(0, u64::MAX);
    assert_eq!(t.state.hints(), 0);
}

#[test]
fn revoking_one_page_of_2m_revokes_all_of_it_without_memory() {
    let mut t = table();
    for gvas in [&[0x1000][..], &[0x1000, DIRECT_MAP]] {
        t.set(512, 9, MAPPED, gvas).unwrap();
        t.set(1024, 9, MAPPED, gvas).unwrap();
        let held = t.nodes.len();
        t.set(600, 0, REVOKED, &[]).unwrap();
        assert_eq!(t.lookup(512), Err(Reason::NoHint));
        assert_eq!(t.lookup(1023), Err(Reason::NoHint));
        assert!(t.lookup(1024).is_ok());
        assert_eq!((t.state.hints(), t.nodes.len()), (512, held));
    }
}

#[test]
fn a_set_within_2m_splits_it() {
    for gvas in [&[0x1000][..], &[0x1000, DIRECT_MAP]] {
        let mut t = table();
        t.set(512, 9, MAPPED, gvas).unwrap();
        t.set(600, 1, MAPPED, &[0x50_0000]).unwrap();
        for page in 0..512u64 {
            let expect = match page {
                88 | 89 => vec![0x50_0000 + ((page - 88) << 12)],
                _ => gvas.iter().map(|gva| gva + (page << 12)).collect(),
            };
            assert_eq!(t.lookup(512 + page), Ok(expect), "{page}");
        }
        assert_eq!(t.state.hints(), 512);
        // And 2M again.
        t.set(512, 9, MAPPED, gvas).unwrap();
        assert!(t.lookup(600).is_ok());
        t.set(512, 9, REVOKED, &[]).unwrap();
        t.reap();
        assert_eq!(t.state.hints(), 0);
        assert_eq!(t.used(), 0);
    }
}

#[test]
fn the_whole_space() {
    let mut t = Storage::new(1 << 40, 64);
    let all = [0, 511, 1 << 18, 1 << 27, 1 << 36, (1 << 40) - 1];
    for gfn in all {
        t.set(gfn, 0, MAPPED, &[gfn << 12 & 0x7fff_ffff_f000])
            .unwrap();
    }
    for gfn in all {
        assert_eq!(t.lookup(gfn), Ok(vec![gfn << 12 & 0x7fff_ffff_f000]));
        assert_eq!(t.lookup(gfn ^ 2), Err(Reason::NoHint));
    }
    let used = t.used();
    t.set((1 << 40) - 512, 9, MAPPED, &[0x1000]).unwrap();
    assert_eq!(t.used(), used - 1);
    t.writer().revoke(512, (1 << 40) - 512);
    t.reap();
    assert_eq!(t.lookup(0), Ok(vec![0]));
    assert_eq!(t.state.hints(), 2);
    t.writer().revoke(0, u64::MAX);
    t.reap();
    assert_eq!(t.used(), 0);
}

#[test]
fn what_was_before_a_clear_does_not_come_back() {
    let mut t = table();
    t.set(512, 9, MAPPED, &[0x1000, DIRECT_MAP]).unwrap();
    t.set(5, 0, MAPPED, &[0x1000]).unwrap();
    t.clear();
    assert_eq!(t.state.hints(), 0);
    assert_eq!(t.lookup(5), Err(Reason::NoHint));
    assert_eq!(t.lookup(600), Err(Reason::NoHint));
    // Not even when a neighbour brings the chunk back to life.
    t.set(6, 0, MAPPED, &[0x9000]).unwrap();
    t.set(513, 0, MAPPED, &[0xa000, 0xb000]).unwrap();
    assert_eq!(t.lookup(5), Err(Reason::NoHint));
    assert_eq!(t.lookup(600), Err(Reason::NoHint));
    assert_eq!(t.lookup(513), Ok(vec![0xa000, 0xb000]));
    assert_eq!(t.state.hints(), 2);
}

#[test]
fn ranges_that_leave_the_memslots() {
    for (gfn, pages) in [(500, 600), (512, 512), (0, 1 << 40), (600, 1)] {
        let mut t = table();
        for half in 0..16 {
            t.set(half * 256, 8, MAPPED, &[0x1000, DIRECT_MAP]).unwrap();
        }
        t.writer().revoke(gfn, pages);
        for at in 0..4096 {
            let gone = (gfn..gfn + pages).contains(&at);
            assert_eq!(t.lookup(at).is_err(), gone, "{gfn} {pages} {at}");
        }
    }
}

#[test]
fn a_report_is_applied_up_to_the_first_bad_set() {
    let mut t = table();
    let good = [header(1, 0, MAPPED, 1), 0x1000];
    let bad = [header(2, 0, 0, 0)];
    for (words, sets, word) in [
        (vec![], Ok(0), None),
        (good.to_vec(), Ok(1), None),
        ([&good[..], &good].concat(), Ok(2), None),
        ([&good[..], &bad, &good].concat(), Ok(1), Some(2)),
        (bad.to_vec(), Err(Errno::Inval), Some(0)),
    ] {
        let applied = t.apply(&words);
        assert_eq!(applied.answer(), sets);
        assert_eq!(applied.refused.and_then(|error| error.word), word);
    }
    // No memory for another 2M.
    t = Storage::new(4096, 3);
    let other = [header(600, 0, MAPPED, 1), 0x1000];
    let applied = t.apply(&[&good[..], &other].concat());
    assert_eq!((applied.sets, applied.refused.unwrap().word), (1, Some(2)));
    assert_eq!(t.apply(&other).answer(), Err(Errno::TooBig));
    // A truncated set changes nothing.
    t.set(5, 0, MAPPED, &[0x5000]).unwrap();
    let _ = t.apply(&[header(5, 0, MAPPED, 2), 0x1000]);
    assert_eq!(t.lookup(5), Ok(vec![0x5000]));
}

#[test]
fn shapes() {
    for (max_gfn, reach) in [
        (0, 27),
        (1 << 27, 27),
        ((1 << 27) + 1, 36),
        (1 << 36, 36),
        ((1 << 36) + 1, 40),
        (1 << 40, 40),
    ] {
        assert_eq!(Shape::new(max_gfn).unwrap().max_gfn(), 1 << reach);
    }
    assert!(Shape::new((1 << 40) + 1).is_none());
    let mut t = table();
    t.set((1 << 27) - 1, 0, MAPPED, &[0x1000]).unwrap();
    assert!(t.lookup((1 << 27) - 1).is_ok());
    assert_eq!(t.set(1 << 27, 0, MAPPED, &[0x1000]), Err(Errno::TooBig));
}

#[test]
fn one_report_speaks_of_1g_at_most() {
    let mut t = table();
    let words = [
        header(1 << 18, 17, MAPPED, 1),
        0x4000_0000,
        header(1 << 19, 18, MAPPED, 1),
        0x4000_0000,
        header(5, 0, MAPPED, 1),
        0x1000,
    ];
    assert_eq!(t.apply(&words).answer(), Ok(2));
    assert_eq!(t.apply(&words[2..]).answer(), Ok(1));
    assert_eq!(t.apply(&words[4..]).answer(), Ok(1));
    assert_eq!(t.lookup((1 << 19) + 7), Ok(vec![0x4000_7000]));
}
