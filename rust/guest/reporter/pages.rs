// SPDX-License-Identifier: GPL-2.0
//! Looks at pages, and says what is true of them, or no longer true.

use super::host::{Host, Over};
use super::outbox::Outbox;
use crate::shim::{now_ms, relax, KernelRmap, OnlineMemory, Page};
use crate::watched::Watched;
use core::ops::Range;
use gvahint_core::report::Kind;
use gvahint_core::reporter::pace::Timer;
use gvahint_core::reporter::pages::{examine, Limits};
use gvahint_core::reporter::retries::{Retries, Retry};
use gvahint_core::reporter::stats::{Stat, Stats};
use gvahint_core::reporter::watch::Revocations;
use kernel::prelude::*;

/// After so many pages others get the CPU.
const STRETCH: u64 = 64;
/// How often changes are told in the middle of long work.
const REVOKE_MS: u64 = 10;

/// What came of looking at a page.
pub(super) struct Looked {
    /// What the host was told of, this page included.
    pub(super) said: Range<u64>,
    /// The page after those that this was about.
    pub(super) next: u64,
}

impl Looked {
    /// Nothing was said, and `next` is next.
    const fn nothing(next: u64) -> Self {
        Self { said: 0..0, next }
    }
}

/// What is to be said, and what is to be looked at again.
pub(super) struct Pages<'a> {
    stats: &'a Stats,
    pub(super) watched: Watched,
    /// The linear ranges that the host was told, and the words that they take.
    pub(super) linear: Page,
    pub(super) linear_words: usize,
    outbox: Outbox<'a>,
    retries: KBox<Retries>,
    /// How often a page was looked at.
    pub(super) looks: u64,
    /// Pages to look at before others get the CPU, and when changes are told next.
    stretch: u64,
    revoke_at: Timer,
}

impl<'a> Pages<'a> {
    /// Sleeps.
    pub(super) fn new(stats: &'a Stats) -> Result<Self> {
        Ok(Self {
            stats,
            watched: Watched::new()?,
            linear: Page::new()?,
            linear_words: 0,
            outbox: Outbox::new(stats)?,
            retries: KBox::new(Retries::new(), GFP_KERNEL)?,
            looks: 0,
            stretch: STRETCH,
            revoke_at: Timer::after(0, 0),
        })
    }

    /// The host knows nothing: nothing that waits is of use.
    pub(super) fn reset(&mut self) {
        self.outbox.clear();
        self.retries.clear();
        self.watched.watch().reset();
    }

    /// There is nobody to tell, so nobody pays for being watched.
    pub(super) fn rest(&mut self) {
        self.watched.stop();
        self.outbox.clear();
        self.retries.clear();
    }

    /// The words of the linear ranges that the host was told.
    pub(super) fn linear_told(&self) -> &[u64] {
        let words = self.linear.words().get(..self.linear_words);
        words.unwrap_or_default()
    }

    /// First page that is not reported.
    pub(super) fn end(&self, host: &Host<'_>) -> u64 {
        self.watched.pfns().min(host.session.limits().max_gfn)
    }

    /// Tells the host what is no longer true.
    pub(super) fn revoke(&mut self, host: &mut Host<'_>) -> Result<(), Over> {
        let watch = self.watched.watch();
        let mut revocations = Revocations::start(&watch);
        while let Some(header) = revocations.next(&watch) {
            let counter = match header.kind {
                Kind::Anywhere => Stat::AnywhereChanged,
                _ => Stat::Revoked,
            };
            self.stats.add(counter, 1u64.wrapping_shl(header.order));
            self.outbox.say(host, header, &[])?;
        }
        Ok(())
    }

    /// After each page of long work: others get the CPU, and changes wait no longer for that.
    fn breathe(&mut self, host: &mut Host<'_>) -> Result<(), Over> {
        self.stretch = self.stretch.wrapping_sub(1);
        if self.stretch == 0 {
            self.stretch = STRETCH;
            relax();
        }
        // After each: to look at one that KSM has merged may take long.
        if self.watched.watch().is_kicked() && self.revoke_at.fires(REVOKE_MS, now_ms()) {
            self.revoke(host)?;
            self.send(host)?;
        }
        Ok(())
    }

    /// Whether there are pages to look at again.
    pub(super) fn has_retries(&self) -> bool {
        !self.retries.is_empty()
    }

    /// Looks again at pages that were busy.
    pub(super) fn retry(&mut self, host: &mut Host<'_>) -> Result<(), Over> {
        let mut left = self.retries.len();
        while let Some(retry) = self.retries.pop(&mut left) {
            self.look_at(host, retry)?;
            self.breathe(host)?;
        }
        Ok(())
    }

    /// Looks at a range; returns what came of its last page.
    pub(super) fn look_at_range(
        &mut self,
        host: &mut Host<'_>,
        pfn: u64,
        end: u64,
    ) -> Result<Looked, Over> {
        let end = end.min(self.end(host));
        let mut last = Looked::nothing(pfn);
        while last.next < end {
            last = self.look_at(host, Retry::first(last.next))?;
            self.breathe(host)?;
        }
        Ok(last)
    }

    /// Looks at a page, and tells the host.
    fn look_at(&mut self, host: &mut Host<'_>, retry: Retry) -> Result<Looked, Over> {
        self.looks = self.looks.wrapping_add(1);
        let most = host.session.limits();
        let limits = Limits {
            end: self.end(host),
            max_gvas: most.max_gvas,
            max_order: most.max_order,
            linear: self.linear_told(),
        };
        let watch = self.watched.watch();
        let stats = self.stats;
        let memory = OnlineMemory::lock();
        let examined = examine(&watch, &limits, &mut KernelRmap, stats, retry.pfn);
        drop(memory);
        if examined.again && !self.retries.push(retry) {
            stats.add(Stat::GivenUp, 1);
        }
        let mut looked = Looked::nothing(examined.next);
        if let Some(header) = examined.say {
            if header.kind != Kind::Revoked {
                looked.said = header.gfn..examined.next;
            }
            self.outbox.say(host, header, examined.found.gvas())?;
        }
        Ok(looked)
    }

    /// Sends what was said.
    pub(super) fn send(&mut self, host: &mut Host<'_>) -> Result<(), Over> {
        self.outbox.send(host)
    }
}
