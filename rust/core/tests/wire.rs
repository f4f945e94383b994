// SPDX-License-Identifier: GPL-2.0

//! Every way in which a call can be wrong, and the header's numbers.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::panic)]

use gvahint_core::addr::{MapSize, VaBits};
use gvahint_core::linear::LinearList;
use gvahint_core::report::{Kind, Limits, Sets};
use gvahint_core::wire::{self, Errno, Fault, Op, WireError};

const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
const TOP48: u64 = 0x0000_8000_0000_0000;

#[test]
fn operations_and_lengths() {
    let length = Err(WireError::call(Fault::Length));
    for (a0, bytes, expect) in [
        (1, 0, Ok(Op::Linear)),
        (1, 64 * 32, Ok(Op::Linear)),
        (1, 8, length),
        (2, 0, Ok(Op::Report)),
        (2, 4096, Ok(Op::Report)),
        (2, 12, length),
        (3, 24, Ok(Op::Canary)),
        (3, 16, length),
        (3, 32, length),
        (3, 0, length),
        (4, 0, Ok(Op::Bye)),
        (4, 8, length),
        (64, 32, Ok(Op::Hello)),
        (64, 24, length),
        (64, 40, length),
        (64, 0, length),
        (65, 8, Ok(Op::Wanted)),
        (65, 4096, Ok(Op::Wanted)),
        (65, 0, length),
        (65, 12, length),
    ] {
        assert_eq!(Op::parse(a0, bytes), expect, "{a0} {bytes}");
    }
    for a0 in [0, 5, 6, 63, 66, u64::MAX, 1 << 32 | 1] {
        assert_eq!(Op::parse(a0, 0), Err(WireError::call(Fault::Op)), "{a0}");
    }
    assert_eq!(wire::check_version(1), Ok(()));
    for version in [0, 2, 1 << 32 | 1] {
        let error = wire::check_version(version).unwrap_err();
        assert_eq!(error.errno(), Errno::Inval);
    }
}

#[test]
fn good_linear_ranges() {
    for (bits, range) in [
        (VaBits::Bits48, [0, DIRECT_MAP, 1 << 30, 1 << 30]),
        (VaBits::Bits48, [0x1000, 0x1000, 0x1000, 0x1000]),
        // Up to the very ends of every space.
        (VaBits::Bits48, [0, TOP48 - (1 << 21), 1 << 21, 1 << 21]),
        (VaBits::Bits48, [0, 0xffff_ffff_ffff_f000, 0x1000, 0x1000]),
        (VaBits::Bits48, [(1 << 52) - 0x1000, 0, 0x1000, 0x1000]),
        (VaBits::Bits57, [0, 0xff11_0000_0000_0000, 1 << 40, 1 << 30]),
        (VaBits::Bits57, [0, TOP48 - 0x1000, 0x2000, 0x1000]),
    ] {
        let list = LinearList::parse(&range, bits).unwrap();
        assert_eq!(list.len(), 1, "{range:x?}");
        assert_eq!(list.iter().count(), 1);
    }
    let none = LinearList::parse(&[], VaBits::Bits48).unwrap();
    assert!(none.is_empty());
}

#[test]
fn bad_linear_ranges() {
    const K4: u64 = 1 << 12;
    const M2: u64 = 1 << 21;
    const G1: u64 = 1 << 30;
    for (range, word, fault) in [
        ([0, 0, K4, 0], 3, Fault::PageSize),
        ([0, 0, K4, 1 << 13], 3, Fault::PageSize),
        ([8, 0, K4, K4], 0, Fault::GpaAlign),
        ([K4, 0, M2, M2], 0, Fault::GpaAlign),
        ([0, 8, K4, K4], 1, Fault::GvaAlign),
        ([0, M2, G1, G1], 1, Fault::GvaAlign),
        ([0, 0, 0, K4], 2, Fault::RangeLen),
        ([0, 0, K4 + 8, K4], 2, Fault::RangeLen),
        ([0, 0, K4, M2], 2, Fault::RangeLen),
        ([1 << 52, 0, K4, K4], 0, Fault::GpaOverflow),
        ([(1 << 52) - K4, 0, 2 * K4, K4], 0, Fault::GpaOverflow),
        (
            [0u64.wrapping_sub(K4), 0, 2 * K4, K4],
            0,
            Fault::GpaOverflow,
        ),
        ([0, TOP48, K4, K4], 1, Fault::NotCanonical),
        ([0, !TOP48 + 1 - K4, 2 * K4, K4], 1, Fault::NotCanonical),
        ([0, TOP48 - K4, 2 * K4, K4], 1, Fault::NotCanonical),
        (
            [0, 0u64.wrapping_sub(K4), 2 * K4, K4],
            1,
            Fault::GvaOverflow,
        ),
    ] {
        let good = [0, DIRECT_MAP, M2, M2];
        let words: Vec<u64> = good.into_iter().chain(range).collect();
        let error = LinearList::parse(&words, VaBits::Bits48).unwrap_err();
        assert_eq!(error, WireError::at(4 + word, fault), "{range:x?}");
        assert_eq!(error.errno(), Errno::Inval);
    }
    let error = LinearList::parse(&[0, 0, K4], VaBits::Bits48).unwrap_err();
    assert_eq!(error, WireError::call(Fault::Length));
}

#[test]
fn as_many_linear_ranges_as_the_limit() {
    let words = |n: usize| [0, DIRECT_MAP, 1 << 21, 1 << 21].repeat(n);
    assert!(LinearList::parse(&words(64), VaBits::Bits48).is_ok());
    let error = LinearList::parse(&words(65), VaBits::Bits48).unwrap_err();
    assert_eq!(error, WireError::call(Fault::TooManyRanges));
    assert_eq!(error.errno(), Errno::TooBig);
}

fn header(gfn: u64, order: u64, kind: u64, count: u64) -> u64 {
    gfn | order << 40 | kind << 46 | count << 50
}

const LIMITS: Limits = Limits {
    bits: VaBits::Bits48,
    max_gfn: 0x10_0000,
};

/// Parses words whose memslots end at `slots_end`.
fn fault(words: &[u64], slots_end: u64) -> Option<WireError> {
    let mut valid = |gfn: u64, pages: u64| gfn + pages <= slots_end;
    let mut sets = Sets::new(words, LIMITS);
    while let Some(set) = sets.next(&mut valid) {
        if let Err(error) = set {
            assert!(sets.next(&mut valid).is_none(), "it ends there");
            return Some(error);
        }
    }
    None
}

#[test]
fn good_sets() {
    let top = TOP48 - 0x1000;
    let words = [
        header(5, 0, 1, 2),
        0x7000,
        DIRECT_MAP | 9,
        header(512, 9, 1, 1),
        0x20_0000 | 9,
        header(1024, 3, 1, 2),
        0x8000 | 18,
        top - 0x7000,
        header(7, 0, 2, 0),
        header(8, 1, 3, 0),
        header(0, 9, 4, 0),
        header(0x10_0000 - 512, 9, 5, 0),
        header(64, 6, 6, 0),
    ];
    let mut sets = Sets::new(&words, LIMITS);
    let mut seen = Vec::new();
    while let Some(set) = sets.next(&mut |_, _| true) {
        let set = set.unwrap();
        let gvas: Vec<_> = set.gvas().map(|(gva, size)| (gva.raw(), size)).collect();
        seen.push((set.gfn().raw(), set.pages(), set.kind(), gvas));
    }
    use MapSize::*;
    let two = vec![(0x7000, M4K), (DIRECT_MAP, M2M)];
    assert_eq!(seen.len(), 8);
    assert_eq!(seen[0], (5, 1, Kind::Mapped, two));
    assert_eq!(seen[1], (512, 512, Kind::Mapped, vec![(0x20_0000, M2M)]));
    let two = vec![(0x8000, M1G), (top - 0x7000, M4K)];
    assert_eq!(seen[2], (1024, 8, Kind::Mapped, two));
    assert_eq!(seen[3], (7, 1, Kind::KernelOnly, vec![]));
    assert_eq!(seen[4], (8, 2, Kind::PageTable, vec![]));
    assert_eq!(seen[5], (0, 512, Kind::TooMany, vec![]));
    assert_eq!(seen[6], (0x10_0000 - 512, 512, Kind::Revoked, vec![]));
    assert_eq!(seen[7], (64, 64, Kind::Anywhere, vec![]));
}

#[test]
fn bad_sets() {
    let big = u64::MAX;
    let end = LIMITS.max_gfn;
    for (words, slots_end, word, fault_) in [
        (vec![header(5, 0, 0, 0)], big, 0, Fault::Kind),
        (vec![header(5, 0, 7, 0)], big, 0, Fault::Kind),
        (vec![header(5, 0, 15, 0)], big, 0, Fault::Kind),
        (vec![header(5, 0, 1, 0)], big, 0, Fault::NoGva),
        (
            vec![header(5, 0, 2, 1), 0x1000],
            big,
            0,
            Fault::UnexpectedGva,
        ),
        (
            vec![header(5, 0, 3, 1), 0x1000],
            big,
            0,
            Fault::UnexpectedGva,
        ),
        (
            vec![header(5, 0, 4, 1), 0x1000],
            big,
            0,
            Fault::UnexpectedGva,
        ),
        (
            vec![header(5, 0, 5, 1), 0x1000],
            big,
            0,
            Fault::UnexpectedGva,
        ),
        (vec![header(5, 0, 1, 1)], big, 0, Fault::Truncated),
        (
            vec![header(5, 0, 1, 3), 0x1000, 0x2000],
            big,
            0,
            Fault::Truncated,
        ),
        (vec![header(0, 19, 2, 0)], big, 0, Fault::OrderTooLarge),
        (vec![header(0, 63, 2, 0)], big, 0, Fault::OrderTooLarge),
        (vec![header(5, 1, 2, 0)], big, 0, Fault::GpaAlign),
        (vec![header(256, 9, 2, 0)], big, 0, Fault::GpaAlign),
        (vec![header(8, 0, 2, 0)], 8, 0, Fault::Memslot),
        (vec![header(8, 3, 2, 0)], 15, 0, Fault::Memslot),
        (vec![header((1 << 40) - 1, 0, 2, 0)], end, 0, Fault::Memslot),
        (vec![header(end, 0, 2, 0)], big, 0, Fault::BeyondTable),
        (
            vec![header((1 << 40) - 512, 9, 2, 0)],
            big,
            0,
            Fault::BeyondTable,
        ),
        (vec![header(5, 0, 1, 1), 0x1001], big, 1, Fault::MapOrder),
        (vec![header(5, 0, 1, 1), 0x1fff], big, 1, Fault::MapOrder),
        (
            vec![header(5, 0, 1, 2), 0x1000, 0x1003],
            big,
            2,
            Fault::MapOrder,
        ),
        (
            vec![header(512, 9, 1, 1), 0x1000 | 9],
            big,
            1,
            Fault::GvaAlign,
        ),
        (
            vec![header(512, 9, 1, 1), 0x1000 | 18],
            big,
            1,
            Fault::GvaAlign,
        ),
        (
            vec![header(8, 3, 1, 1), 0x1000 | 9],
            big,
            1,
            Fault::GvaAlign,
        ),
        (vec![header(5, 0, 1, 1), TOP48], big, 1, Fault::NotCanonical),
        (
            vec![header(5, 0, 1, 1), 1 << 63],
            big,
            1,
            Fault::NotCanonical,
        ),
        (
            vec![header(4, 1, 1, 1), TOP48 - 0x1000],
            big,
            1,
            Fault::NotCanonical,
        ),
        (
            vec![header(4, 1, 1, 1), !TOP48 - 0xfff],
            big,
            1,
            Fault::NotCanonical,
        ),
        (vec![header(4, 1, 1, 1), !0xfff], big, 1, Fault::GvaOverflow),
    ] {
        let errno = match fault_ {
            Fault::Memslot => Errno::Fault,
            Fault::OrderTooLarge | Fault::BeyondTable => Errno::TooBig,
            _ => Errno::Inval,
        };
        let error = fault(&words, slots_end).unwrap_or_else(|| panic!("{words:x?} accepted"));
        assert_eq!(error, WireError::at(word, fault_), "{words:x?}");
        assert_eq!(error.errno(), errno);
        // Behind a good one its index is counted from the buffer's start.
        let mut behind = vec![header(6, 0, 1, 1), 0x1000];
        behind.extend(&words);
        assert_eq!(
            fault(&behind, slots_end),
            Some(WireError::at(word + 2, fault_))
        );
    }
}

#[test]
fn as_many_gvas_as_the_limit() {
    let words = |n: u64| {
        let gvas = (1..=n).map(|i| i << 12);
        std::iter::once(header(5, 0, 1, n))
            .chain(gvas)
            .collect::<Vec<_>>()
    };
    assert_eq!(fault(&words(7), u64::MAX), None);
    let error = fault(&words(8), u64::MAX).unwrap();
    assert_eq!(error, WireError::at(0, Fault::TooManyGvas));
    assert_eq!(error.errno(), Errno::TooBig);
    let error = fault(&[header(5, 0, 1, (1 << 14) - 1)], u64::MAX).unwrap();
    assert_eq!(error.fault, Fault::TooManyGvas);
}

#[test]
fn each_fault_has_an_error_and_a_name() {
    for fault in Fault::ALL {
        assert!(!fault.name().is_empty());
        assert!(fault.errno().negative() < 0);
        assert_eq!(Fault::from_u8(fault.to_u8()), Some(*fault));
    }
}
