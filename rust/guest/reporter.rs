// SPDX-License-Identifier: GPL-2.0
//! The thread: says HELLO and what follows, looks at pages, tells the host.
//!
//! It alone calls the host, so a page's revocation never overtakes its report.  After its start it
//! allocates nothing.  While the host does not answer, the kernel is not asked to tell of changes.

use crate::kernel_map;
use crate::shared::Shared;
use crate::shim::{call, now_ms, relax, KernelRmap, Page, Sleeper, Watching};
use core::fmt;
use core::ops::Range;
use gvahint_core::cast;
use gvahint_core::report::Kind;
use gvahint_core::reporter::batch::{Batch, Header};
use gvahint_core::reporter::pace::{Pace, Sweep, Timer};
use gvahint_core::reporter::pages::{examine, wanted_range, Limits};
use gvahint_core::reporter::retries::{Retries, Retry};
use gvahint_core::reporter::session::{Answered, Meaning, Session, State, Step};
use gvahint_core::reporter::stats::Stat;
use gvahint_core::reporter::watch::Revocations;
use gvahint_core::wire;
use kernel::prelude::*;

/// How long a page that was busy is left alone.
const RETRY_MS: u64 = 100;
/// After so many pages others get the CPU.
const STRETCH: u64 = 64;

/// The session is gone, or nothing can be said in it: back to the top.
struct Over;

/// What came of looking at a page.
struct Looked {
    /// What the host was told of, this page included.
    said: Range<u64>,
    /// The page after those that this was about.
    next: u64,
}

impl Looked {
    /// Nothing was said, and `next` is next.
    const fn nothing(next: u64) -> Self {
        Self { said: 0..0, next }
    }
}

/// What the thread has.
struct Work<'a, W> {
    shared: &'a Shared,
    start_watch: W,
    watching: Option<Watching>,
    session: Session,
    sweep: Sweep,
    pace: Pace,
    recheck: Timer,
    retry: Timer,
    retries: KBox<Retries>,
    batch: Batch,
    out: Page,
    wanted: Page,
    /// The linear ranges that the host was told, and the words that they take.
    linear: Page,
    linear_words: usize,
    warned: bool,
}

/// Reports until the thread shall stop.  Sleeps.
pub(crate) fn run(
    shared: &Shared,
    sleeper: &Sleeper,
    start_watch: impl Fn() -> Result<Watching>,
) -> Result {
    let now = now_ms();
    let settings = &shared.settings;
    let mut work = Work {
        shared,
        start_watch,
        watching: None,
        session: Session::new(),
        sweep: Sweep::start(now),
        pace: Pace::new(settings.min_poll_ms.get(), now),
        recheck: Timer::after(kernel_map::RECHECK_MS, now),
        retry: Timer::after(RETRY_MS, now),
        retries: KBox::new(Retries::new(), GFP_KERNEL)?,
        batch: Batch::new(),
        out: Page::new()?,
        wanted: Page::new()?,
        linear: Page::new()?,
        linear_words: 0,
        warned: false,
    };
    while !sleeper.should_stop() {
        let wait = work.step(settings.enabled.get() != 0);
        shared.set_state(work.session.state());
        // Changes come in crowds: they are told together.
        let least = settings.min_poll_ms.get();
        sleeper.pause(least);
        if wait > least && !sleeper.should_stop() {
            sleeper.wait(wait.saturating_sub(least));
        }
    }
    if work.session.is_live() {
        work.bye();
    }
    Ok(())
}

impl<W: Fn() -> Result<Watching>> Work<'_, W> {
    /// One round.  Returns how long to wait for the next.
    fn step(&mut self, enabled: bool) -> u64 {
        let done = match self.session.next(enabled, now_ms()) {
            Step::Wait(ms) => return ms,
            Step::Hello => self.hello(),
            Step::Linear => self.linear(),
            Step::Work => self.work(),
            Step::Bye => {
                self.bye();
                Ok(())
            }
        };
        if !self.session.is_live() {
            // Nobody pays for being watched while there is nobody to tell.
            self.watching = None;
            self.batch.clear();
            self.retries.clear();
            return 0;
        }
        match (done, self.session.state()) {
            (Ok(()), State::Steady) => self.pace.wait_ms(now_ms()),
            _ => 0,
        }
    }

    /// What came of a call.
    fn note(&mut self, answered: Answered) -> Meaning {
        if let Some(error) = answered.error {
            self.shared.stats.add(error, 1);
        }
        if answered.silent {
            pr_info!("the host takes no hints; it is asked again every few seconds\n");
        }
        answered.meaning
    }

    /// Calls the host with the first words of a page.
    fn call(&mut self, op: u64, which: fn(&mut Self) -> &mut Page, words: usize) -> Meaning {
        let Some(a1) = self.session.a1() else {
            return Meaning::Over;
        };
        let answer = call(op, a1, which(self), words);
        let answered = self.session.answered(answer, now_ms());
        if answered.meaning == Meaning::Over {
            self.shared.stats.add(Stat::SessionsLost, 1);
        }
        self.note(answered)
    }

    fn hello(&mut self) -> Result<(), Over> {
        let a1 = u64::from(wire::ABI_VERSION);
        let answer = call(wire::OP_HELLO, a1, &mut self.wanted, wire::HELLO_WORDS);
        let words = self.wanted.words().get(..wire::HELLO_WORDS);
        let answered = self
            .session
            .hello(answer, words.unwrap_or_default(), now_ms());
        let Meaning::Taken(_) = self.note(answered) else {
            return Err(Over);
        };
        self.shared.stats.add(Stat::Hello, 1);
        if self.watching.is_none() {
            match (self.start_watch)() {
                Ok(watching) => self.watching = Some(watching),
                Err(error) => {
                    self.warn(format_args!("another module watches the pages: {error:?}"));
                    return self.give_up();
                }
            }
        }
        Ok(())
    }

    /// Why nothing can be said, once until something can.
    fn warn(&mut self, why: fmt::Arguments<'_>) {
        if !self.warned {
            pr_warn!("no hints for the host, though it asks: {}\n", why);
        }
        self.warned = true;
    }

    /// Nothing can be said to this host.
    fn give_up(&mut self) -> Result<(), Over> {
        if let Some(a1) = self.session.a1() {
            call(wire::OP_BYE, a1, &mut self.out, 0);
        }
        self.session.give_up(now_ms());
        Err(Over)
    }

    fn linear(&mut self) -> Result<(), Over> {
        let max = self.session.limits().max_linear;
        let Some(words) = kernel_map::read(&mut self.linear, max) else {
            self.warn(format_args!("the host takes too few linear ranges: {max}"));
            return self.give_up();
        };
        self.linear_words = words;
        match self.call(wire::OP_LINEAR, |work| &mut work.linear, words) {
            Meaning::Taken(_) => (),
            Meaning::Refused { .. } => {
                self.warn(format_args!("the host refuses the linear ranges"));
                return self.give_up();
            }
            Meaning::Over => return Err(Over),
        }
        self.warned = false;
        self.shared.stats.add(Stat::Linear, 1);
        let ranges = words / gvahint_core::reporter::linear::RANGE_WORDS;
        let ranges = cast::u64_from_usize(ranges);
        self.shared.stats.set(Stat::LinearRanges, ranges);
        // The host knows nothing: neither of a new session nor after another list.
        self.batch.clear();
        self.retries.clear();
        self.shared.watch().reset();
        let now = now_ms();
        self.sweep = Sweep::start(now);
        self.pace = Pace::new(self.shared.settings.min_poll_ms.get(), now);
        self.recheck = Timer::after(kernel_map::RECHECK_MS, now);
        self.session.sealed();
        Ok(())
    }

    fn work(&mut self) -> Result<(), Over> {
        self.revoke()?;
        self.ask()?;
        if self.retry.fires(RETRY_MS, now_ms()) {
            let mut left = self.retries.len();
            while let Some(retry) = self.retries.pop(&mut left) {
                self.look_at(retry)?;
            }
        }
        if self.session.state() == State::Sweeping {
            self.sweep()?;
        }
        self.send()?;
        if self.recheck.fires(kernel_map::RECHECK_MS, now_ms()) && self.linear_has_changed() {
            self.session.linear_changed();
        }
        Ok(())
    }

    /// Reads the linear ranges into a page that is free for now.
    fn linear_has_changed(&mut self) -> bool {
        let max = self.session.limits().max_linear;
        let read = kernel_map::read(&mut self.wanted, max);
        let now = read.and_then(|words| self.wanted.words().get(..words));
        now != self.linear.words().get(..self.linear_words)
    }

    /// Tells the host what is no longer true.
    fn revoke(&mut self) -> Result<(), Over> {
        let shared = self.shared;
        let watch = shared.watch();
        let mut revocations = Revocations::start(&watch);
        while let Some(range) = revocations.next(&watch) {
            let pages = 1u64.wrapping_shl(range.order);
            shared.stats.add(Stat::Revoked, pages);
            let header = Header {
                gfn: range.first,
                order: range.order,
                kind: Kind::Revoked,
            };
            self.say(header, &[])?;
        }
        Ok(())
    }

    /// Asks the host what it wants, and looks at that.
    fn ask(&mut self) -> Result<(), Over> {
        if self.pace.wait_ms(now_ms()) > 0 {
            return Ok(());
        }
        let settings = &self.shared.settings;
        let (least, most) = (settings.min_poll_ms.get(), settings.max_poll_ms.get());
        let most = most.min(u64::from(self.session.limits().poll_ms));
        let room = self.wanted.words().len();
        let told = match self.call(wire::OP_WANTED, |work| &mut work.wanted, room) {
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
        // The host may age small pages of what is a large one here: once is enough.
        let mut said = 0..0;
        for at in 0..room.min(cast::usize_from_u64(told)) {
            let Some(word) = self.wanted.words().get(at).copied() else {
                break;
            };
            let (pfn, end) = wanted_range(word);
            if !(said.contains(&pfn) && end <= said.end) {
                said = self.look_at_range(pfn, end)?.said;
            }
        }
        Ok(())
    }

    /// Goes on with the sweep as far as its rate allows.
    fn sweep(&mut self) -> Result<(), Over> {
        let rate = self.shared.settings.pages_per_second.get();
        let now = now_ms();
        let end = self.end();
        let start = self.sweep.at();
        let pages = self.sweep.allowance(rate, now);
        let next = self
            .look_at_range(start, start.saturating_add(pages).min(end))?
            .next;
        self.sweep.advance(next);
        self.shared
            .stats
            .add(Stat::Swept, next.saturating_sub(start));
        if next >= end {
            self.shared.stats.add(Stat::Sweeps, 1);
            let ms = self.sweep.elapsed_ms(now_ms());
            self.shared.stats.set(Stat::SweepMs, ms);
            self.session.swept();
        }
        Ok(())
    }

    /// First page that is not reported.
    fn end(&self) -> u64 {
        self.shared.pfns().min(self.session.limits().max_gfn)
    }

    /// Looks at a range; returns what came of its last page.
    fn look_at_range(&mut self, pfn: u64, end: u64) -> Result<Looked, Over> {
        let mut stretch = STRETCH;
        let mut last = Looked::nothing(pfn);
        while last.next < end {
            last = self.look_at(Retry::first(last.next))?;
            stretch = stretch.wrapping_sub(1);
            if stretch == 0 {
                stretch = STRETCH;
                relax();
            }
        }
        Ok(last)
    }

    /// Looks at a page, and tells the host.
    fn look_at(&mut self, retry: Retry) -> Result<Looked, Over> {
        let host = self.session.limits();
        let limits = Limits {
            end: self.end(),
            max_gvas: host.max_gvas,
            max_order: host.max_order,
        };
        let watch = self.shared.watch();
        let stats = &self.shared.stats;
        let examined = examine(&watch, &limits, &mut KernelRmap, stats, retry.pfn);
        if examined.again && !self.retries.push(retry) {
            stats.add(Stat::GivenUp, 1);
        }
        let mut looked = Looked::nothing(examined.next);
        if let Some(header) = examined.say {
            if header.kind != Kind::Revoked {
                looked.said = header.gfn..examined.next;
            }
            self.say(header, examined.found.gvas())?;
        }
        Ok(looked)
    }

    /// Puts a set into the batch; sends the batch if there is no room.
    fn say(&mut self, header: Header, gvas: &[u64]) -> Result<(), Over> {
        if !self.batch.push(self.out.words_mut(), header, gvas) {
            self.send()?;
            // It is empty now: a page holds the largest set.
            self.batch.push(self.out.words_mut(), header, gvas);
        }
        Ok(())
    }

    /// Sends the batch.
    fn send(&mut self) -> Result<(), Over> {
        while !self.batch.is_empty() {
            let words = self.batch.len();
            let meaning = self.call(wire::OP_REPORT, |work| &mut work.out, words);
            let stats = &self.shared.stats;
            match meaning {
                Meaning::Over => return Err(Over),
                Meaning::Taken(sets) if sets > 0 => {
                    stats.add(Stat::Reports, 1);
                    stats.add(Stat::Sets, sets);
                    self.batch.sent(self.out.words_mut(), sets);
                }
                Meaning::Taken(_) | Meaning::Refused { .. } => {
                    stats.add(Stat::SetsRefused, 1);
                    let too_big = meaning == Meaning::Refused { too_big: true };
                    self.batch.refused(self.out.words_mut(), too_big);
                }
            }
        }
        Ok(())
    }

    /// Takes leave.
    fn bye(&mut self) {
        self.watching = None;
        let _ = self.call(wire::OP_BYE, |work| &mut work.out, 0);
        self.session.bye();
    }
}
