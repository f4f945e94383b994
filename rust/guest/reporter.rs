// SPDX-License-Identifier: GPL-2.0
//! The thread: which step next, and its rounds.
//!
//! It alone calls the host, so a page's revocation never overtakes its report.  After its start it
//! allocates nothing, unless memory is plugged in.  While the host is told nothing, the kernel is
//! not asked to tell of changes; a session that another follows at once is told until that begins.
//!
//! | file | what it does |
//! |---|---|
//! | [`host`] | calls, and the session that they are made in |
//! | [`opening`] | HELLO, LINEAR, and whether the linear ranges are still those |
//! | [`canary`] | whether hints work on this host |
//! | [`pages`] | looks at pages, revokes |
//! | [`outbox`] | sets that wait to be sent |

mod canary;
mod host;
mod opening;
mod outbox;
mod pages;

use crate::kernel_map;
use crate::shared::Shared;
use crate::shim::{direct_map_splits, drain, now_ms, CanaryPage, Page, Sleeper};
use core::ops::Range;
use gvahint_core::cast;
use gvahint_core::reporter::answer::Meaning;
use gvahint_core::reporter::asked::Asked;
use gvahint_core::reporter::canary::Canary;
use gvahint_core::reporter::pace::{Pace, Pressure, Sweep, Timer, MAX_STEP};
use gvahint_core::reporter::state::{State, Step};
use gvahint_core::reporter::stats::Stat;
use gvahint_core::wire;
use host::{Host, Over};
use kernel::prelude::*;
use pages::Pages;

/// How long a page that was busy is left alone.
const RETRY_MS: u64 = 100;
/// How often the CPUs have to give their free pages back.
const DRAIN_MS: u64 = 1_000;

/// What the thread has.
struct Work<'a> {
    shared: &'a Shared,
    sleeper: &'a Sleeper,
    host: Host<'a>,
    pages: Pages<'a>,
    sweep: Sweep,
    pressure: Pressure,
    pace: Pace,
    recheck: Timer,
    /// When the linear ranges are read again, however much is going on.
    recheck_by: u64,
    /// Memory was plugged in or out since they were told.
    plugged: bool,
    /// Pages of the direct map that were split when that was last looked at.
    splits: u64,
    retry: Timer,
    drain: Timer,
    canary: Canary,
    canary_page: CanaryPage,
    /// Words of the linear ranges that were found and are yet to be told.
    linear_found: Option<usize>,
    /// What the host wants, and how much of it was looked at.
    wanted: Page,
    asked: Asked,
    /// For whatever else needs a page for a moment.
    scratch: Page,
    /// What was said in the log, and still holds: nothing can be told; a canary was lost.
    warned: bool,
    lost_said: bool,
}

/// Reports until the thread shall stop.  Sleeps.
pub(crate) fn run(shared: &Shared, sleeper: &Sleeper) -> Result {
    let now = now_ms();
    let settings = &shared.settings;
    let mut work = Work {
        shared,
        sleeper,
        host: Host::new(&shared.stats),
        pages: Pages::new(&shared.stats)?,
        sweep: Sweep::start(now),
        pressure: Pressure::new(),
        pace: Pace::new(settings.min_poll_ms.get(), now),
        recheck: Timer::after(kernel_map::RECHECK_MS, now),
        recheck_by: now,
        plugged: false,
        splits: direct_map_splits(),
        retry: Timer::after(RETRY_MS, now),
        drain: Timer::after(0, now),
        canary: Canary::new(),
        canary_page: CanaryPage::new()?,
        linear_found: None,
        wanted: Page::new()?,
        asked: Asked::default(),
        scratch: Page::new()?,
        warned: false,
        lost_said: false,
    };
    while !sleeper.should_stop() {
        let wait = work.step(settings.enabled.get() != 0);
        shared.show(work.host.session.state(), work.canary.verdict());
        // Changes come in crowds: they are told together.
        let least = settings.min_poll_ms.get();
        sleeper.pause(least);
        if wait > least && !sleeper.should_stop() {
            sleeper.wait(wait.saturating_sub(least));
        }
    }
    if work.host.session.is_live() {
        work.bye();
    }
    Ok(())
}

impl Work<'_> {
    /// One round.  Returns how long to wait for the next.
    fn step(&mut self, enabled: bool) -> u64 {
        let done = match self.host.session.next(enabled, now_ms()) {
            Step::Wait(ms) => {
                self.pages.rest();
                return ms;
            }
            Step::Hello => self.hello(),
            Step::Linear => self.linear(),
            Step::Work => self.work(),
            Step::Renew => {
                self.pages.rest();
                self.renew()
            }
            Step::Bye => {
                self.bye();
                Ok(())
            }
        };
        match (done, self.host.session.state()) {
            (Ok(()), State::Steady) if self.asked.is_done() => {
                let now = now_ms();
                let wait = self.pace.wait_ms(now).min(self.recheck.wait_ms(now));
                if self.pages.has_retries() {
                    wait.min(RETRY_MS)
                } else {
                    wait
                }
            }
            (Ok(()), State::Degraded) => u64::from(self.host.session.limits().poll_ms),
            _ => 0,
        }
    }

    fn work(&mut self) -> Result<(), Over> {
        // Before anything that renews the lease, or takes its time.
        self.pages.revoke(&mut self.host)?;
        self.pages.send(&mut self.host)?;
        self.ask_canary()?;
        if self.host.session.state() == State::Degraded {
            return Ok(());
        }
        self.ask()?;
        self.look_at_asked()?;
        if self.retry.fires(RETRY_MS, now_ms()) {
            self.pages.retry(&mut self.host)?;
        }
        if self.host.session.state() == State::Sweeping {
            self.sweep()?;
        }
        self.pages.send(&mut self.host)?;
        self.recheck();
        Ok(())
    }

    /// Asks the host what it wants, if it is time for that.
    fn ask(&mut self) -> Result<(), Over> {
        if self.pace.wait_ms(now_ms()) > 0 {
            return Ok(());
        }
        if !self.asked.is_done() {
            // Not more of it before that; but what was looked at may all have been unknown.
            self.pace.asked(now_ms());
            return self.renew();
        }
        let settings = &self.shared.settings;
        let (least, most) = (settings.min_poll_ms.get(), settings.max_poll_ms.get());
        let most = most.min(u64::from(self.host.session.limits().poll_ms));
        let room = self.wanted.words().len();
        let told = match self.host.call(wire::OP_WANTED, &mut self.wanted, room) {
            Meaning::Taken(told) => told,
            Meaning::Refused { .. } => {
                self.pace.refused(least, most);
                self.pace.asked(now_ms());
                return Ok(());
            }
            Meaning::Over => return Err(Over),
        };
        self.shared.stats.add(Stat::Wanted, 1);
        self.shared.stats.add(Stat::WantedPages, told);
        self.pace.told(told, least, most);
        self.pace.asked(now_ms());
        self.asked.begin(cast::usize_from_u64(told));
        Ok(())
    }

    /// Looks at what the host wants.  A leaf of 1 GiB is many pages: no more at a time than in a step of
    /// the sweep, and the rest in the next round.
    fn look_at_asked(&mut self) -> Result<(), Over> {
        let free = self.shared.stats.get(Stat::UnknownFree);
        let most = self.pages.looks.wrapping_add(MAX_STEP);
        while self.pages.looks < most {
            let Some(Range { start, end }) = self.asked.next(self.wanted.words(), MAX_STEP) else {
                break;
            };
            let looked = self.pages.look_at_range(&mut self.host, start, end)?;
            self.asked.looked(looked.next.max(end), looked.said);
        }
        // One such page leaves the host without a hint for 2 MiB; it will ask again.
        let waits = self.shared.stats.get(Stat::UnknownFree) != free;
        if waits && self.drain.fires(DRAIN_MS, now_ms()) {
            drain();
        }
        Ok(())
    }

    /// Goes on with the sweep as far as its rate allows, which is less while the guest is short of
    /// memory: a page that is looked at is locked, and who reclaims passes it by.
    fn sweep(&mut self) -> Result<(), Over> {
        let rate = self.shared.settings.pages_per_second.get();
        let now = now_ms();
        if self.pressure.is_due(now) {
            self.pressure.saw(self.sleeper.scanned(), now);
        }
        let short = self.pressure.is_on(now);
        if short {
            self.shared.stats.add(Stat::SweepYields, 1);
        }
        let end = self.pages.end(&self.host);
        let start = self.sweep.at();
        let pages = self.sweep.allowance(rate, short, now);
        let stop = start.saturating_add(pages).min(end);
        let next = self.pages.look_at_range(&mut self.host, start, stop)?.next;
        self.sweep.advance(next);
        let stats = &self.shared.stats;
        stats.add(Stat::Swept, next.saturating_sub(start));
        if next >= end {
            stats.add(Stat::Sweeps, 1);
            stats.set(Stat::SweepMs, self.sweep.elapsed_ms(now_ms()));
            self.host.session.swept();
        }
        Ok(())
    }

    /// Takes leave.
    fn bye(&mut self) {
        // First: nobody tells of changes from then on.
        self.host.bye(&mut self.scratch);
        self.pages.rest();
        self.host.session.off();
    }
}
