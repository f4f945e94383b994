// SPDX-License-Identifier: GPL-2.0

//! The hint table against a map of sets.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod storage;

use gvahint_core::plan::Reason;
use gvahint_core::policy::LinearAlias;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use storage::{Storage, KERNEL_ONLY, MAPPED, PAGE_TABLE, REVOKED, TOO_MANY};

const MAX_GFN: u64 = 1536;
/// Nodes: of 9 that all this could take.
const LIMIT: usize = 6;
/// Frames of a hint in one slot.
const LARGE: u64 = 512;
const MAX_AGE: u64 = 600_000;

#[derive(Clone, Debug)]
enum Step {
    Set(u64, u64, u64, Vec<u64>),
    Revoke(u64, u64),
    Clear,
    Linear(usize),
    Pass(u64),
    Alias(LinearAlias),
}

const LINEAR: [&[u64]; 3] = [
    &[],
    &[0, 0xffff_8880_0000_0000, 1024 << 12, 4096],
    &[
        0,
        0xffff_8880_0000_0000,
        1024 << 12,
        4096, //
        1000 << 12,
        0xffff_ffff_8000_0000,
        100 << 12,
        4096,
    ],
];

/// A frame, often one of a few, and a range around it.
fn range() -> impl Strategy<Value = (u64, u64)> {
    let gfn = prop_oneof![0..MAX_GFN, 508u64..516, Just(0), Just(MAX_GFN - 1)];
    let order = prop_oneof![3 => Just(0u64), 1 => 0u64..=9];
    (gfn, order).prop_map(|(gfn, order)| (gfn >> order << order, order))
}

fn step() -> impl Strategy<Value = Step> {
    let gva = prop_oneof![
        0u64..0x7_0000_0000,
        0xf_ffff_8000_0000u64..0xf_ffff_ffff_0000
    ];
    let gvas = proptest::collection::vec(gva.prop_map(|page| page << 12), 1..=7);
    let other = prop_oneof![
        Just(KERNEL_ONLY),
        Just(PAGE_TABLE),
        Just(TOO_MANY),
        Just(REVOKED)
    ];
    let alias = proptest::sample::select(LinearAlias::ALL.to_vec());
    prop_oneof![
        8 => (range(), gvas).prop_map(|((g, o), gvas)| Step::Set(g, o, MAPPED, gvas)),
        4 => (range(), other).prop_map(|((g, o), kind)| Step::Set(g, o, kind, vec![])),
        1 => (0..MAX_GFN, 0..600u64).prop_map(|(gfn, pages)| Step::Revoke(gfn, pages)),
        1 => Just(Step::Clear),
        1 => (0usize..3).prop_map(Step::Linear),
        2 => prop_oneof![0u64..1000, 0..700_000u64, 0..5_000_000u64].prop_map(Step::Pass),
        1 => alias.prop_map(Step::Alias),
    ]
}

struct Hint {
    kind: u64,
    gvas: Vec<u64>,
    written: u64,
}

#[derive(Default)]
struct Model {
    hints: BTreeMap<u64, Hint>,
    linear: usize,
    /// The 2M that were reported as a whole and are still in one slot.
    large: BTreeSet<u64>,
}

impl Model {
    fn set(&mut self, gfn: u64, order: u64, kind: u64, gvas: &[u64], now: u64) {
        for page in 0..1 << order {
            self.hints.remove(&(gfn + page));
            if kind != REVOKED {
                let hint = Hint {
                    kind,
                    gvas: gvas.iter().map(|gva| gva + (page << 12)).collect(),
                    written: now,
                };
                self.hints.insert(gfn + page, hint);
            }
        }
    }

    /// Forgets frames, and the whole of each 2M in one slot that has one of them.
    fn revoke(&mut self, gfn: u64, pages: u64) {
        let end = gfn + pages;
        let hit = |base: &u64| *base < end && gfn < *base + LARGE;
        let large: Vec<u64> = self.large.iter().copied().filter(hit).collect();
        for base in large {
            self.large.remove(&base);
            self.hints.retain(|at, _| at / LARGE * LARGE != base);
        }
        self.hints.retain(|at, _| !(gfn..end).contains(at));
    }

    fn linear(&self, gfn: u64) -> Vec<u64> {
        let holding = LINEAR[self.linear].chunks(4).filter_map(|r| {
            let at = (gfn << 12).checked_sub(r[0])?;
            (at < r[2]).then(|| r[1] + at)
        });
        holding.collect()
    }

    /// What a lookup has to find, but for its age.
    fn lookup(&self, gfn: u64, alias: LinearAlias) -> Result<Vec<u64>, Reason> {
        let hint = self.hints.get(&gfn).ok_or(Reason::NoHint)?;
        let mut gvas = hint.gvas.clone();
        match (hint.kind, alias) {
            (PAGE_TABLE, _) => return Err(Reason::PageTable),
            (TOO_MANY, _) => return Err(Reason::TooMany),
            (_, LinearAlias::Always) | (KERNEL_ONLY, LinearAlias::Auto) => {
                gvas.extend(self.linear(gfn));
            }
            _ => {}
        }
        if gvas.is_empty() {
            return Err(Reason::KernelOnly);
        }
        Ok(gvas)
    }
}

fn compare(table: &Storage, model: &Model, gfn: u64) {
    let found = table.lookup(gfn);
    let Some(hint) = model.hints.get(&gfn) else {
        assert_eq!(found, Err(Reason::NoHint), "{gfn}");
        return;
    };
    let age = table.now_ms - hint.written;
    if age >= MAX_AGE {
        // Gone once its chunk was cleaned.
        assert!(matches!(found, Err(Reason::Aged | Reason::NoHint)), "{gfn}");
    } else if age < MAX_AGE - 64 || found != Err(Reason::Aged) {
        assert_eq!(found, model.lookup(gfn, table.alias), "{gfn} {age}");
    }
}

fn play(steps: Vec<Step>) {
    let mut table = Storage::new(MAX_GFN, LIMIT);
    table.max_age_ms = MAX_AGE as u32;
    let mut model = Model::default();
    for step in steps {
        let mut around = 0;
        match step {
            Step::Set(gfn, order, kind, gvas) => {
                around = gfn;
                let result = table.set(gfn, order, kind, &gvas);
                let base = gfn / LARGE * LARGE;
                let full = table.state.held() as usize >= LIMIT;
                if result.is_err() {
                    // What is refused is not known any more.
                    assert!(full);
                    model.revoke(gfn, 1 << order);
                } else if kind == REVOKED {
                    model.revoke(gfn, 1 << order);
                } else {
                    // It may have taken the room of what it is a part of.
                    let other = if gfn == base { base + LARGE - 1 } else { base };
                    let gave_up = full && table.lookup(other) == Err(Reason::NoHint);
                    if order < 9 && gave_up && model.large.contains(&base) {
                        model.revoke(gfn, 1);
                    }
                    model.large.remove(&base);
                    model.set(gfn, order, kind, &gvas, table.now_ms);
                    if order == 9 {
                        model.large.insert(base);
                    }
                }
            }
            Step::Revoke(gfn, pages) => {
                table.writer().revoke(gfn, pages);
                if pages > 0 {
                    model.revoke(gfn, pages);
                }
                around = gfn;
            }
            Step::Clear => {
                table.clear();
                model.hints.clear();
                model.large.clear();
            }
            Step::Linear(which) => {
                let differs = LINEAR[which] != LINEAR[model.linear];
                table.limit = LIMIT + 2;
                assert_eq!(table.set_linear(LINEAR[which]), differs);
                table.limit = LIMIT;
                if differs {
                    model.large.clear();
                    model.hints.clear();
                }
                model.linear = which;
            }
            Step::Pass(ms) => table.now_ms += ms,
            Step::Alias(alias) => table.alias = alias,
        }
        for gfn in [0, 511, 512, 1023, MAX_GFN - 1] {
            compare(&table, &model, gfn);
        }
        for gfn in around..(around + 20).min(MAX_GFN) {
            compare(&table, &model, gfn);
        }
        assert!(table.state.hints() <= model.hints.len() as u64);
    }
    for gfn in 0..MAX_GFN {
        compare(&table, &model, gfn);
    }
}

/// As many cases as PROPTEST_CASES says, 256 by default.
fn cases() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_table_knows_what_a_map_knows(steps in proptest::collection::vec(step(), 1..80)) {
        play(steps);
    }
}
