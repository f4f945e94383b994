// SPDX-License-Identifier: GPL-2.0

//! The canary: does a page's accessed bit come back once one gVA was dropped?
//!
//! The architecture does not promise it. A guest that asks (CANARY) learns
//! what its host's CPU does, in three steps: the host clears the bit of one
//! page and publishes its gVA; the guest touches it; the host looks again. It
//! is a smoke alarm: it may take that VM's hints out of use, and proves nothing,
//! for the guest may lie about each word and about the touch.
//!
//! The young bit that was cleared is handed back, so that no one who ages the
//! page finds it idle because of the question.

use crate::addr::{Gfn, Gva, Level, VaBits};
use crate::sync::{AtomicU64, Ordering};
use crate::wire::{Fault, WireError};

/// Answer to both steps: the bit is clear; it came back.
pub const CAME_BACK: i64 = 0;
/// Answer to the second step: it did not; the VM's hints are not used any more.
pub const LOST: i64 = 1;
/// Answer to either step: there is nothing to be learned from this one.
pub const INCONCLUSIVE: i64 = 2;

/// What the guest asks for.
///
/// ```
/// use gvahint_core::canary::Step;
/// // Between the two it touches the page, on the vCPU that asks.
/// assert_ne!(Step::Clear, Step::Test);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Clear the bit, drop the gVA.
    Clear,
    /// Look at the bit.
    Test,
}

/// A checked call.
///
/// ```
/// use gvahint_core::{addr::VaBits, canary::{Ask, Step}, wire::{Fault, WireError}};
/// let ask = |words: &[u64]| Ask::parse(words, VaBits::Bits48);
/// assert_eq!(ask(&[5, 0x7000, 1]).map(|ask| ask.step), Ok(Step::Test));
/// assert_eq!(ask(&[5, 0x7008, 1]), Err(WireError::at(1, Fault::GvaAlign)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The page. Whether it is in a memslot is for the caller to check.
    pub gfn: Gfn,
    /// Where the guest says that it is mapped.
    pub gva: Gva,
    /// Which step.
    pub step: Step,
}

impl Ask {
    /// From the buffer's three words.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, canary::Ask, wire::{Fault, WireError}};
    /// let ask = |words: &[u64]| Ask::parse(words, VaBits::Bits48).unwrap_err();
    /// assert_eq!(ask(&[5, 1 << 47, 0]), WireError::at(1, Fault::NotCanonical));
    /// assert_eq!(ask(&[5, 0x7000, 2]), WireError::at(2, Fault::Step));
    /// ```
    ///
    /// # Errors
    ///
    /// [`Fault::Length`], `Memslot` (no gfn at all), `GvaAlign`,
    /// `NotCanonical` or `Step`.
    pub fn parse(words: &[u64], bits: VaBits) -> Result<Self, WireError> {
        let [gfn, gva, step] = *words else {
            return Err(WireError::call(Fault::Length));
        };
        let gfn = Gfn::new(gfn).ok_or(WireError::at(0, Fault::Memslot))?;
        let gva = Gva::new(gva, bits).ok_or(WireError::at(1, Fault::NotCanonical))?;
        if gva != gva.page() {
            return Err(WireError::at(1, Fault::GvaAlign));
        }
        let step = match step {
            0 => Step::Clear,
            1 => Step::Test,
            _ => return Err(WireError::at(2, Fault::Step)),
        };
        Ok(Self { gfn, gva, step })
    }
}

/// A canary under way, as the host remembers it between the two steps.
///
/// ```
/// use gvahint_core::{addr::VaBits, canary::*};
/// let ask = |gfn| Ask::parse(&[gfn, 0x7000, 1], VaBits::Bits48).unwrap();
/// let canary = Canary::begin(&ask(5), true, 8);
/// assert!(canary.is_of(&ask(5)).is_ok() && canary.is_of(&ask(6)).is_err());
/// // The vCPU has not come by the log since: what it touched tells nothing.
/// let judged = canary.judge(Seen { aged: false, cursor: 7, young: Some(false) });
/// assert_eq!(judged.answer, INCONCLUSIVE);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary {
    /// The page.
    pub gfn: Gfn,
    gva: Gva,
    /// Whether the bit was set before.
    was_young: bool,
    /// The log's position behind the gVA's entry.
    position: u64,
}

/// What the second step finds.
///
/// ```
/// use gvahint_core::{addr::VaBits, canary::*};
/// let ask = Ask::parse(&[5, 0x7000, 1], VaBits::Bits48).unwrap();
/// let canary = Canary::begin(&ask, true, 8);
/// // Somebody else cleared the bit meanwhile, or there is no such leaf any more.
/// for (aged, young) in [(true, Some(false)), (false, None)] {
///     let judged = canary.judge(Seen { aged, cursor: 8, young });
///     assert_eq!(judged.answer, INCONCLUSIVE);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The page was aged, or its memory changed: see [`Watch`].
    pub aged: bool,
    /// How far the vCPU that asks has served the log.
    pub cursor: u64,
    /// The bit; `None`: there is no 4K leaf that has one.
    pub young: Option<bool>,
}

/// What follows.
///
/// ```
/// use gvahint_core::{addr::VaBits, canary::*};
/// let ask = Ask::parse(&[5, 0x7000, 1], VaBits::Bits48).unwrap();
/// let canary = Canary::begin(&ask, true, 8);
/// // Drained, touched, and still idle: INVVPID does not suffice here.
/// let lost = canary.judge(Seen { aged: false, cursor: 8, young: Some(false) });
/// assert_eq!(lost, Judged { answer: LOST, hand_back: true });
/// let fine = canary.judge(Seen { aged: false, cursor: 9, young: Some(true) });
/// assert_eq!(fine, Judged { answer: CAME_BACK, hand_back: false });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Judged {
    /// What the guest is told; [`LOST`] degrades the VM.
    pub answer: i64,
    /// The bit is to be set again: it was, and nobody but us took it.
    pub hand_back: bool,
}

impl Canary {
    /// The bit was cleared, and was set before or not; the gVA's entry is in
    /// the log before `position`.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, canary::*};
    /// let ask = Ask::parse(&[5, 0x7000, 0], VaBits::Bits48).unwrap();
    /// // It was idle before: nothing to hand back, whatever becomes of it.
    /// let canary = Canary::begin(&ask, false, 8);
    /// assert!(!canary.judge(Seen { aged: true, cursor: 0, young: None }).hand_back);
    /// ```
    pub const fn begin(ask: &Ask, was_young: bool, position: u64) -> Self {
        Self {
            gfn: ask.gfn,
            gva: ask.gva,
            was_young,
            position,
        }
    }

    /// Whether a call speaks of this one.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, canary::*, wire::{Fault, WireError}};
    /// let ask = |gva| Ask::parse(&[5, gva, 1], VaBits::Bits48).unwrap();
    /// let canary = Canary::begin(&ask(0x7000), true, 8);
    /// assert_eq!(canary.is_of(&ask(0x8000)), Err(WireError::call(Fault::NoCanary)));
    /// ```
    ///
    /// # Errors
    ///
    /// [`Fault::NoCanary`].
    pub fn is_of(&self, ask: &Ask) -> Result<(), WireError> {
        if self.gfn == ask.gfn && self.gva == ask.gva {
            Ok(())
        } else {
            Err(WireError::call(Fault::NoCanary))
        }
    }

    /// The second step.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, canary::*};
    /// let ask = Ask::parse(&[5, 0x7000, 1], VaBits::Bits48).unwrap();
    /// let seen = Seen { aged: true, cursor: 8, young: Some(false) };
    /// // Who aged it found it idle, or took a bit that the guest set after us:
    /// // ours has to be there for the next one all the same.
    /// let judged = Canary::begin(&ask, true, 8).judge(seen);
    /// assert_eq!(judged, Judged { answer: INCONCLUSIVE, hand_back: true });
    /// ```
    pub fn judge(&self, seen: Seen) -> Judged {
        let answer = match seen.young {
            _ if seen.aged || seen.cursor < self.position => INCONCLUSIVE,
            None => INCONCLUSIVE,
            Some(true) => CAME_BACK,
            Some(false) => LOST,
        };
        Judged {
            answer,
            hand_back: self.was_young && seen.young == Some(false),
        }
    }

    /// The canary is given up without a second step: whether the bit is to be
    /// set again.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, canary::*};
    /// let ask = Ask::parse(&[5, 0x7000, 0], VaBits::Bits48).unwrap();
    /// assert!(Canary::begin(&ask, true, 8).gives_back());
    /// ```
    pub const fn gives_back(&self) -> bool {
        self.was_young
    }
}

const ARMED: u64 = 1 << 63;
const AGED: u64 = 1 << 62;

/// Whether a page was aged since it began to be watched; one page of a VM.
///
/// ```
/// use gvahint_core::{addr::{Gfn, Level}, canary::Watch};
/// let watch = Watch::new();
/// watch.arm(Gfn::new(600).unwrap());
/// watch.aged(Gfn::new(601).unwrap(), Level::L4K);
/// assert!(!watch.is_aged());
/// // A leaf of 2M that the page has become a part of.
/// watch.aged(Gfn::new(512).unwrap(), Level::L2M);
/// assert!(watch.is_aged());
/// ```
#[derive(Debug)]
pub struct Watch(AtomicU64);

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl Watch {
    /// Watches none.
    ///
    /// ```
    /// use gvahint_core::{addr::{Gfn, Level}, canary::Watch};
    /// let watch = Watch::new();
    /// watch.aged(Gfn::new(0).unwrap(), Level::L1G);
    /// assert!(!watch.is_aged());
    /// ```
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Watches a page, before its bit is cleared. One caller at a time.
    ///
    /// ```
    /// use gvahint_core::{addr::{Gfn, Level}, canary::Watch};
    /// let (watch, page) = (Watch::new(), Gfn::new(5).unwrap());
    /// watch.arm(page);
    /// watch.aged(page, Level::L4K);
    /// // From the start.
    /// watch.arm(page);
    /// assert!(!watch.is_aged());
    /// ```
    pub fn arm(&self, gfn: Gfn) {
        self.0.store(gfn.raw() | ARMED, Ordering::Relaxed);
    }

    /// Watches none any more.
    ///
    /// ```
    /// use gvahint_core::{addr::{Gfn, Level}, canary::Watch};
    /// let (watch, page) = (Watch::new(), Gfn::new(5).unwrap());
    /// watch.arm(page);
    /// watch.disarm();
    /// watch.aged(page, Level::L4K);
    /// assert!(!watch.is_aged());
    /// ```
    pub fn disarm(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// A leaf is aged; callable anywhere. Whoever clears bits and whoever looks
    /// at them hold the same lock, which orders this as well.
    ///
    /// ```
    /// use gvahint_core::{addr::{Gfn, Level}, canary::Watch};
    /// let (watch, page) = (Watch::new(), Gfn::new(5).unwrap());
    /// watch.arm(page);
    /// watch.aged(page, Level::L4K);
    /// assert!(watch.is_aged());
    /// ```
    #[inline]
    pub fn aged(&self, gfn: Gfn, level: Level) {
        let word = self.0.load(Ordering::Relaxed);
        if word & ARMED != 0 {
            let size = level.size();
            let first = gfn.aligned(size).raw();
            self.forget(first, first.saturating_add(1 << size.order()));
        }
    }

    /// What was known of the frames `start..end` holds no more.
    ///
    /// ```
    /// use gvahint_core::{addr::Gfn, canary::Watch};
    /// let watch = Watch::new();
    /// watch.arm(Gfn::new(5).unwrap());
    /// watch.forget(0, 5);
    /// assert!(!watch.is_aged());
    /// // A memslot goes.
    /// watch.forget(5, 6);
    /// assert!(watch.is_aged());
    /// ```
    pub fn forget(&self, start: u64, end: u64) {
        let word = self.0.load(Ordering::Relaxed);
        let gfn = word & !(ARMED | AGED);
        if word & ARMED != 0 && (start..end).contains(&gfn) {
            // Lost if another page is watched by now: which has no need of it.
            let _ =
                self.0
                    .compare_exchange(word, word | AGED, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether it was.
    ///
    /// ```
    /// use gvahint_core::canary::Watch;
    /// assert!(!Watch::new().is_aged());
    /// ```
    pub fn is_aged(&self) -> bool {
        self.0.load(Ordering::Relaxed) & AGED != 0
    }
}
