// SPDX-License-Identifier: GPL-2.0

//! The hint table against a map of sets.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions, clippy::panic)]

mod models {
    pub(crate) mod map;
    pub(crate) mod table;
}
mod storage;

use gvahint_core::addr::MapSize;
use gvahint_core::policy::LinearAlias;
use gvahint_core::report::Kind;
use models::map::{Gvas, Report};
use models::table::{Player, Step, LINEAR};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use std::cell::Cell;

/// Spans of 1G: two next to each other, and one far up.
const GIB: u64 = 1 << 18;
const BASES: [u64; 3] = [0, GIB, 300 * GIB];

/// A range, often one of a few, aligned to its order.
fn range() -> impl Strategy<Value = (u64, u32)> {
    let offset = prop_oneof![
        4 => 0u64..1536,
        2 => 508u64..516,
        1 => select(vec![0, GIB - 1, GIB - 512]),
    ];
    let order = prop_oneof![6 => Just(0u32), 2 => 1u32..9, 3 => Just(9u32), 1 => 10u32..18, 1 => Just(18u32)];
    let base = prop_oneof![4 => Just(0usize), 1 => 0..BASES.len()];
    (base, offset, order).prop_map(|(base, offset, order)| {
        let gfn = BASES[base] + offset;
        (gfn >> order << order, order)
    })
}

fn gvas(order: u32) -> impl Strategy<Value = Gvas> {
    let size =
        prop_oneof![3 => Just(MapSize::M4K), 2 => Just(MapSize::M2M), 1 => Just(MapSize::M1G)];
    let page = prop_oneof![
        0u64..0x7_0000_0000,
        0xf_ffff_8000_0000u64..0xf_ffff_c000_0000
    ];
    let gva = (size, page).prop_map(move |(size, page)| {
        let align = order.min(size.order());
        (page >> align << (align + 12), size)
    });
    proptest::collection::vec(gva, 1..=7)
}

fn set() -> impl Strategy<Value = Step> {
    let other = select(vec![
        Kind::KernelOnly,
        Kind::PageTable,
        Kind::TooMany,
        Kind::Anywhere,
        Kind::Revoked,
    ]);
    let mapped = |(gfn, order)| {
        gvas(order).prop_map(move |gvas| Report {
            gfn,
            order,
            kind: Kind::Mapped,
            gvas,
        })
    };
    let other = (range(), other).prop_map(|((gfn, order), kind)| Report {
        gfn,
        order,
        kind,
        gvas: Vec::new(),
    });
    prop_oneof![2 => range().prop_flat_map(mapped), 1 => other].prop_map(Step::Set)
}

fn step() -> impl Strategy<Value = Step> {
    let ms = prop_oneof![0u64..1000, 0..700_000u64, 0..5_000_000u64, Just(1 << 21)];
    prop_oneof![
        12 => set(),
        2 => (range(), 0..600u64).prop_map(|((gfn, _), pages)| Step::Revoke(gfn, pages)),
        1 => Just(Step::Clear),
        1 => (0..LINEAR.len()).prop_map(Step::Linear),
        2 => ms.prop_map(Step::Pass),
        1 => select(vec![100, 60_000, 600_000]).prop_map(Step::MaxAge),
        1 => select(LinearAlias::ALL.to_vec()).prop_map(Step::Alias),
        1 => (3usize..14).prop_map(Step::Limit),
        1 => Just(Step::Reap),
        1 => Just(Step::Flush),
        3 => range().prop_map(|(gfn, _)| Step::Look(gfn)),
    ]
}

/// As many cases as PROPTEST_CASES says, 256 by default.
#[test]
fn the_table_knows_what_a_map_knows() {
    let config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    };
    let played = Cell::new(0);
    let steps = proptest::collection::vec(step(), 1..80);
    let result = TestRunner::new(config).run(&(4usize..40, steps), |(limit, steps)| {
        let mut player = Player::new(BASES[2] + GIB, limit);
        for step in &steps {
            player.play(step);
        }
        player.finish();
        played.set(played.get() + steps.len());
        Ok(())
    });
    println!("steps played: {}", played.get());
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// A node of links is not cleaned when hints are written below it; that says
/// nothing of their age. (Found by tests/fuzz.)
#[test]
fn a_leaf_with_smaller_hints_is_no_aged_one() {
    let small = Report {
        gfn: 512,
        order: 0,
        kind: Kind::TooMany,
        gvas: Vec::new(),
    };
    let first = Report {
        gfn: 0,
        ..small.clone()
    };
    let mut player = Player::new(GIB, 40);
    player.play(&Step::Set(small.clone()));
    for _ in 0..8 {
        player.play(&Step::Pass(200_000));
        player.play(&Step::Set(small.clone()));
        player.play(&Step::Set(first.clone()));
    }
    player.finish();
}
