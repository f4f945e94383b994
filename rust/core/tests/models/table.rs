// SPDX-License-Identifier: GPL-2.0

//! Steps of a guest and its host, played on the hint table and on a naive one.

#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::map::{Gvas, Linear, Map, Report, OLDEST};
use crate::storage::Storage;
use gvahint_core::addr::{Gfn, Level, MapSize};
use gvahint_core::leaf::Cover;
use gvahint_core::plan::Reason;
use gvahint_core::policy::LinearAlias;
use gvahint_core::report::Kind;
use gvahint_core::table::Query;
use std::collections::HashSet;
use std::fmt;

/// Nodes on the way to a slot.
const LEVELS: u64 = 5;
/// Nodes that a lookup reads at most: the way to a slot, which may not say it all,
/// once more; a cell, linear ranges.
const LOOKUP_NODES: u64 = 2 * LEVELS + 2;
/// For a larger leaf: what spans it, twice, its first frame, the ranges twice.
const LEAF_NODES: u64 = LEVELS + LOOKUP_NODES + 1;

#[derive(Clone)]
pub(crate) enum Step {
    Set(Report),
    Revoke(u64, u64),
    Clear,
    /// One of [`LINEAR`].
    Linear(usize),
    /// Milliseconds.
    Pass(u64),
    MaxAge(u32),
    Alias(LinearAlias),
    /// As many nodes there may be.
    Limit(usize),
    /// Nodes out of use are taken back.
    Reap,
    /// Everything is flushed.
    Flush,
    /// 4K, 2M and 1G leaves with this frame are looked up.
    Look(u64),
}

// One line each, also where a whole case is printed.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Set(report) => write!(f, "{report:?}"),
            Step::Revoke(gfn, pages) => write!(f, "revoke {gfn:#x}+{pages:#x}"),
            Step::Clear => write!(f, "clear"),
            Step::Linear(which) => write!(f, "linear {which}"),
            Step::Pass(ms) => write!(f, "pass {ms} ms"),
            Step::MaxAge(ms) => write!(f, "max age {ms} ms"),
            Step::Alias(alias) => write!(f, "alias {}", alias.name()),
            Step::Limit(nodes) => write!(f, "limit {nodes} nodes"),
            Step::Reap => write!(f, "reap"),
            Step::Flush => write!(f, "flush"),
            Step::Look(gfn) => write!(f, "look {gfn:#x}"),
        }
    }
}

const fn linear(gfn: u64, pages: u64, gva: u64, size: MapSize) -> Linear {
    Linear {
        gfn,
        pages,
        gva,
        size,
    }
}

const MAP: u64 = 0xffff_8880_0000_0000;
const IMAGE: u64 = 0xffff_ffff_8000_0000;

/// Lists of linear ranges: none, a direct map by each page size, with others in it.
pub(crate) const LINEAR: [&[Linear]; 6] = [
    &[],
    &[linear(0, 1024, MAP, MapSize::M4K)],
    &[
        linear(0, 1 << 19, MAP, MapSize::M2M),
        linear(512, 512, IMAGE, MapSize::M2M),
    ],
    &[linear(0, 1 << 20, MAP, MapSize::M1G)],
    &[
        linear(0, 600, MAP, MapSize::M4K),
        linear(500, 100, IMAGE, MapSize::M4K),
        linear(1 << 18, 1 << 18, MAP, MapSize::M1G),
    ],
    &[linear(0, 1024, IMAGE, MapSize::M2M); 17],
];

pub(crate) fn linear_words(list: &[Linear]) -> Vec<u64> {
    let words = |r: &Linear| [r.gfn << 12, r.gva, r.pages << 12, r.size.bytes()];
    list.iter().flat_map(words).collect()
}

pub(crate) struct Player {
    pub(crate) table: Storage,
    pub(crate) map: Map,
    /// The table was out of nodes in a way that the map does not follow.
    pub(crate) vague: bool,
    /// Frames that were seen to be page tables, or nothing, since everything was last flushed.
    suspects: HashSet<u64>,
    reach: u32,
}

impl Player {
    pub(crate) fn new(max_gfn: u64, limit: usize) -> Self {
        let mut table = Storage::new(max_gfn, limit);
        table.settles = false;
        let reach = 63 - table.hints().shape().max_gfn().leading_zeros();
        Self {
            reach: reach.div_ceil(9) * 9,
            table,
            map: Map::default(),
            vague: false,
            suspects: HashSet::new(),
        }
    }

    pub(crate) fn play(&mut self, step: &Step) {
        match step {
            Step::Set(report) => self.set(report),
            Step::Revoke(gfn, pages) => {
                self.table.writer().revoke(*gfn, *pages);
                self.map.revoke(*gfn, *pages);
                self.look(*gfn);
                self.look(gfn.saturating_add(*pages));
            }
            Step::Clear => {
                self.table.clear();
                self.map.clear();
            }
            Step::Linear(which) => self.set_linear(LINEAR[*which]),
            Step::Pass(ms) => self.table.now_ms += ms,
            Step::MaxAge(ms) => self.table.max_age_ms = *ms,
            Step::Alias(alias) => self.table.alias = *alias,
            Step::Limit(limit) => self.table.limit = *limit,
            Step::Reap => self.account(),
            Step::Flush => {
                self.table.flush_all();
                self.suspects.clear();
            }
            Step::Look(gfn) => self.look(*gfn),
        }
    }

    fn is_full(&self) -> bool {
        self.table.state.held() as usize >= self.table.limit
    }

    fn set(&mut self, report: &Report) {
        let gfn = report.gfn;
        let larger = self
            .map
            .slot(gfn)
            .filter(|slot| slot.1 > report.slot_order());
        let applied = self.table.apply(&report.words());
        let taken = applied.answer() == Ok(1);
        assert!(taken || self.is_full(), "refused: {applied:?}");
        if report.kind != Kind::Revoked {
            if let Some((start, order)) = larger {
                self.split(report, start, order, taken);
            }
        }
        if taken {
            let mut report = report.clone();
            if self.table.state.take_shortened() > 0 {
                assert!(self.is_full(), "no cell with nodes to be had");
                (report.kind, report.gvas) = (Kind::TooMany, Vec::new());
            }
            self.map.set(&report, self.table.now_ms);
        } else {
            // What is refused is not known any more.
            self.map.revoke(gfn, report.pages());
        }
        for at in [
            gfn,
            gfn + report.pages() / 2,
            gfn + report.pages() - 1,
            gfn ^ 1,
        ] {
            self.look(at);
        }
    }

    /// A set within a larger hint split that, or uncovered it: without a node.
    fn split(&mut self, report: &Report, start: u64, order: u32, taken: bool) {
        let last = start + (1 << order) - 1;
        let other = if report.gfn >> 9 == start >> 9 {
            last
        } else {
            start
        };
        let gone = self.lookup(other, OLDEST as u32) == Err(Reason::NoHint);
        if gone || !taken && order == 9 {
            let why = self.is_full() || self.map.is_dead(other, self.table.now_ms);
            assert!(why, "uncovered {start:#x}+2^{order} with nodes to be had");
            self.map.revoke(start, 1);
            return;
        }
        self.map.split(report.gfn);
        if order == 18 && report.slot_order() == 0 && taken {
            self.map.split(report.gfn);
        }
    }

    pub(crate) fn set_linear(&mut self, list: &[Linear]) {
        let words = linear_words(list);
        match self.table.try_linear(&words) {
            Ok(differs) => {
                assert_eq!(differs, self.map.linear != list);
                self.map.linear = list.to_vec();
            }
            Err(_) => assert!(self.is_full() && !list.is_empty()),
        }
    }

    fn query(&self, max_age_ms: u32) -> Query {
        Query {
            now_ms: self.table.now_ms,
            max_age_ms,
            alias: self.table.alias,
        }
    }

    fn lookup(&self, gfn: u64, max_age_ms: u32) -> Result<Gvas, Reason> {
        let before = self.table.nodes.steps();
        let hints = self.table.hints();
        let found = hints.lookup(Gfn::new(gfn).unwrap(), &self.query(max_age_ms));
        assert!(self.table.nodes.steps() - before <= LOOKUP_NODES);
        Ok(found?
            .sized()
            .map(|(gva, size)| (gva.raw(), size))
            .collect())
    }

    /// Compares all leaves with that frame.
    pub(crate) fn look(&mut self, gfn: u64) {
        if gfn >= self.table.hints().shape().max_gfn() {
            if let Some(gfn) = Gfn::new(gfn) {
                let found = self.table.hints().lookup(gfn, &self.query(1)).err();
                assert_eq!(found, Some(Reason::NoRoom));
            }
            return;
        }
        let age = self.table.max_age_ms;
        let q = self.query(age);
        let found = self.lookup(gfn, age);
        self.map.check(gfn, &q, &found, self.vague);
        match found {
            Err(Reason::NoHint | Reason::PageTable) => _ = self.suspects.insert(gfn),
            Ok(_) if self.suspects.contains(&gfn) => assert!(self.table.hints().owes_full()),
            _ => {}
        }
        for (level, order) in [(Level::L4K, 0), (Level::L2M, 9), (Level::L1G, 18)] {
            let before = self.table.nodes.steps();
            let cover = self.table.hints().cover(Gfn::new(gfn).unwrap(), level, &q);
            assert!(self.table.nodes.steps() - before <= LEAF_NODES);
            let cover = cover.map(|cover| match cover {
                Cover::Context => None,
                Cover::Gva(gva, linear) => {
                    let gvas = [Some(gva), linear].into_iter().flatten();
                    Some(gvas.map(|(gva, size)| (gva.raw(), size)).collect())
                }
                Cover::Gvas(list) => Some(list.sized().map(|(g, size)| (g.raw(), size)).collect()),
            });
            self.map.check_leaf(gfn, order, &q, &cover, self.vague);
        }
    }

    /// Each node is in use for a hint, or free, or taken back once.
    pub(crate) fn account(&mut self) {
        self.table.reap();
        assert!(self.table.state.hints() <= self.map.frames(None));
        let linear = u64::from(!self.map.linear.is_empty());
        let (tree, cells) = self.map.nodes(None, self.reach);
        assert!(self.table.used() <= tree + cells + linear, "nodes leak");
        if !self.vague {
            let now = Some(self.table.now_ms);
            let (tree, cells) = self.map.nodes(now, self.reach);
            assert!(self.table.used() >= tree + cells.div_ceil(63) + linear);
            assert!(self.table.state.hints() >= self.map.frames(now));
        }
    }

    /// Everything is looked at once more and revoked; no node stays in use.
    pub(crate) fn finish(mut self) {
        for gfn in self.map.some() {
            self.look(gfn);
        }
        self.account();
        self.table.writer().revoke(0, u64::MAX);
        self.map.clear();
        self.account();
        self.set_linear(&[]);
        self.account();
        assert_eq!((self.table.used(), self.table.state.hints()), (0, 0));
    }
}
