// SPDX-License-Identifier: GPL-2.0

//! The hint table, case by case.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod storage;

use gvahint_core::addr::MapSize;
use gvahint_core::plan::Reason;
use gvahint_core::policy::LinearAlias::{self, Always, Auto, Never};
use gvahint_core::table::Shape;
use gvahint_core::wire::Errno;
use storage::{header, Storage, KERNEL_ONLY, MAPPED, PAGE_TABLE, REVOKED, TOO_MANY};

const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;

fn table(cells: u32) -> Storage {
    Storage::new(4096, cells)
}

#[test]
fn a_new_table_covers_nothing() {
    let t = table(1);
    assert_eq!(t.lookup(0), Err(Reason::NoHint));
    assert_eq!(t.lookup(4095), Err(Reason::NoHint));
    assert_eq!(t.lookup(4096), Err(Reason::NoRoom));
    assert_eq!(t.lookup((1 << 40) - 1), Err(Reason::NoRoom));
}

#[test]
fn one_gva_of_either_half() {
    let mut t = table(0);
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
    let mut t = table(1);
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
    let mut t = table(1);
    for n in 2..=7 {
        let gvas: Vec<u64> = (0..n).map(|i| DIRECT_MAP + (i << 12)).collect();
        t.set(9, 0, MAPPED, &gvas).unwrap();
        assert_eq!(t.lookup(9), Ok(gvas));
    }
}

#[test]
fn a_set_of_an_order_is_expanded_over_its_range() {
    let mut t = table(1);
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
    let mut t = table(1);
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
    let mut t = table(1);
    for (kind, reason) in [
        (KERNEL_ONLY, Reason::KernelOnly),
        (PAGE_TABLE, Reason::PageTable),
        (TOO_MANY, Reason::TooMany),
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
fn revoking_one_page_of_a_run_leaves_the_others() {
    let mut t = table(1);
    t.set(512, 9, MAPPED, &[0x1000, DIRECT_MAP]).unwrap();
    t.set(600, 0, REVOKED, &[]).unwrap();
    assert_eq!(t.lookup(600), Err(Reason::NoHint));
    assert!(t.lookup(599).is_ok() && t.lookup(601).is_ok());
    assert_eq!(t.state.hints(), 511);
    // The cell is in use until the last page is gone.
    assert_eq!(t.set(5, 0, MAPPED, &[0x1000, 0x2000]), Err(Errno::TooBig));
    t.writer().revoke(0, u64::MAX);
    assert_eq!(t.state.hints(), 0);
    t.set(5, 0, MAPPED, &[0x1000, 0x2000]).unwrap();
}

#[test]
fn cells_are_bounded_and_come_back() {
    let mut t = table(2);
    let two = [0x1000, DIRECT_MAP];
    for round in 0..5 {
        t.set(1, 0, MAPPED, &two).unwrap();
        t.set(2, 0, MAPPED, &two).unwrap();
        // No room: what was known of the page is not the truth any more.
        t.set(3, 0, MAPPED, &[0x7000]).unwrap();
        assert_eq!(t.set(3, 0, MAPPED, &two), Err(Errno::TooBig));
        assert_eq!(t.lookup(3), Err(Reason::NoHint));
        assert_eq!(t.lookup(1), Ok(two.to_vec()));
        assert_eq!(t.lookup(2), Ok(two.to_vec()));
        // A page's own cell is room enough.
        let other = [0x5000, 0x6000, 0x7000];
        t.set(1, 0, MAPPED, &other).unwrap();
        assert_eq!(t.lookup(1), Ok(other.to_vec()));
        // One gVA needs none.
        t.set(3, 0, MAPPED, &[0x7000]).unwrap();
        match round % 3 {
            0 => t.clear(),
            1 => t.set(0, 9, REVOKED, &[]).unwrap(),
            _ => {
                t.set(1, 0, TOO_MANY, &[]).unwrap();
                t.set(2, 0, MAPPED, &[0x8000]).unwrap();
            }
        }
    }
}

#[test]
fn what_was_before_a_clear_does_not_come_back() {
    let mut t = table(4);
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
        let mut t = table(8);
        for chunk in 0..8 {
            t.set(chunk * 512, 9, MAPPED, &[0x1000, DIRECT_MAP])
                .unwrap();
        }
        t.writer().revoke(gfn, pages);
        for at in 0..4096 {
            let gone = (gfn..gfn + pages).contains(&at);
            assert_eq!(t.lookup(at).is_err(), gone, "{gfn} {pages} {at}");
        }
    }
}

#[test]
fn a_hint_ages() {
    // Never covers at its maximal age, and covers until shortly before.
    for max_age_ms in [100, 1_000, 60_000, 600_000] {
        let mut t = table(1);
        t.max_age_ms = max_age_ms;
        for start in [0, 17, 31, 32, 1_000_003, 1 << 40] {
            for kind in [MAPPED, KERNEL_ONLY, PAGE_TABLE] {
                t.now_ms = start;
                let gvas = [0x1000];
                t.set(1, 0, kind, if kind == MAPPED { &gvas } else { &[] })
                    .unwrap();
                let fresh = t.lookup(1);
                t.now_ms = start + u64::from(max_age_ms) - 64;
                assert_eq!(t.lookup(1), fresh, "{start} {max_age_ms}");
                for late in [0, 1, 10_000, 1_000_000, 2_000_000, 2_097_152, 1 << 33] {
                    t.now_ms = start + u64::from(max_age_ms) + late;
                    assert_eq!(t.lookup(1), Err(Reason::Aged), "{late}");
                }
            }
        }
    }
}

#[test]
fn an_old_hint_stays_old_beside_new_ones() {
    // Slots keep 35 minutes of time. A neighbour that is renewed all the time
    // must not carry an old one over the wrap.
    for pause in [1_000, 255_000, 300_000, 700_000, 1_040_000, 2_097_152] {
        let mut t = table(1);
        t.max_age_ms = 600_000;
        t.set(1, 0, MAPPED, &[0x1000]).unwrap();
        while t.now_ms < 9_000_000 {
            t.now_ms += pause;
            t.set(2, 0, MAPPED, &[0x2000]).unwrap();
            assert!(t.lookup(2).is_ok());
            if t.now_ms >= 12_345 + 600_000 {
                assert!(t.lookup(1).is_err(), "{pause} {}", t.now_ms);
            }
        }
        assert_eq!(t.state.hints(), 1);
    }
}

#[test]
fn a_hint_that_is_renewed_in_time_never_ages() {
    let mut t = table(1);
    t.max_age_ms = 600_000;
    for _ in 0..20 {
        t.set(1, 0, MAPPED, &[0x1000, 0x2000]).unwrap();
        for _ in 0..59 {
            t.now_ms += 10_000;
            assert!(t.lookup(1).is_ok(), "{}", t.now_ms);
        }
    }
}

#[test]
fn a_clock_that_is_a_little_behind_is_no_matter() {
    let mut t = table(1);
    t.now_ms = 5_000_000;
    t.set(1, 0, MAPPED, &[0x1000]).unwrap();
    t.now_ms -= 500;
    assert!(t.lookup(1).is_ok());
}

fn ranges(n: u64) -> Vec<u64> {
    (0..n)
        .flat_map(|i| [0, DIRECT_MAP + (i << 30), 16 << 20, 2 << 20])
        .collect()
}

#[test]
fn linear_alias_says_when_a_linear_gva_counts() {
    let mut t = table(1);
    t.set_linear(&ranges(1));
    t.set(1, 0, MAPPED, &[0x7000]).unwrap();
    t.set(2, 0, KERNEL_ONLY, &[]).unwrap();
    t.set(3, 0, MAPPED, &[0x7000, 0x8000]).unwrap();
    let alias = |gfn: u64| DIRECT_MAP + (gfn << 12);
    let check = |alias_: LinearAlias, t: &mut Storage, one: &[u64], kernel, two: &[u64]| {
        t.alias = alias_;
        assert_eq!(t.lookup(1), Ok(one.to_vec()));
        assert_eq!(t.lookup(2), kernel);
        assert_eq!(t.lookup(3), Ok(two.to_vec()));
    };
    check(
        Auto,
        &mut t,
        &[0x7000],
        Ok(vec![alias(2)]),
        &[0x7000, 0x8000],
    );
    let two = [0x7000, 0x8000, alias(3)];
    check(
        Always,
        &mut t,
        &[0x7000, alias(1)],
        Ok(vec![alias(2)]),
        &two,
    );
    let kernel = Err(Reason::KernelOnly);
    check(Never, &mut t, &[0x7000], kernel, &[0x7000, 0x8000]);
}

#[test]
fn linear_ranges_end_where_they_end_and_may_overlap() {
    let mut t = table(1);
    let image = [8 << 20, 0xffff_ffff_8000_0000, 2 << 20, 2 << 20];
    let list: Vec<u64> = ranges(1).into_iter().chain(image).collect();
    t.set_linear(&list);
    for gfn in [2047, 2048, 2559, 2560, 4095] {
        t.set(gfn, 0, KERNEL_ONLY, &[]).unwrap();
    }
    let alias = |gfn: u64| DIRECT_MAP + (gfn << 12);
    let image = |gfn: u64| 0xffff_ffff_8000_0000 + ((gfn - 2048) << 12);
    assert_eq!(t.lookup(2047), Ok(vec![alias(2047)]));
    assert_eq!(t.lookup(2048), Ok(vec![alias(2048), image(2048)]));
    assert_eq!(t.lookup(2559), Ok(vec![alias(2559), image(2559)]));
    assert_eq!(t.lookup(2560), Ok(vec![alias(2560)]));
    assert_eq!(t.sized(2560), [(alias(2560), MapSize::M2M)]);
    // Outside all of them no gVA is known at all.
    let list = [0, DIRECT_MAP, 4095 << 12, 4096];
    t.set_linear(&list);
    t.set(4095, 0, KERNEL_ONLY, &[]).unwrap();
    assert_eq!(t.lookup(4095), Err(Reason::KernelOnly));
}

#[test]
fn more_linear_gvas_than_a_lookup_holds() {
    let mut t = table(1);
    t.set_linear(&ranges(16));
    t.set(1, 0, KERNEL_ONLY, &[]).unwrap();
    assert_eq!(t.lookup(1).unwrap().len(), 16);
    t.set(1, 0, MAPPED, &[0x1000]).unwrap();
    t.alias = Always;
    assert_eq!(t.lookup(1), Err(Reason::TooMany));
    t.alias = Auto;
    assert!(t.lookup(1).is_ok());
    t.set_linear(&ranges(64));
    t.set(1, 0, KERNEL_ONLY, &[]).unwrap();
    assert_eq!(t.lookup(1), Err(Reason::TooMany));
}

#[test]
fn another_list_drops_all_hints_and_the_same_none() {
    let mut t = table(1);
    let two = ranges(2);
    assert!(t.set_linear(&two));
    let mut other_size = two.clone();
    other_size[7] = 4096;
    let mut other_len = two.clone();
    other_len[6] -= 2 << 20;
    let mut other_gva = two.clone();
    other_gva[1] += 2 << 20;
    let mut other_gpa = two.clone();
    other_gpa[4] += 2 << 20;
    for list in [
        vec![],
        ranges(1),
        other_size,
        other_len,
        other_gva,
        other_gpa,
        ranges(3),
    ] {
        t.set(1, 0, MAPPED, &[0x1000, 0x2000]).unwrap();
        assert!(!t.set_linear(&two));
        assert!(t.lookup(1).is_ok());
        assert!(t.set_linear(&list));
        assert_eq!(t.lookup(1), Err(Reason::NoHint));
        assert_eq!(t.state.hints(), 0);
        assert!(t.set_linear(&two));
    }
}

#[test]
fn a_report_is_applied_up_to_the_first_bad_set() {
    let mut t = table(1);
    let good = [header(1, 0, MAPPED, 1), 0x1000];
    let bad = [header(2, 0, 0, 0)];
    let no_room = [header(3, 0, MAPPED, 2), 0x1000, 0x2000];
    for (words, sets, word) in [
        (vec![], Ok(0), None),
        (good.to_vec(), Ok(1), None),
        ([&good[..], &good].concat(), Ok(2), None),
        ([&good[..], &bad, &good].concat(), Ok(1), Some(2)),
        (bad.to_vec(), Err(Errno::Inval), Some(0)),
        ([&no_room[..], &good].concat(), Ok(2), None),
    ] {
        let applied = t.apply(&words);
        assert_eq!(applied.answer(), sets);
        assert_eq!(applied.refused.and_then(|error| error.word), word);
    }
    // Page 3 holds the only cell.
    let other = [header(4, 0, MAPPED, 2), 0x1000, 0x2000];
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
    assert!(Shape::new(0, 0).is_none());
    assert!(Shape::new((1 << 40) + 1, 0).is_none());
    assert!(Shape::new(1 << 40, 0).is_some());
    assert!(Shape::new(1, (1 << 24) + 1).is_none());
    // 16 GiB: 8 bytes a page and little more, within 0.25 % + 1 MiB.
    let pages = 4 << 20;
    let slots = Shape::new(pages, 0).unwrap().bytes();
    assert!(slots < pages * 8 + pages / 32);
    let limit = pages * 4096 / 400 + (1 << 20);
    let shape = Shape::fit(pages, limit).unwrap();
    assert!(shape.bytes() <= limit && shape.bytes() > slots);
    assert_eq!(Shape::fit(pages, slots).unwrap().bytes(), slots);
    assert_eq!(Shape::fit(pages, slots - 1), None);
    // The last frame has a place, the one after it does not, whatever the rounding.
    let mut t = Storage::new(513, 0);
    t.set(512, 0, MAPPED, &[0x1000]).unwrap();
    assert!(t.lookup(512).is_ok());
    assert_eq!(t.lookup(513), Err(Reason::NoRoom));
    assert_eq!(t.set(512, 1, MAPPED, &[0x1000]), Err(Errno::TooBig));
}
