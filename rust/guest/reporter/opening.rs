// SPDX-License-Identifier: GPL-2.0
//! How a session begins: HELLO, LINEAR, and whether the linear ranges are still those.

use super::host::Over;
use super::Work;
use crate::kernel_map;
use crate::shim::{direct_map_splits, memory_changed, now_ms, nr_pfns};
use core::fmt;
use core::mem::swap;
use gvahint_core::cast;
use gvahint_core::reporter::answer::Meaning;
use gvahint_core::reporter::asked::Asked;
use gvahint_core::reporter::canary::Canary;
use gvahint_core::reporter::linear::RANGE_WORDS;
use gvahint_core::reporter::pace::{Pace, Sweep, Timer};
use gvahint_core::reporter::stats::Stat;
use gvahint_core::wire;
use kernel::prelude::*;

impl Work<'_> {
    pub(super) fn hello(&mut self) -> Result<(), Over> {
        // Before the host is asked: its table has to reach as far as the bits will.
        let pfns = nr_pfns();
        self.linear_found = None;
        self.host.hello(&mut self.scratch)?;
        // The host has forgotten all, so that nobody need tell of changes meanwhile.
        let watched = &mut self.pages.watched;
        watched.grow(pfns);
        self.shared.stats.add(Stat::Hello, 1);
        self.canary = Canary::new();
        if let Err(error) = watched.start() {
            return self.give_up(format_args!("another module watches the pages: {error:?}"));
        }
        Ok(())
    }

    pub(super) fn linear(&mut self) -> Result<(), Over> {
        let max = self.host.session.limits().max_linear;
        let page = &mut self.pages.linear;
        let found = self.linear_found.take();
        let Some(words) = found.or_else(|| kernel_map::read(page, max)) else {
            return self.give_up(format_args!("the host takes too few linear ranges: {max}"));
        };
        self.pages.linear_words = words;
        let answer = match self.host.call(wire::OP_LINEAR, page, words) {
            Meaning::Taken(answer) => answer,
            Meaning::Refused { .. } => {
                return self.give_up(format_args!("the host refuses the linear ranges"));
            }
            Meaning::Over => return Err(Over),
        };
        self.warned = false;
        let stats = &self.shared.stats;
        stats.add(Stat::Linear, 1);
        stats.set(
            Stat::LinearRanges,
            cast::u64_from_usize(words / RANGE_WORDS),
        );
        let now = now_ms();
        if self.host.session.sealed(answer) {
            if self.plugged {
                self.sweep = Sweep::start(now);
                self.host.session.sweep_again();
            }
        } else {
            // The host knows nothing.
            self.pages.reset();
            self.asked = Asked::default();
            self.sweep = Sweep::start(now);
            self.pace = Pace::new(self.shared.settings.min_poll_ms.get(), now);
        }
        self.plugged = false;
        self.look_again(now);
        Ok(())
    }

    /// The ranges are those of now.
    fn look_again(&mut self, now: u64) {
        self.recheck = Timer::after(kernel_map::RECHECK_MS, now);
        self.recheck_by = now.saturating_add(kernel_map::RECHECK_MS);
    }

    /// Looks whether what the session began with still holds.
    pub(super) fn recheck(&mut self) {
        let now = now_ms();
        let splits = direct_map_splits();
        if splits != self.splits {
            self.splits = splits;
            self.recheck.hasten(kernel_map::SETTLE_MS, now);
        }
        if memory_changed() {
            self.plugged = true;
            let by = self.recheck_by;
            self.recheck.put_off(kernel_map::SETTLE_MS, now, by);
        }
        if !self.recheck.fires(kernel_map::RECHECK_MS, now) {
            return;
        }
        self.look_again(now);
        if self.pages.watched.is_outgrown() {
            // The host may know of more memory as well.
            self.host.session.start_over();
        } else if self.linear_has_changed() {
            // This very list: if the host were told once more what it knows, it would forget nothing.
            swap(&mut self.scratch, &mut self.pages.linear);
            self.host.session.linear_changed();
        }
    }

    /// Reads the linear ranges into a page that is free for now.
    fn linear_has_changed(&mut self) -> bool {
        let max = self.host.session.limits().max_linear;
        self.linear_found = kernel_map::read(&mut self.scratch, max);
        let words = self.linear_found;
        let now = words.and_then(|words| self.scratch.words().get(..words));
        let changed = now != Some(self.pages.linear_told());
        self.linear_found = words.filter(|_| changed);
        changed
    }

    /// Nothing can be said to this host; says why, once until something can.
    fn give_up(&mut self, why: fmt::Arguments<'_>) -> Result<(), Over> {
        if !self.warned {
            pr_warn!("no hints for the host, though it asks: {}\n", why);
        }
        self.warned = true;
        self.host.bye(&mut self.scratch);
        self.host.session.give_up(now_ms());
        Err(Over)
    }
}
