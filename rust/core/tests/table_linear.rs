// SPDX-License-Identifier: GPL-2.0

//! The linear ranges of the table.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing)]

mod storage;

use gvahint_core::addr::MapSize;
use gvahint_core::plan::Reason;
use gvahint_core::policy::LinearAlias::{self, Always, Auto, Never};
use storage::{Storage, KERNEL_ONLY, MAPPED};

const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;

fn table() -> Storage {
    Storage::new(4096, 64)
}

fn ranges(n: u64) -> Vec<u64> {
    (0..n)
        .flat_map(|i| [0, DIRECT_MAP + (i << 30), 16 << 20, 2 << 20])
        .collect()
}

#[test]
fn linear_alias_says_when_a_linear_gva_counts() {
    let mut t = table();
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
    let mut t = table();
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
fn more_linear_gvas_than_a_lookup_holds_are_the_contexts() {
    let mut t = table();
    t.set_linear(&ranges(16));
    t.set(1, 0, KERNEL_ONLY, &[]).unwrap();
    assert_eq!(t.lookup(1).unwrap().len(), 16);
    t.set(1, 0, MAPPED, &[0x1000]).unwrap();
    t.alias = Always;
    assert_eq!(t.lookup(1), Ok(vec![]));
    t.alias = Auto;
    assert!(t.lookup(1).is_ok());
    t.set_linear(&ranges(64));
    t.set(1, 0, KERNEL_ONLY, &[]).unwrap();
    assert_eq!(t.lookup(1), Ok(vec![]));
}

#[test]
fn another_list_drops_no_hint_and_owes_a_flush() {
    let mut t = table();
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
        assert!(!t.hints().owes_context());
        assert!(t.set_linear(&list));
        assert_eq!(t.lookup(1), Ok(vec![0x1000, 0x2000]));
        assert!(t.hints().owes_context());
        // Without a hint nothing was aged by the ranges.
        t = table();
        assert!(t.set_linear(&two));
        assert!(!t.hints().owes_context());
    }
}
