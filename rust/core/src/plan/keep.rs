// SPDX-License-Identifier: GPL-2.0

//! Which young leaves stay so.

use super::{query, Env};
use crate::addr::{Gfn, Level};
use crate::counters::Counter;
use crate::node::Nodes;
use crate::policy::{Flush, Uncovered};
use crate::slot::OLDEST_MS;
use crate::table::Query;

/// A leaf of that frame and level is young, `now_ms`: shall its accessed bit stay set?
///
/// No gVA leads to what the CPU's own walks touch, so that a page table would
/// look idle however busy it is. Under `hint` those within the quota stay young,
/// and so does a leaf of 2M with a page table in it, within a quota of its own.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::{Gfn, Level}, plan::*, policy::{Flush, Policy}};
/// vm.state.set_keep_quota(1);
/// vm.report(&[5 | 3 << 46]).answer().unwrap(); // frame 5 is a page table
/// let gfn = Gfn::new(5).unwrap();
/// let env = vm.env(Policy::CLEAR_YOUNG);
/// assert!(keep(&env, gfn, Level::L4K, 1_000) && keep(&env, gfn, Level::L2M, 1_000));
/// // An INVEPT ages it right.
/// let invept = Policy { flush: Flush::Invept, ..Policy::CLEAR_YOUNG };
/// assert!(!keep(&vm.env(invept), gfn, Level::L4K, 1_000));
/// ```
pub fn keep<N: Nodes>(env: &Env<'_, N>, gfn: Gfn, level: Level, now_ms: u64) -> bool {
    if env.policy.flush != Flush::Hint {
        return false;
    }
    let Some(hints) = env.tells_tables() else {
        return false;
    };
    let keeps = |query: &Query| match level {
        Level::L4K => hints.keeps(gfn, query),
        Level::L2M => env
            .kept
            .is_some_and(|kept| hints.has_page_table(gfn, query) && kept.admit(gfn, now_ms)),
        Level::L1G => false,
    };
    let mut query = query(env, now_ms);
    let mut kept = keeps(&query);
    if !kept && env.policy.uncovered == Uncovered::None {
        // Else nothing would flush what was aged until it is reported anew.
        query.max_age_ms = OLDEST_MS;
        kept = keeps(&query);
        if let (true, Some(wanted)) = (kept, env.wanted) {
            wanted.record(gfn, level);
        }
    }
    if kept {
        env.counters.add(Counter::Kept, 1);
    }
    kept
}
