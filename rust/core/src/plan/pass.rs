// SPDX-License-Identifier: GPL-2.0

//! A notifier call so far: what it counted, and what it still has to append.

use super::Env;
use crate::addr::{Gva, MapSize, PAGE_SIZE};
use crate::cast;
use crate::counters::Counter;

/// One notifier call so far: four words that start at zero and live in the
/// caller's context.
///
/// ```
/// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::{Gfn, Level}, plan::*, policy::Policy, sync::AtomicU32};
/// let env = vm.env(Policy::CLEAR_YOUNG);
/// let mut pass = Pass { words: [0; 4] };
/// aged(&mut pass, &env, Gfn::new(5).unwrap(), Level::L4K, 1_000);
/// assert_ne!(pass, Pass::default());
/// // After the call it is as new.
/// let _ = finish(&mut pass, &env, 0, &AtomicU32::new(0));
/// assert_eq!(pass, Pass::default());
/// ```
///
/// # Invariants
///
/// Words: leaves aged and, in the upper half, of these covered; flags and, in
/// the upper half, gVAs appended; and twice a gVA in a large page of the guest
/// that still is to be appended, with log2 of that page's frames. covered <=
/// aged: what is not known to be covered counts as uncovered, also when the
/// policy changes in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Pass {
    /// The words, for whoever keeps them.
    pub words: [u64; 4],
}

/// A leaf was uncovered for a reason that holds for the whole VM.
pub(super) const OF_VM: u64 = 1;
/// A leaf needs a context flush.
pub(super) const CONTEXT: u64 = 2;
/// A leaf needs a full flush, whatever the policy is by the end of the call.
pub(super) const FULL: u64 = 4;

impl Pass {
    pub(super) fn aged(&self) -> u32 {
        cast::low_u32(self.words[0])
    }

    pub(super) fn covered(&self) -> u32 {
        cast::high_u32(self.words[0])
    }

    pub(super) fn gvas(&self) -> u32 {
        cast::high_u32(self.words[1])
    }

    fn count_gva(&mut self) {
        if self.gvas() < u32::MAX {
            self.words[1] = self.words[1].wrapping_add(1 << 32);
        }
    }

    /// Counts a leaf; what would not fit was counted already.
    pub(super) fn count_aged(&mut self) {
        if self.aged() < u32::MAX {
            self.words[0] = self.words[0].wrapping_add(1);
        }
    }

    pub(super) fn count_covered(&mut self) {
        if self.covered() < self.aged() {
            self.words[0] = self.words[0].wrapping_add(1 << 32);
        }
        debug_assert!(self.covered() <= self.aged());
    }

    /// Appends a gVA. One in a large page waits for others of that page: its
    /// INVVPID takes all of them along. It is appended after the last one's
    /// accessed bit was cleared, which is why the first cannot stand for them.
    pub(super) fn append<N>(&mut self, env: &Env<'_, N>, gva: Gva, size: MapSize) {
        let order = u64::from(size.order());
        if order == 0 {
            self.append_now(env, gva);
            return;
        }
        let new = gva.page().raw() | order;
        let [_, _, first, second] = &mut self.words;
        for place in [&mut *first, &mut *second] {
            if *place == 0 || (*place ^ new) & !(size.bytes().wrapping_sub(PAGE_SIZE)) == 0 {
                *place = new;
                return;
            }
        }
        let old = core::mem::replace(first, core::mem::replace(second, new));
        self.append_now(env, Gva::stored(old).page());
    }

    pub(super) fn append_now<N>(&mut self, env: &Env<'_, N>, gva: Gva) {
        if env.log.append_gva(gva) {
            self.count_gva();
            env.counters.add(Counter::AppendedGva, 1);
        } else {
            // The ring is gone: what it would have told all vCPUs, this does.
            self.words[1] |= CONTEXT;
        }
    }

    /// Appends what waits.
    pub(super) fn settle<N>(&mut self, env: &Env<'_, N>) {
        for at in [2, 3] {
            let waiting = self.words.get_mut(at).map_or(0, core::mem::take);
            if waiting != 0 {
                self.append_now(env, Gva::stored(waiting).page());
            }
        }
    }
}
