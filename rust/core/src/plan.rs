// SPDX-License-Identifier: GPL-2.0

//! From the aged leaves of one notifier call to what is flushed and when.
//!
//! A page is covered or it is not; merging pages only ever moves towards
//! "not". What is covered is published at once, after its accessed bit was
//! cleared; what is not is settled once, at the end.
//!
//! In the examples, `vm` is the storage of a small VM: `tests/doc/vm.rs`.

use crate::addr::{Gfn, Level};
use crate::counters::{Counter, Counters};
use crate::kept::Kept;
use crate::leaf::Cover;
use crate::log::Log;
use crate::node::Nodes;
use crate::owed;
use crate::policy::{Flush, Policy, Timing, Tunables, Uncovered};
use crate::sync::{AtomicU32, Ordering};
use crate::table::{Hints, Query};
use crate::wanted::Wanted;

mod keep;
mod outcome;
mod pass;
mod reason;
pub use keep::keep;
pub use outcome::{Coverage, Kick, Mark, Outcome, Verdict};
pub use pass::Pass;
use pass::{CONTEXT, FULL, OF_VM};

named_enum! {
    /// Why a page is uncovered.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::plan::Reason;
    /// vm.report(&[5 | 3 << 46]).answer().unwrap(); // frame 5: PAGE_TABLE
    /// assert_eq!(vm.lookup(5), Err(Reason::PageTable));
    /// assert_eq!(vm.lookup(6), Err(Reason::NoHint));
    /// ```
    pub enum Reason {
        /// Nothing was reported, or it was revoked.
        NoHint = 0 => "no_hint",
        /// The hint is older than `hint_max_age_ms`, or may be.
        Aged = 1 => "aged",
        /// Reached through the linear ranges only, and these are not to be
        /// used, or none of them holds it.
        KernelOnly = 2 => "kernel_only",
        /// A page table: the CPU's own walks touch it, no gVA leads there.
        PageTable = 3 => "page_table",
        /// Hints cover an EPT leaf of 2 MiB or 1 GiB in part.
        LargeLeaf = 4 => "large_leaf",
        /// No session, or its lease lapsed.
        NoSession = 5 => "no_session",
        /// The session has not said LINEAR.
        NoLinear = 6 => "no_linear",
        /// The CPU cannot flush single addresses.
        NoGvaFlush = 7 => "no_gva_flush",
        /// Beyond the table, or there is no log to publish to.
        NoRoom = 8 => "no_room",
        /// The hint changed while it was read.
        Race = 9 => "race",
        /// A canary has shown that hints do not work for this VM.
        Degraded = 10 => "degraded",
        /// The host's calibration has shown that hints do not work on its CPUs.
        Calibration = 11 => "calibration",
    }
}

/// What a notifier call of one VM decides by.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::{Gfn, Level}, plan::*, policy::Policy, sync::AtomicU32};
/// vm.map(5, 0, &[0x7000]);
/// // The guest fell silent: what it reported is not even looked at.
/// let env = Env { hints: Err(Reason::NoSession), ..vm.env(Policy::CLEAR_YOUNG) };
/// let mut pass = Pass::default();
/// aged(&mut pass, &env, Gfn::new(5).unwrap(), Level::L4K, 1_000);
/// let outcome = finish(&mut pass, &env, 0, &AtomicU32::new(0));
/// assert_eq!((outcome.verdict, env.log.start()), (Verdict::Default, 0));
/// ```
#[derive(Debug)]
pub struct Env<'a, N> {
    /// The policy of the notifier that was called, for this VM.
    pub policy: Policy,
    /// The parameters.
    pub tunables: Tunables,
    /// The VM's log.
    pub log: Log<'a>,
    /// The VM's table, or why it is not to be used ([`crate::session::Lease::check`]).
    pub hints: Result<Hints<'a, N>, Reason>,
    /// Whether the CPU flushes single addresses.
    pub can_flush_gva: bool,
    /// Where it is counted.
    pub counters: &'a Counters,
    /// Where it is noted what a report would cover.
    pub wanted: Option<Wanted<'a>>,
    /// Large leaves that are kept young, if any may be.
    pub kept: Option<Kept<'a>>,
}

impl<'a, N> Env<'a, N> {
    /// What `hint` stands for in this VM, if a VM that reports has shown that hints do not work.
    fn instead(&self) -> Option<Flush> {
        match self.usable() {
            Err(Reason::Degraded) => Some(Flush::Invept),
            Err(Reason::Calibration) => self.tunables.calibration.instead(),
            _ => None,
        }
    }

    /// The table, or why no hint of this VM can be used.
    fn usable(&self) -> Result<&Hints<'a, N>, Reason> {
        if !self.can_flush_gva {
            return Err(Reason::NoGvaFlush);
        }
        let hints = self.hints.as_ref().map_err(|reason| *reason)?;
        match self.tunables.calibration.instead() {
            Some(_) => Err(Reason::Calibration),
            None => Ok(hints),
        }
    }

    /// The table, as far as it tells page tables: where a flush of the context stands for hints it ages
    /// data right, and these no more than gVAs do.
    fn tells_tables(&self) -> Option<&Hints<'a, N>> {
        match self.usable() {
            Err(Reason::Calibration) if self.instead() == Some(Flush::Context) => {
                self.hints.as_ref().ok()
            }
            usable => usable.ok(),
        }
    }
}

/// A leaf of that frame and level lost its accessed bit, `now_ms`.
///
/// Call it after the bit was cleared: covered gVAs are published at once.
/// Whether it was covered is for whoever watches.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::{Gfn, Level}, plan::*, policy::Policy};
/// vm.map(5, 0, &[0x7000]);
/// vm.map(512, 9, &[0x4000_0000 | 9]);
/// let (env, mut pass) = (vm.env(Policy::CLEAR_YOUNG), Pass::default());
/// // Two frames of one large page: its gVA waits, for there may be more of them.
/// for gfn in [512, 513, 5] {
///     aged(&mut pass, &env, Gfn::new(gfn).unwrap(), Level::L4K, 1_000);
/// }
/// let _ = vm.drain();
/// assert_eq!(vm.cpu.dropped, ["0x7000"]);
/// ```
pub fn aged<N: Nodes>(
    pass: &mut Pass,
    env: &Env<'_, N>,
    gfn: Gfn,
    level: Level,
    now_ms: u64,
) -> Coverage {
    pass.count_aged();
    env.counters.add(Counter::Aged, 1);
    // What is promised here is kept, also if the policy changes before the call ends.
    match env.policy.flush {
        Flush::Hint => {}
        Flush::Default | Flush::None => return Coverage::Unasked,
        Flush::Context => {
            pass.words[1] |= CONTEXT;
            return Coverage::Unasked;
        }
        Flush::Invept => {
            pass.words[1] |= FULL;
            return Coverage::Unasked;
        }
    }
    match cover(env, gfn, level, now_ms) {
        Ok(cover) => {
            pass.count_covered();
            env.counters.add(Counter::Covered, 1);
            match cover {
                Cover::Context => {
                    pass.words[1] |= CONTEXT;
                    env.counters.add(Counter::CoveredContext, 1);
                    // A small page's gVAs might be told by now.
                    if let (Level::L4K, Some(wanted)) = (level, env.wanted) {
                        wanted.record(gfn, level);
                    }
                }
                Cover::Gva((gva, size), linear) => {
                    pass.append(env, gva, size);
                    if let Some((gva, size)) = linear {
                        pass.append(env, gva, size);
                    }
                }
                Cover::Gvas(list) => {
                    for (gva, size) in list.sized() {
                        pass.append(env, gva, size);
                    }
                }
            }
            Coverage::Covered
        }
        Err(reason) => {
            if reason.is_of_vm() {
                pass.words[1] |= OF_VM;
            }
            // Reported anew as what it is, it is covered, owes nothing, and would never be found young.
            if reason == Reason::Aged && env.policy.uncovered == Uncovered::None {
                pass.words[1] |= CONTEXT;
            }
            if let (true, Some(wanted)) = (reason.ends_with_a_report(), env.wanted) {
                wanted.record(gfn, level);
            }
            env.counters.add(Counter::Uncovered, 1);
            env.counters.add(reason.counter(), 1);
            Coverage::Uncovered(reason)
        }
    }
}

fn query<N>(env: &Env<'_, N>, now_ms: u64) -> Query {
    Query {
        now_ms,
        max_age_ms: env.tunables.hint_max_age_ms,
        alias: env.tunables.linear_alias,
    }
}

/// What drops all translations of a leaf, if there is a log to publish it to.
fn cover<N: Nodes>(env: &Env<'_, N>, gfn: Gfn, level: Level, now_ms: u64) -> Result<Cover, Reason> {
    let hints = env.usable()?;
    if env.log.size() == 0 {
        return Err(Reason::NoRoom);
    }
    hints.cover(gfn, level, &query(env, now_ms))
}

/// The notifier call ends. `other` leaves were young that KVM could not name;
/// `pending` counts the VM's aged pages since the last kick.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::{Gfn, Level}, plan::*, policy::Policy, sync::AtomicU32};
/// vm.map(5, 0, &[0x7000]);
/// let env = vm.env(Policy::CLEAR_YOUNG);
/// let mut pass = Pass::default();
/// // One of the two is not hinted: one FULL for both.
/// for gfn in [5, 6] {
///     aged(&mut pass, &env, Gfn::new(gfn).unwrap(), Level::L4K, 1_000);
/// }
/// assert_eq!(finish(&mut pass, &env, 0, &AtomicU32::new(0)).verdict, Verdict::Handled);
/// let _ = vm.drain();
/// assert_eq!(vm.cpu.dropped, ["full"]);
/// ```
pub fn finish<N>(pass: &mut Pass, env: &Env<'_, N>, other: u32, pending: &AtomicU32) -> Outcome {
    pass.settle(env);
    let flags = pass.words[1];
    let (aged, covered, gvas) = (pass.aged(), pass.covered(), pass.gvas());
    let uncovered = aged.saturating_sub(covered);
    *pass = Pass::default();
    let (mut context, mut full) = (flags & CONTEXT != 0, flags & FULL != 0);
    let mut verdict = Verdict::Handled;
    let flush = match env.policy.flush {
        // Whatever is said of uncovered pages: this VM has no others.
        Flush::Hint if flags & OF_VM == 0 => env.instead().unwrap_or(Flush::Hint),
        flush => flush,
    };
    match flush {
        Flush::Default => verdict = Verdict::Default,
        Flush::None => {}
        Flush::Context => context |= aged > 0,
        Flush::Invept => full |= aged > 0,
        Flush::Hint => {
            let of_vm = env.usable().is_err_and(Reason::is_of_vm);
            if of_vm || flags & OF_VM != 0 {
                verdict = Verdict::Default;
            }
            // Also if the session began in the middle: KVM's default may be to flush nothing.
            full |= !of_vm && uncovered > 0 && env.policy.uncovered == Uncovered::Full;
        }
    }
    let hints = env.hints.as_ref().ok();
    let by_hints = covered > 0 || aged > 0 && flush != env.policy.flush;
    if by_hints && !full && hints.is_some_and(Hints::owes_full) {
        full = true;
        env.counters.add(Counter::Turned, 1);
    }
    let mark = if full {
        flush_all(env.log, hints, env.counters);
        Some(Mark::Full)
    } else if context {
        owed::append_context(env.log, hints, env.counters);
        Some(Mark::Context)
    } else if let Some(hints) = hints.filter(|hints| by_hints && hints.owes_context()) {
        owed::append_moved(env.log, hints, env.counters);
        Some(Mark::Context)
    } else {
        None
    };
    // A flush of ours does not reach what KVM could not name.
    if other > 0 {
        verdict = Verdict::Default;
    }
    let kick = if gvas > 0 || mark.is_some() {
        kick(env, aged, pending)
    } else {
        Kick::No
    };
    Outcome {
        verdict,
        kick,
        aged,
        covered,
        gvas,
        mark,
    }
}

/// Has every vCPU flush everything at its next entry; `hints` is the VM's table, if it has one.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::plan::flush_all;
/// vm.map(5, 0, &[0x7000]); // which may have been a page table
/// assert!(vm.hints().owes_full());
/// flush_all(vm.log(), Some(&vm.hints()), &vm.counters);
/// assert!(!vm.hints().owes_full());
/// let _ = vm.drain();
/// assert_eq!(vm.cpu.dropped, ["full"]);
/// ```
pub fn flush_all<N>(log: Log<'_>, hints: Option<&Hints<'_, N>>, counters: &Counters) {
    let append = || log.append_full();
    match hints {
        Some(hints) => hints.top.turned.pay(|| hints.top.moved.pay(append)),
        None => append(),
    }
    counters.add(Counter::AppendedFull, 1);
}

/// When vCPUs have to come by for `aged` more pages.
fn kick<N>(env: &Env<'_, N>, aged: u32, pending: &AtomicU32) -> Kick {
    let within = match env.tunables.max_delay_ms {
        0 => Kick::No,
        ms => Kick::Within(ms),
    };
    match env.policy.timing {
        Timing::Now => {
            pending.store(0, Ordering::Relaxed);
            Kick::Now
        }
        Timing::Deferred => within,
        Timing::Batched => {
            let before = pending.fetch_add(aged, Ordering::Relaxed);
            if before.saturating_add(aged) >= env.tunables.batch_pages {
                pending.store(0, Ordering::Relaxed);
                Kick::Now
            } else {
                within
            }
        }
    }
}
