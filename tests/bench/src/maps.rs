// SPDX-License-Identifier: GPL-2.0

//! The job that every table here does: take reports, answer lookups.

use crate::guest::Guest;
use gvahint_core::addr::VaBits;
use gvahint_core::policy::{LinearAlias, Tunables};
use gvahint_core::report::Limits;
use gvahint_core::table::Query;
use std::time::{Duration, Instant};

/// When everything is written and looked up.
pub const NOW_MS: u64 = 1_000_000;

/// What sets are checked against; the same for all.
pub fn limits(max_gfn: u64) -> Limits {
    Limits {
        bits: VaBits::Bits48,
        max_gfn,
    }
}

/// What lookups ask for; the same for all.
pub fn query() -> Query {
    Query {
        now_ms: NOW_MS,
        max_age_ms: Tunables::DEFAULT.hint_max_age_ms,
        alias: LinearAlias::Auto,
    }
}

/// Frame -> one gVA.
pub trait Map: Sized {
    /// As the report calls it.
    const NAME: &'static str;

    /// An empty one for a guest of that many pages.
    fn new(pages: u64) -> Self;

    /// Takes over the sets of a report's buffer, each checked first.
    fn report(&mut self, words: &[u64]);

    /// The gVA of a frame, unless there is none or it is too old.
    fn lookup(&self, gfn: u64) -> Option<u64>;

    /// Frames that are known.
    fn hints(&self) -> u64;

    /// The table of a guest, and how long its reports took to be applied; the time to
    /// make the reports up is not part of that.
    fn build(guest: &Guest) -> (Self, Duration) {
        let mut map = Self::new(guest.pages);
        let mut took = Duration::ZERO;
        guest.report(|words| {
            let start = Instant::now();
            map.report(words);
            took += start.elapsed();
        });
        assert_eq!(map.hints(), guest.pages, "{} lost hints", Self::NAME);
        (map, took)
    }
}
