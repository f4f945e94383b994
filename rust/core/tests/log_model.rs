// SPDX-License-Identifier: GPL-2.0

//! The flush log against a naive one: each vCPU has a list of what it has not
//! served.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions, clippy::panic)]

mod common;
mod models {
    pub(crate) mod log;
}

use gvahint_core::log::Scope;
use models::log::{Append, Player, Step};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use std::cell::Cell;

const VCPUS: usize = 3;

fn entry() -> impl Strategy<Value = Append> {
    prop_oneof![
        6 => (0u64..9).prop_map(Append::Gva),
        1 => Just(Append::Context),
        1 => Just(Append::Full),
    ]
}

fn meanwhile() -> impl Strategy<Value = Vec<Append>> {
    prop_oneof![
        3 => Just(Vec::new()),
        1 => proptest::collection::vec(entry(), 0..7),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let refuse = proptest::option::weighted(0.1, 0u64..9);
    let scope = select(vec![Scope::Context, Scope::Root]);
    prop_oneof![
        16 => entry().prop_map(Step::Append),
        2 => (10u64..19).prop_map(Step::Reserve),
        4 => Just(Step::Write),
        10 => (0..VCPUS, 1u32..6, refuse, meanwhile()).prop_map(|(v, n, r, m)| Step::Drain(v, n, r, m)),
        2 => (0..VCPUS, scope, meanwhile()).prop_map(|(v, s, m)| Step::Superseded(v, s, m)),
        1 => Just(Step::Resync),
        1 => select(vec![0u64, 1, 2, 4, 8]).prop_map(Step::Ring),
    ]
}

/// As many cases as PROPTEST_CASES says, 256 by default.
#[test]
fn the_log_serves_what_a_list_would() {
    let config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    };
    let played = Cell::new(0);
    let size = select(vec![0u64, 1, 2, 4, 4, 4, 8, 16]);
    let lap = prop_oneof![Just(0u64), Just(4093), Just(8188), 0..10_000u64];
    let steps = proptest::collection::vec(step(), 1..60);
    let cases = (size, lap, 0u64..4, steps);
    let result = TestRunner::new(config).run(&cases, |(size, lap, offset, steps)| {
        let mut player = Player::new(size, VCPUS, lap * size + offset);
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
