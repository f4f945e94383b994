// SPDX-License-Identifier: GPL-2.0

//! Which page when: the sweep's cursor and rate, and how often the host is asked.

/// Pages that one step of the sweep looks at, at most.
pub const MAX_STEP: u64 = 16_384;

/// The sweep of a guest that is short of memory is slower by this factor. What the host asks for is
/// not: each page without a hint costs the guest all its translations.
pub const YIELD: u64 = 4;
/// For how long a guest counts as short of memory after its kernel took some back.
const SHORT_MS: u64 = 1_000;
/// How often to look.
const LOOK_MS: u64 = 100;

/// Whether a guest is short of memory: whether its kernel looks for pages to take back.
///
/// ```
/// use gvahint_core::reporter::pace::Pressure;
/// let mut pressure = Pressure::new();
/// pressure.saw(7_000, 100);
/// assert!(!pressure.is_on(100));
/// // It looked at more of them since.
/// pressure.saw(7_032, 200);
/// assert!(pressure.is_on(1_199) && !pressure.is_on(1_200));
/// ```
#[derive(Debug, Default)]
pub struct Pressure {
    scanned: u64,
    saw_ms: Option<u64>,
    until_ms: u64,
}

impl Pressure {
    /// Nothing is known yet.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Pressure;
    /// assert!(!Pressure::new().is_on(0));
    /// ```
    pub const fn new() -> Self {
        Self {
            scanned: 0,
            saw_ms: None,
            until_ms: 0,
        }
    }

    /// Whether it is time to look.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Pressure;
    /// let mut pressure = Pressure::new();
    /// assert!(pressure.is_due(0));
    /// pressure.saw(7_000, 0);
    /// assert!(!pressure.is_due(99) && pressure.is_due(100));
    /// ```
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.saw_ms
            .is_none_or(|saw_ms| now_ms.saturating_sub(saw_ms) >= LOOK_MS)
    }

    /// The kernel has looked at `scanned` pages so far.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Pressure;
    /// let mut pressure = Pressure::new();
    /// pressure.saw(7_000, 0);
    /// // When that was is not known: nobody looked for long.
    /// pressure.saw(9_000, 60_000);
    /// assert!(!pressure.is_on(60_000));
    /// ```
    pub fn saw(&mut self, scanned: u64, now_ms: u64) {
        let lately = |saw_ms| now_ms.saturating_sub(saw_ms) < SHORT_MS;
        if self.saw_ms.is_some_and(lately) && scanned != self.scanned {
            self.until_ms = now_ms.saturating_add(SHORT_MS);
        }
        self.scanned = scanned;
        self.saw_ms = Some(now_ms);
    }

    /// Whether the guest is short of memory.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Pressure;
    /// let mut pressure = Pressure::new();
    /// pressure.saw(7_000, 0);
    /// pressure.saw(7_032, 100);
    /// assert!(pressure.is_on(100));
    /// ```
    pub const fn is_on(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }
}

/// Goes once over all pages, at a bounded rate.
///
/// ```
/// use gvahint_core::reporter::pace::Sweep;
/// let mut sweep = Sweep::start(0);
/// let pages = sweep.allowance(1_000, false, 100);
/// assert_eq!(pages, 100);
/// sweep.advance(sweep.at() + pages);
/// assert_eq!(sweep.at(), 100);
/// ```
#[derive(Debug, Default)]
pub struct Sweep {
    at: u64,
    last_ms: u64,
    started_ms: u64,
}

impl Sweep {
    /// Starts at the first page.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Sweep;
    /// assert_eq!(Sweep::start(5).at(), 0);
    /// ```
    pub const fn start(now_ms: u64) -> Self {
        Self {
            at: 0,
            last_ms: now_ms,
            started_ms: now_ms,
        }
    }

    /// The next page.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Sweep;
    /// let mut sweep = Sweep::start(0);
    /// sweep.advance(9);
    /// assert_eq!(sweep.at(), 9);
    /// ```
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// So many pages may be looked at now, at that rate, or in a guest that is `short` of memory.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::{Sweep, MAX_STEP, YIELD};
    /// let mut sweep = Sweep::start(0);
    /// assert_eq!(sweep.allowance(500, false, 10), 5);
    /// assert_eq!(sweep.allowance(500, false, 10), 0);
    /// assert_eq!(sweep.allowance(500, true, 18), 1);
    /// assert_eq!(sweep.allowance(1 << 30, true, 20), MAX_STEP / YIELD);
    /// ```
    pub fn allowance(&mut self, pages_per_second: u64, short: bool, now_ms: u64) -> u64 {
        let (rate, most) = if short {
            (pages_per_second / YIELD, MAX_STEP / YIELD)
        } else {
            (pages_per_second, MAX_STEP)
        };
        let elapsed = now_ms.saturating_sub(self.last_ms).min(1_000);
        let pages = rate.saturating_mul(elapsed) / 1_000;
        // What is too little for a page is left for the next time.
        if pages > 0 {
            self.last_ms = now_ms;
        }
        pages.min(most)
    }

    /// All pages below `next` are done.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Sweep;
    /// let mut sweep = Sweep::start(0);
    /// sweep.advance(9);
    /// sweep.advance(3);
    /// assert_eq!(sweep.at(), 9);
    /// ```
    pub fn advance(&mut self, next: u64) {
        self.at = self.at.max(next);
    }

    /// How long it has taken so far.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Sweep;
    /// assert_eq!(Sweep::start(100).elapsed_ms(150), 50);
    /// ```
    pub const fn elapsed_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.started_ms)
    }
}

/// How often to ask the host what it wants: the busier it is, the oftener.
///
/// ```
/// use gvahint_core::reporter::pace::Pace;
/// let mut pace = Pace::new(10, 2_000);
/// assert_eq!(pace.interval_ms(), 10);
/// // Nothing is wanted: half as often.
/// pace.told(0, 10, 2_000);
/// assert_eq!(pace.interval_ms(), 20);
/// // It wants pages: as often as possible.
/// pace.told(512, 10, 2_000);
/// assert_eq!(pace.interval_ms(), 10);
/// ```
#[derive(Debug)]
pub struct Pace {
    interval_ms: u64,
    due_ms: u64,
}

impl Pace {
    /// Starts as often as possible.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Pace;
    /// assert_eq!(Pace::new(10, 500).wait_ms(500), 0);
    /// ```
    pub const fn new(min_ms: u64, now_ms: u64) -> Self {
        Self {
            interval_ms: min_ms,
            due_ms: now_ms,
        }
    }

    /// The interval.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Pace;
    /// assert_eq!(Pace::new(10, 0).interval_ms(), 10);
    /// ```
    pub const fn interval_ms(&self) -> u64 {
        self.interval_ms
    }

    /// Whether it is time to ask, and if not, for how long it isn't.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Pace;
    /// let mut pace = Pace::new(10, 0);
    /// pace.asked(100);
    /// assert_eq!(pace.wait_ms(104), 6);
    /// ```
    pub const fn wait_ms(&self, now_ms: u64) -> u64 {
        self.due_ms.saturating_sub(now_ms)
    }

    /// The host wanted so many pages.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Pace;
    /// let mut pace = Pace::new(10, 0);
    /// pace.told(0, 10, 2_000);
    /// assert_eq!(pace.interval_ms(), 20);
    /// ```
    pub fn told(&mut self, pages: u64, min_ms: u64, max_ms: u64) {
        self.interval_ms = match pages {
            0 => self.interval_ms.saturating_mul(2),
            1..64 => self.interval_ms / 2,
            _ => min_ms,
        };
        self.bound(min_ms, max_ms);
    }

    /// The host was asked too often.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Pace;
    /// let mut pace = Pace::new(10, 0);
    /// pace.refused(10, 2_000);
    /// assert_eq!(pace.interval_ms(), 20);
    /// ```
    pub fn refused(&mut self, min_ms: u64, max_ms: u64) {
        self.interval_ms = self.interval_ms.saturating_mul(2);
        self.bound(min_ms, max_ms);
    }

    fn bound(&mut self, min_ms: u64, max_ms: u64) {
        self.interval_ms = self.interval_ms.max(min_ms).min(max_ms.max(1));
    }

    /// It was asked now.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Pace;
    /// let mut pace = Pace::new(10, 0);
    /// pace.asked(100);
    /// assert_eq!(pace.wait_ms(100), 10);
    /// ```
    pub fn asked(&mut self, now_ms: u64) {
        self.due_ms = now_ms.saturating_add(self.interval_ms);
    }
}

/// Something that is due once in a while.
///
/// ```
/// use gvahint_core::reporter::pace::Timer;
/// let mut timer = Timer::after(100, 0);
/// assert!(!timer.fires(100, 99));
/// assert!(timer.fires(100, 100));
/// ```
#[derive(Debug, Default)]
pub struct Timer {
    due_ms: u64,
}

impl Timer {
    /// Due after `ms`.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Timer;
    /// assert!(Timer::after(0, 7).fires(100, 7));
    /// ```
    pub const fn after(ms: u64, now_ms: u64) -> Self {
        Self {
            due_ms: now_ms.saturating_add(ms),
        }
    }

    /// Due after `ms`, though it may have been earlier: something is going on that is best waited for, but
    /// not beyond `limit_ms`.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Timer;
    /// let mut timer = Timer::after(100, 0);
    /// timer.put_off(30, 60, 100);
    /// assert!(!timer.fires(100, 89));
    /// timer.put_off(30, 89, 100);
    /// assert!(timer.fires(100, 100));
    /// ```
    pub const fn put_off(&mut self, ms: u64, now_ms: u64, limit_ms: u64) {
        let due_ms = now_ms.saturating_add(ms);
        self.due_ms = if due_ms < limit_ms { due_ms } else { limit_ms };
    }

    /// Due after `ms` at the latest.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Timer;
    /// let mut timer = Timer::after(100, 0);
    /// timer.hasten(30, 10);
    /// timer.hasten(30, 20);
    /// assert!(timer.fires(100, 40));
    /// ```
    pub const fn hasten(&mut self, ms: u64, now_ms: u64) {
        self.put_off(ms, now_ms, self.due_ms);
    }

    /// How long until it is due.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Timer;
    /// assert_eq!(Timer::after(100, 0).wait_ms(70), 30);
    /// ```
    pub const fn wait_ms(&self, now_ms: u64) -> u64 {
        self.due_ms.saturating_sub(now_ms)
    }

    /// Whether it is due now; if so, it is due again after `ms`.
    ///
    /// ```
    /// use gvahint_core::reporter::pace::Timer;
    /// let mut timer = Timer::after(0, 0);
    /// assert!(timer.fires(100, 5));
    /// assert!(!timer.fires(100, 104));
    /// ```
    pub fn fires(&mut self, ms: u64, now_ms: u64) -> bool {
        let due = now_ms >= self.due_ms;
        if due {
            self.due_ms = now_ms.saturating_add(ms);
        }
        due
    }
}
