// SPDX-License-Identifier: GPL-2.0

//! A hint table with its storage, addressed as a guest does: by words.

#![allow(dead_code, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions)]

use gvahint_core::addr::{Gfn, MapSize, VaBits};
use gvahint_core::linear::LinearList;
use gvahint_core::plan::Reason;
use gvahint_core::policy::LinearAlias;
use gvahint_core::report::{self, Applied, Limits};
use gvahint_core::sync::AtomicU64;
use gvahint_core::table::{Hints, Query, Shape};
use gvahint_core::wire::Errno;
use gvahint_core::writer::{Writer, WriterState};

pub(crate) const MAPPED: u64 = 1;
pub(crate) const KERNEL_ONLY: u64 = 2;
pub(crate) const PAGE_TABLE: u64 = 3;
pub(crate) const TOO_MANY: u64 = 4;
pub(crate) const REVOKED: u64 = 5;

pub(crate) fn header(gfn: u64, order: u64, kind: u64, count: u64) -> u64 {
    gfn | order << 40 | kind << 46 | count << 50
}

pub(crate) struct Storage {
    words: Vec<AtomicU64>,
    shape: Shape,
    pub(crate) state: WriterState,
    pub(crate) bits: VaBits,
    pub(crate) now_ms: u64,
    pub(crate) max_age_ms: u32,
    pub(crate) alias: LinearAlias,
}

impl Storage {
    pub(crate) fn new(max_gfn: u64, cells: u32) -> Self {
        let shape = Shape::new(max_gfn, cells).unwrap();
        Self {
            words: (0..shape.words()).map(|_| AtomicU64::new(0)).collect(),
            shape,
            state: WriterState::new(),
            bits: VaBits::Bits48,
            now_ms: 12_345,
            max_age_ms: 60_000,
            alias: LinearAlias::Auto,
        }
    }

    pub(crate) fn hints(&self) -> Hints<'_> {
        Hints::new(&self.words, self.shape).unwrap()
    }

    pub(crate) fn writer(&mut self) -> Writer<'_> {
        let hints = Hints::new(&self.words, self.shape).unwrap();
        Writer::new(hints, &mut self.state)
    }

    fn query(&self) -> Query {
        Query {
            now_ms: self.now_ms,
            max_age_ms: self.max_age_ms,
            alias: self.alias,
        }
    }

    /// The gVAs of a frame.
    pub(crate) fn lookup(&self, gfn: u64) -> Result<Vec<u64>, Reason> {
        let list = self.hints().lookup(Gfn::new(gfn).unwrap(), &self.query())?;
        let gvas: Vec<u64> = list.iter().map(|gva| gva.raw()).collect();
        assert_eq!(gvas.len(), list.len());
        assert!(!list.is_empty(), "covered without a gVA");
        Ok(gvas)
    }

    /// The same with the sizes of the guest's mappings.
    pub(crate) fn sized(&self, gfn: u64) -> Vec<(u64, MapSize)> {
        let list = self.hints().lookup(Gfn::new(gfn).unwrap(), &self.query());
        let gvas = list.unwrap();
        let sized = gvas.sized().map(|(gva, size)| (gva.raw(), size));
        sized.collect()
    }

    /// REPORT of these words, all memory in memslots.
    pub(crate) fn apply(&mut self, words: &[u64]) -> Applied {
        let limits = Limits {
            bits: self.bits,
            max_gfn: self.shape.max_gfn(),
        };
        let now_ms = self.now_ms;
        report::apply(words, limits, &mut self.writer(), now_ms, |_, _| true)
    }

    /// REPORT of one set.
    pub(crate) fn set(
        &mut self,
        gfn: u64,
        order: u64,
        kind: u64,
        gvas: &[u64],
    ) -> Result<(), Errno> {
        let mut words = vec![header(gfn, order, kind, gvas.len() as u64)];
        words.extend(gvas);
        match self.apply(&words).answer() {
            Ok(1) => Ok(()),
            Ok(n) => panic!("{n} sets"),
            Err(errno) => Err(errno),
        }
    }

    /// LINEAR of these words; whether it was another list.
    pub(crate) fn set_linear(&mut self, words: &[u64]) -> bool {
        let list = LinearList::parse(words, self.bits).unwrap();
        self.writer().set_linear(&list)
    }

    pub(crate) fn clear(&mut self) {
        self.writer().clear();
    }
}
