// SPDX-License-Identifier: GPL-2.0

//! What a reporter says of a page, case by case.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod pages;

use gvahint_core::addr::MapSize;
use gvahint_core::report::Kind;
use gvahint_core::reporter::batch::Header;
use gvahint_core::reporter::pages::{
    examine, wanted_range, Answer, Found, Limits, Rmap, MAX_FOUND,
};
use gvahint_core::reporter::retries::{Retries, Retry};
use gvahint_core::reporter::stats::Stat;
use pages::{Bits, Host, Kernel, Race, DATA, DIRECT_MAP, HINTED, HUGE, LIMITS, PAGES};

// Fails if a page's answer, its next page or its counter is wrong.
#[test]
fn a_page_is_told() {
    let bits = Bits::new();
    let mut kernel = Kernel::new(&bits);
    let mut host = Host::default();
    let done = host.look_at(&bits, &mut kernel, 600);
    assert_eq!((done.next, done.again), (601, false));
    assert_eq!(host.believes(600), Some(kernel.gva(600)));
    assert_eq!(bits.stats.get(Stat::PagesMapped), 1);
    // All of a large page at once.
    let done = host.look_at(&bits, &mut kernel, 77);
    assert_eq!(done.next, HUGE);
    assert_eq!(done.found.gvas(), [kernel.gva(0) | 9]);
    assert_eq!(host.believes(511), Some(kernel.gva(511)));
    assert_eq!(bits.stats.get(Stat::PagesMapped), 1 + HUGE);
    // One of its pages changes: the kernel tells of all, and so do we.
    kernel.change(3);
    assert_eq!(kernel.woken, 1);
    assert_eq!(host.revoke(&bits), HUGE);
    assert_eq!(host.believes(3), None);
}

// Fails if the reporter is woken for every change instead of once, or not again after it has looked.
#[test]
fn one_kick_until_somebody_looks() {
    let bits = Bits::new();
    let mut kernel = Kernel::new(&bits);
    let mut host = Host::default();
    for pfn in [600, 700, 800] {
        host.look_at(&bits, &mut kernel, pfn);
    }
    kernel.change(600);
    kernel.change(700);
    assert_eq!(kernel.woken, 1);
    assert!(bits.watch().is_kicked());
    assert_eq!(host.revoke(&bits), 2);
    assert!(!bits.watch().is_kicked());
    kernel.change(800);
    assert_eq!(kernel.woken, 2);
    // Nobody is woken for a page that is not known.
    host.revoke(&bits);
    kernel.change(800);
    assert_eq!(kernel.woken, 2);
}

// Fails if a true hint is thrown away because a lock was taken, or a false one kept.
#[test]
fn busy_keeps_what_is_still_true() {
    let bits = Bits::new();
    let mut kernel = Kernel::new(&bits);
    let mut host = Host::default();
    host.look_at(&bits, &mut kernel, 600);
    kernel.odd = Some(Answer::Busy);
    let done = host.look_at(&bits, &mut kernel, 600);
    assert!(done.again && done.say.is_none());
    assert_eq!(host.believes(600), Some(kernel.gva(600)));
    // Of one that was never told nothing is said, and nothing watched.
    let done = host.look_at(&bits, &mut kernel, 601);
    assert!(done.again && done.say.is_none());
    assert!(!bits.is_set(HINTED, 601) && !bits.is_set(DATA, 601));
    // What was data still is, and goes on to be while nobody has an answer.
    kernel.change(600);
    for answer in [
        Answer::Busy,
        Answer::Unknown(Stat::UnknownFree),
        Answer::Busy,
    ] {
        kernel.odd = Some(answer);
        let done = host.look_at(&bits, &mut kernel, 600);
        assert_eq!(done.again, answer == Answer::Busy);
        assert_eq!(host.kind(600), Some(Kind::Anywhere));
        assert!(!bits.is_set(HINTED, 600) && bits.is_set(DATA, 600));
    }
    assert_eq!(bits.stats.get(Stat::Busy), 4);
    assert_eq!(bits.stats.get(Stat::UnknownFree), 0);
    // A page table is none by that.
    kernel.become_table(600);
    host.revoke(&bits);
    kernel.odd = None;
    host.look_at(&bits, &mut kernel, 600);
    assert_eq!(host.kind(600), Some(Kind::PageTable));
    kernel.change(600);
    kernel.odd = Some(Answer::Busy);
    host.look_at(&bits, &mut kernel, 600);
    assert_eq!(host.kind(600), None);
    assert!(!bits.any_set());
}

// Fails if a page is not known any more when another process has it, if that is told over and over,
// or if it is not taken back when the page may be a page table.
#[test]
fn a_page_changes_hands() {
    let bits = Bits::new();
    let mut kernel = Kernel::new(&bits);
    let mut host = Host::default();
    host.look_at(&bits, &mut kernel, 600);
    kernel.change(600);
    assert_eq!(host.revoke(&bits), 1);
    assert_eq!(host.kind(600), Some(Kind::Anywhere));
    for _ in 0..3 {
        kernel.change(600);
        assert_eq!(host.revoke(&bits), 0);
    }
    assert_eq!(kernel.woken, 1);
    host.look_at(&bits, &mut kernel, 600);
    assert_eq!(host.believes(600), Some(kernel.gva(600)));
    kernel.become_table(600);
    assert_eq!(host.revoke(&bits), 1);
    assert_eq!(host.kind(600), None);
    assert!(!bits.any_set());
}

// Fails if more gVAs are said than the host takes, or than there is room for.
#[test]
fn too_many_gvas() {
    struct Many(usize);
    impl Rmap for Many {
        fn walk(&mut self, _: u64) -> Found {
            let mut found = Found::new(Answer::Known(Kind::Mapped), 0);
            (0..self.0 as u64).for_each(|i| found.push(i << 12, 0));
            found
        }
    }
    let bits = Bits::new();
    for (gvas, kind) in [
        (7, Kind::Mapped),
        (8, Kind::TooMany),
        (MAX_FOUND + 1, Kind::TooMany),
    ] {
        let done = examine(&bits.watch(), &LIMITS, &mut Many(gvas), &bits.stats, 9);
        assert_eq!(done.say.map(|set| set.kind), Some(kind), "{gvas}");
        let said = if kind == Kind::Mapped { gvas } else { 0 };
        assert_eq!(done.found.gvas().len(), said);
    }
    // No gVA at all is no answer.
    let done = examine(&bits.watch(), &LIMITS, &mut Many(0), &bits.stats, 9);
    assert_eq!(done.say.map(|set| set.kind), Some(Kind::Anywhere));
}

// Fails if a page without gVAs is not reported as such, with all of its range, or not counted by its
// reason.
#[test]
fn anywhere() {
    let bits = Bits::new();
    let mut kernel = Kernel::new(&bits);
    kernel.odd = Some(Answer::Anywhere(Stat::AnywhereFree));
    let done = examine(&bits.watch(), &LIMITS, &mut kernel, &bits.stats, 5);
    let expected = Header {
        gfn: 0,
        order: 9,
        kind: Kind::Anywhere,
    };
    assert_eq!((done.say, done.next), (Some(expected), HUGE));
    assert!(done.found.gvas().is_empty());
    assert_eq!(bits.stats.get(Stat::AnywhereFree), HUGE);
    // Its gVAs are nobody's concern; that it is a page table is.
    for (race, said, again) in [
        (Race::Change(5), Kind::Anywhere, false),
        (Race::Table(5), Kind::Revoked, true),
    ] {
        kernel.race = (1, race);
        let done = examine(&bits.watch(), &LIMITS, &mut kernel, &bits.stats, 5);
        assert_eq!(done.say.map(|set| set.kind), Some(said));
        assert_eq!(done.again, again);
    }
}

// Fails if something is said of pages without bits, beyond the table, or of a larger order than the
// host takes; or if a hole is gone through page by page.
#[test]
fn limits() {
    let bits = Bits::new();
    let mut kernel = Kernel::new(&bits);
    let done = examine(&bits.watch(), &LIMITS, &mut kernel, &bits.stats, PAGES);
    assert!(done.say.is_none() && done.next == PAGES + 1);
    for limits in [
        Limits { end: 511, ..LIMITS },
        Limits {
            max_order: 8,
            ..LIMITS
        },
    ] {
        let done = examine(&bits.watch(), &limits, &mut kernel, &bits.stats, 5);
        assert!(done.say.is_none() && !done.again && done.next == 6);
    }
    assert!(!bits.any_set());
    kernel.odd = Some(Answer::Unknown(Stat::UnknownOffline));
    let done = examine(&bits.watch(), &LIMITS, &mut kernel, &bits.stats, 700);
    assert_eq!(done.next, 1024);
    assert_eq!(bits.stats.get(Stat::UnknownOffline), 1);
}

// Fails if the gVAs of a page are taken for all of them where the host was told of no direct map, or
// if that goes for what has none to list.
#[test]
fn beyond_the_linear_ranges() {
    let bits = Bits::new();
    let mut kernel = Kernel::new(&bits);
    let [_, gva, _, size] = DIRECT_MAP;
    // Two ranges that touch: large pages, then small ones.
    let words = [0, gva, 256 << 12, size, 256 << 12, gva, 344 << 12, size];
    let limits = Limits {
        linear: &words,
        ..LIMITS
    };
    let said = |kernel: &mut Kernel<'_>, pfn, answer| {
        kernel.odd = answer;
        let done = examine(&bits.watch(), &limits, kernel, &bits.stats, pfn);
        let set = done.say.unwrap();
        (set.kind, set.order, done.found.gvas().len())
    };
    assert_eq!(said(&mut kernel, 5, None), (Kind::Mapped, 9, 1));
    assert_eq!(said(&mut kernel, 599, None), (Kind::Mapped, 0, 1));
    assert_eq!(said(&mut kernel, 600, None), (Kind::Anywhere, 0, 0));
    for (kind, expected) in [
        (Kind::KernelOnly, Kind::Anywhere),
        (Kind::PageTable, Kind::PageTable),
        // The host has to hear that it is none any more.
        (Kind::TooMany, Kind::Revoked),
        (Kind::TooMany, Kind::TooMany),
    ] {
        let answer = Some(Answer::Known(kind));
        assert_eq!(said(&mut kernel, 601, answer), (expected, 0, 0));
    }
    // A huge page that ends behind them.
    let words = [0, gva, 511 << 12, size];
    let limits = Limits {
        linear: &words,
        ..LIMITS
    };
    kernel.odd = None;
    let done = examine(&bits.watch(), &limits, &mut kernel, &bits.stats, 5);
    assert_eq!(done.say.map(|set| set.kind), Some(Kind::Anywhere));
}

// Fails if a mapping's size is passed on that the interface doesn't have: only smaller is safe.
#[test]
fn sizes_of_mappings() {
    let mut found = Found::new(Answer::Known(Kind::Mapped), 0);
    for (at, order) in [0, 4, 9, 13, 18].into_iter().enumerate() {
        found.push((at as u64) << 30, order);
    }
    let orders: Vec<u64> = found.gvas().iter().map(|gva| gva & 0xfff).collect();
    let size = |size: MapSize| u64::from(size.order());
    let (small, huge) = (size(MapSize::M4K), size(MapSize::M2M));
    assert_eq!(orders, [small, small, huge, small, size(MapSize::M1G)]);
}

// Fails if a busy page is tried for ever, more of them are kept than there is room for, or the
// order changes.
#[test]
fn retries_end() {
    let mut retries = Retries::new();
    assert!((0..256).all(|pfn| retries.push(Retry::first(pfn))));
    assert!(!retries.push(Retry::first(256)));
    let mut rounds = 0;
    while !retries.is_empty() {
        rounds += 1;
        let mut left = retries.len();
        let mut expected = 0;
        while let Some(retry) = retries.pop(&mut left) {
            assert_eq!(retry.pfn, expected);
            expected += 1;
            let _ = retries.push(retry);
        }
        assert_eq!(expected, 256, "round {rounds}");
    }
    assert_eq!(rounds, 4);
    retries.push(Retry::first(1));
    retries.clear();
    assert_eq!(retries.len(), 0);
}

// Fails if WANTED's words are read otherwise than the host writes them.
#[test]
fn wanted_words() {
    assert_eq!(wanted_range(5), (5, 6));
    assert_eq!(wanted_range(0x200 | 9 << 40), (0x200, 0x400));
    assert_eq!(wanted_range(1 << 18 | 18 << 40), (1 << 18, 2 << 18));
}

// Fails if the reporter goes on believing what the host has forgotten.
#[test]
fn reset_forgets() {
    let bits = Bits::new();
    let mut kernel = Kernel::new(&bits);
    let mut host = Host::default();
    host.look_at(&bits, &mut kernel, 600);
    kernel.change(600);
    host.look_at(&bits, &mut kernel, 700);
    bits.watch().reset();
    assert!(!bits.any_set());
    assert_eq!(host.revoke(&bits), 0);
}
