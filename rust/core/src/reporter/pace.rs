// SPDX-License-Identifier: GPL-2.0

//! Which page when: the sweep's cursor and rate, and how often the host is asked.

/// Pages that one step of the sweep looks at, at most.
pub const MAX_STEP: u64 = 16_384;

/// Goes once over all pages, at a bounded rate.
#[derive(Debug, Default)]
pub struct Sweep {
    at: u64,
    last_ms: u64,
    started_ms: u64,
}

impl Sweep {
    /// Starts at the first page.
    pub const fn start(now_ms: u64) -> Self {
        Self {
            at: 0,
            last_ms: now_ms,
            started_ms: now_ms,
        }
    }

    /// The next page.
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// So many pages may be looked at now, at that rate.
    pub fn allowance(&mut self, pages_per_second: u64, now_ms: u64) -> u64 {
        let elapsed = now_ms.saturating_sub(self.last_ms).min(1_000);
        let pages = pages_per_second.saturating_mul(elapsed) / 1_000;
        // What is too little for a page is left for the next time.
        if pages > 0 {
            self.last_ms = now_ms;
        }
        pages.min(MAX_STEP)
    }

    /// All pages below `next` are done.
    pub fn advance(&mut self, next: u64) {
        self.at = self.at.max(next);
    }

    /// How long it has taken so far.
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
    pub const fn new(min_ms: u64, now_ms: u64) -> Self {
        Self {
            interval_ms: min_ms,
            due_ms: now_ms,
        }
    }

    /// The interval.
    pub const fn interval_ms(&self) -> u64 {
        self.interval_ms
    }

    /// Whether it is time to ask, and if not, for how long it isn't.
    pub const fn wait_ms(&self, now_ms: u64) -> u64 {
        self.due_ms.saturating_sub(now_ms)
    }

    /// The host wanted so many pages.
    pub fn told(&mut self, pages: u64, min_ms: u64, max_ms: u64) {
        self.interval_ms = match pages {
            0 => self.interval_ms.saturating_mul(2),
            1..64 => self.interval_ms / 2,
            _ => min_ms,
        };
        self.bound(min_ms, max_ms);
    }

    /// The host was asked too often.
    pub fn refused(&mut self, min_ms: u64, max_ms: u64) {
        self.interval_ms = self.interval_ms.saturating_mul(2);
        self.bound(min_ms, max_ms);
    }

    fn bound(&mut self, min_ms: u64, max_ms: u64) {
        self.interval_ms = self.interval_ms.max(min_ms).min(max_ms.max(1));
    }

    /// It was asked now.
    pub fn asked(&mut self, now_ms: u64) {
        self.due_ms = now_ms.saturating_add(self.interval_ms);
    }
}

/// Something that is due once in a while.
#[derive(Debug, Default)]
pub struct Timer {
    due_ms: u64,
}

impl Timer {
    /// Due after `ms`.
    pub const fn after(ms: u64, now_ms: u64) -> Self {
        Self {
            due_ms: now_ms.saturating_add(ms),
        }
    }

    /// Whether it is due now; if so, it is due again after `ms`.
    pub fn fires(&mut self, ms: u64, now_ms: u64) -> bool {
        let due = now_ms >= self.due_ms;
        if due {
            self.due_ms = now_ms.saturating_add(ms);
        }
        due
    }
}
