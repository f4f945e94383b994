// SPDX-License-Identifier: GPL-2.0

//! Linear ranges from page tables: never a larger page than there is, never a page left out.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

use gvahint_core::addr::{Gfn, MapSize, VaBits};
use gvahint_core::linear::LinearList;
use gvahint_core::reporter::linear::{Ranges, RANGE_WORDS};
use proptest::prelude::*;

const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
const IMAGE: u64 = 0xffff_ffff_8000_0000;

/// A page as the tables have it: offset in the direct map, size.
type Mapped = (u64, MapSize);

/// Tables: 1 GiB, 2 MiB and 4 KiB pages with holes, in order.
fn tables() -> impl Strategy<Value = Vec<Mapped>> {
    let piece = (
        prop::sample::select(vec![MapSize::M4K, MapSize::M2M, MapSize::M1G]),
        1u64..6,
        0u64..3,
    );
    prop::collection::vec(piece, 1..60).prop_map(|pieces| {
        let mut at = 0u64;
        let mut pages = Vec::new();
        for (size, count, hole) in pieces {
            at = at.next_multiple_of(size.bytes());
            for _ in 0..count {
                pages.push((at, size));
                at += size.bytes();
            }
            at += hole * 4096;
        }
        pages
    })
}

fn words(pages: &[Mapped], base: u64, max: usize) -> Option<Vec<u64>> {
    let mut words = vec![0; 64 * RANGE_WORDS];
    let mut ranges = Ranges::new(&mut words, max);
    for (at, size) in pages {
        if !ranges.add(*at, base + at, *size) {
            return None;
        }
    }
    let len = ranges.len_words();
    words.truncate(len);
    Some(words)
}

proptest! {
    // Fails if a page is in no range or at another address, or a range says a larger size.
    #[test]
    fn ranges_are_safe(pages in tables(), max in 1usize..12) {
        let words = words(&pages, DIRECT_MAP, max).unwrap();
        prop_assert!(words.len() <= max * RANGE_WORDS);
        let list = LinearList::parse(&words, VaBits::Bits48).unwrap();
        for (at, size) in pages {
            let gfn = Gfn::new(at >> 12).unwrap();
            let holding: Vec<_> = list.iter().filter(|range| range.gva(gfn).is_some()).collect();
            prop_assert_eq!(holding.len(), 1);
            prop_assert_eq!(holding[0].gva(gfn).unwrap().raw(), DIRECT_MAP + at);
            let told = words
                .chunks(RANGE_WORDS)
                .find(|range| (range[0]..range[0] + range[2]).contains(&at))
                .unwrap()[3];
            prop_assert!(told <= size.bytes());
        }
    }
}

// Fails if neighbours of one size take more than one range, or those of two sizes fewer than two.
#[test]
fn neighbours_are_one_range() {
    let size = MapSize::M2M.bytes();
    let mut pages: Vec<Mapped> = (0..8).map(|i| (i * size, MapSize::M2M)).collect();
    assert_eq!(
        words(&pages, DIRECT_MAP, 64).unwrap(),
        [0, DIRECT_MAP, 8 * size, size]
    );
    pages.push((8 * size, MapSize::M4K));
    assert_eq!(
        words(&pages, DIRECT_MAP, 64).unwrap().len(),
        2 * RANGE_WORDS
    );
}

// Fails if, of several pairs, one becomes a range with which more is lost than need be.
#[test]
fn the_cheapest_pair_becomes_one() {
    let m2m = MapSize::M2M.bytes();
    let m1g = MapSize::M1G.bytes();
    // 1G, 2M, 4K, one each; the 2M page is the cheaper one to call small.
    let pages = [
        (0, MapSize::M1G),
        (m1g, MapSize::M2M),
        (m1g + m2m, MapSize::M4K),
        (2 * m1g, MapSize::M1G),
    ];
    let found = words(&pages, DIRECT_MAP, 3).unwrap();
    let sizes: Vec<u64> = found.chunks(RANGE_WORDS).map(|range| range[3]).collect();
    assert_eq!(sizes, [m1g, 4096, m1g]);
    assert_eq!(found[RANGE_WORDS + 2], m2m + 4096);
}

// Fails if ranges with different offsets become one, or nobody notices that they do not fit.
#[test]
fn other_offsets_stay_apart() {
    let mut words = [0; 4 * RANGE_WORDS];
    let mut ranges = Ranges::new(&mut words, 1);
    assert!(ranges.add(0, DIRECT_MAP, MapSize::M2M));
    assert!(!ranges.add(0, IMAGE, MapSize::M2M));
    let mut ranges = Ranges::new(&mut words, 2);
    assert!(ranges.add(0, DIRECT_MAP, MapSize::M2M));
    assert!(ranges.add(0x40_0000, IMAGE, MapSize::M2M));
    assert!(!ranges.add(0x40_0000, IMAGE + 0x40_0000, MapSize::M2M));
    // Next to the last one in virtual memory, but elsewhere in physical memory.
    let mut ranges = Ranges::new(&mut words, 4);
    assert!(ranges.add(0, IMAGE, MapSize::M2M));
    assert!(ranges.add(0x80_0000, IMAGE + 0x20_0000, MapSize::M2M));
    assert_eq!(ranges.len_words(), 2 * RANGE_WORDS);
    // No room at all.
    assert!(!Ranges::new(&mut [], 64).add(0, IMAGE, MapSize::M4K));
}
