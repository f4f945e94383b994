// SPDX-License-Identifier: GPL-2.0

//! What is to be said of a page.
//!
//! The order is what makes it true: the page's bits are set, then the kernel
//! looks at the page, then the bits are tested. Whatever changed in between has
//! cleared them, and the answer is not said; whatever changes later clears them
//! as well, and the page is revoked. An answer for a range needs the bits of all
//! of it, set before the kernel looks. What is no page table can be said to be
//! that also if its gVAs change all the time, or the kernel has no answer now.
//!
//! What was told and has been a page table since is revoked before it is told as
//! anything else: the host has to hear of each such life, for the CPU may keep of
//! it what no flush of gVAs drops.
//!
//! A page is in the linear ranges as well, which the host was told before. Where
//! these do not reach, because memory has just come, its gVAs are not all: it
//! is told by what it is not, a page table, until they are read again.

use super::batch::Header;
use super::linear;
use super::stats::{Stat, Stats};
use super::watch::Watch;
use crate::addr::MapSize;
use crate::cast;
use crate::report::Kind;

/// gVAs that an answer of the kernel holds.
pub const MAX_FOUND: usize = 16;

/// What the kernel says of a page.
///
/// ```
/// use gvahint_core::report::Kind;
/// use gvahint_core::reporter::pages::Answer;
/// assert_ne!(Answer::Known(Kind::PageTable), Answer::Busy);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This, and nothing else.
    Known(Kind),
    /// It is no page table. Its gVAs are not known, and this counts why.
    Anywhere(Stat),
    /// A lock was not to be had.
    Busy,
    /// Nothing, and this counts why.
    Unknown(Stat),
}

/// An answer with what belongs to it.
///
/// ```
/// use gvahint_core::report::Kind;
/// use gvahint_core::reporter::pages::*;
/// let mut found = Found::new(Answer::Known(Kind::Mapped), 0);
/// found.push(0x7000, 0);
/// assert_eq!(found.gvas(), [0x7000]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Found {
    answer: Answer,
    order: u32,
    gvas: [u64; MAX_FOUND],
    len: usize,
}

impl Found {
    /// Nothing yet.
    ///
    /// ```
    /// use gvahint_core::reporter::pages::Found;
    /// assert!(Found::NOTHING.gvas().is_empty());
    /// ```
    pub const NOTHING: Self = Self::new(Answer::Busy, 0);

    /// An answer for the 2^`order` pages that the page is in, without gVAs.
    ///
    /// ```
    /// use gvahint_core::report::Kind;
    /// use gvahint_core::reporter::pages::*;
    /// let slab = Found::new(Answer::Known(Kind::KernelOnly), 0);
    /// assert!(slab.gvas().is_empty());
    /// ```
    pub const fn new(answer: Answer, order: u32) -> Self {
        Self {
            answer,
            order,
            gvas: [0; MAX_FOUND],
            len: 0,
        }
    }

    /// Adds the gVA of the range's first page, and log2 of the pages that the
    /// guest maps it with. More than there is room for are too many.
    ///
    /// ```
    /// use gvahint_core::report::Kind;
    /// use gvahint_core::reporter::pages::*;
    /// let mut found = Found::new(Answer::Known(Kind::Mapped), 9);
    /// found.push(0x20_0000, 9);
    /// assert_eq!(found.gvas(), [0x20_0000 | 9]);
    /// ```
    pub fn push(&mut self, gva: u64, order: u32) {
        let size = MapSize::from_order(u64::from(order)).unwrap_or(MapSize::M4K);
        if let Some(place) = self.gvas.get_mut(self.len) {
            *place = gva | u64::from(size.order());
            self.len = self.len.saturating_add(1);
        } else {
            self.answer = Answer::Known(Kind::TooMany);
        }
    }

    /// The words of the gVAs.
    ///
    /// ```
    /// use gvahint_core::report::Kind;
    /// use gvahint_core::reporter::pages::*;
    /// let mut found = Found::new(Answer::Known(Kind::Mapped), 0);
    /// found.push(0x1000, 0);
    /// found.push(0x2000, 0);
    /// assert_eq!(found.gvas().len(), 2);
    /// ```
    pub fn gvas(&self) -> &[u64] {
        self.gvas.get(..self.len).unwrap_or_default()
    }

    /// Whether the answer holds only with the linear ranges, and these do not reach.
    fn is_incomplete(&self, linear_reaches: impl Fn() -> bool) -> bool {
        matches!(self.answer, Answer::Known(Kind::Mapped | Kind::KernelOnly)) && !linear_reaches()
    }

    /// What to say, if anything, and with which gVAs; and what counts that.
    fn settle(&mut self, max_gvas: usize) -> Option<(Kind, Stat)> {
        let said = match self.answer {
            Answer::Known(Kind::Mapped) if self.len == 0 => None,
            Answer::Known(Kind::Mapped) if self.len > max_gvas => Some(Kind::TooMany),
            Answer::Known(kind) => Some(kind),
            Answer::Anywhere(_) => Some(Kind::Anywhere),
            Answer::Busy | Answer::Unknown(_) => None,
        };
        if said != Some(Kind::Mapped) {
            self.len = 0;
        }
        match (said?, self.answer) {
            (kind, Answer::Anywhere(why)) => Some((kind, why)),
            (kind, _) => Some((kind, counter(kind))),
        }
    }
}

/// The kernel's knowledge.
///
/// ```
/// use gvahint_core::report::Kind;
/// use gvahint_core::reporter::pages::*;
/// struct Slab;
/// impl Rmap for Slab {
///     fn walk(&mut self, _pfn: u64) -> Found {
///         Found::new(Answer::Known(Kind::KernelOnly), 0)
///     }
/// }
/// assert!(Slab.walk(5).gvas().is_empty());
/// ```
pub trait Rmap {
    /// What it says of that page now. May sleep.
    ///
    /// ```
    /// use gvahint_core::report::Kind;
    /// use gvahint_core::reporter::pages::*;
    /// struct Process;
    /// impl Rmap for Process {
    ///     fn walk(&mut self, pfn: u64) -> Found {
    ///         let mut found = Found::new(Answer::Known(Kind::Mapped), 0);
    ///         found.push(0x7000_0000 + pfn * 0x1000, 0);
    ///         found
    ///     }
    /// }
    /// assert_eq!(Process.walk(2).gvas(), [0x7000_2000]);
    /// ```
    fn walk(&mut self, pfn: u64) -> Found;
}

/// What the host takes, and what there are bits for.
///
/// ```
/// use gvahint_core::reporter::pages::Limits;
/// let direct_map = [0, 0xffff_8880_0000_0000, 0x800_0000, 0x20_0000];
/// let limits = Limits { end: 0x8000, max_gvas: 7, max_order: 18, linear: &direct_map };
/// assert!(limits.end > 0x7fff);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// First page that there is no bit for, or that the host's table does not reach.
    pub end: u64,
    /// gVAs in a set.
    pub max_gvas: usize,
    /// Order of a set.
    pub max_order: u32,
    /// The words of the linear ranges that the host was told.
    pub linear: &'a [u64],
}

/// What came of a page.
///
/// ```
/// use gvahint_core::report::Kind;
/// use gvahint_core::reporter::pages::*;
/// use gvahint_core::reporter::stats::{Stat, Stats};
/// # let bits = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/watch.rs"));
/// struct Slab;
/// impl Rmap for Slab {
///     fn walk(&mut self, _pfn: u64) -> Found {
///         Found::new(Answer::Known(Kind::KernelOnly), 0)
///     }
/// }
/// let limits = Limits { end: 64, max_gvas: 7, max_order: 18, linear: &[0, 0, 64 << 12, 4096] };
/// let stats = Stats::new();
/// let done = examine(&bits.watch(), &limits, &mut Slab, &stats, 5);
/// assert_eq!((done.next, done.again), (6, false));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Examined {
    /// What to send, with the gVAs of `found`.
    pub say: Option<Header>,
    /// What the kernel found.
    pub found: Found,
    /// The page after those that this is about.
    pub next: u64,
    /// Whether to try again later.
    pub again: bool,
}

/// Looks at a page and says what to tell the host. May sleep.
///
/// ```
/// use gvahint_core::report::Kind;
/// use gvahint_core::reporter::pages::*;
/// use gvahint_core::reporter::stats::{Stat, Stats};
/// # let bits = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/watch.rs"));
/// struct Slab;
/// impl Rmap for Slab {
///     fn walk(&mut self, _pfn: u64) -> Found {
///         Found::new(Answer::Known(Kind::KernelOnly), 0)
///     }
/// }
/// let limits = Limits { end: 64, max_gvas: 7, max_order: 18, linear: &[0, 0, 64 << 12, 4096] };
/// let stats = Stats::new();
/// let done = examine(&bits.watch(), &limits, &mut Slab, &stats, 5);
/// assert_eq!(done.say.map(|set| (set.gfn, set.kind)), Some((5, Kind::KernelOnly)));
/// assert_eq!(stats.get(Stat::PagesKernel), 1);
/// ```
pub fn examine(
    watch: &Watch<'_>,
    limits: &Limits<'_>,
    rmap: &mut impl Rmap,
    stats: &Stats,
    pfn: u64,
) -> Examined {
    let mut done = Examined {
        say: None,
        found: Found::NOTHING,
        next: pfn.saturating_add(1),
        again: false,
    };
    if pfn >= limits.end {
        return done;
    }
    let before = watch.begin(pfn, 1);
    let Look {
        mut found,
        first,
        nr,
        lost,
    } = look(watch, limits, rmap, pfn, before.lost);
    done.next = first.saturating_add(nr);

    let answer = found.answer;
    let untold = |kind| lost && kind != Kind::PageTable;
    let why = match found.settle(limits.max_gvas) {
        Some((kind, counter)) if !untold(kind) && watch.holds(kind, first, nr) => {
            watch.tell(kind, first, nr);
            stats.add(counter, nr);
            done.say = Some(header(first, nr, kind));
            done.found = found;
            return done;
        }
        Some(_) => Stat::Changed,
        None => match answer {
            Answer::Busy => Stat::Busy,
            Answer::Unknown(why) => why,
            // Mapped, and nowhere: that is no answer.
            Answer::Known(_) | Answer::Anywhere(_) => Stat::UnknownOther,
        },
    };
    done.again = matches!(why, Stat::Changed | Stat::Busy);
    if why == Stat::UnknownOffline {
        done.next = next_aligned(pfn);
    }
    // What the host holds is true as long as nobody says otherwise.
    let unchanged = answer == Answer::Busy && nr == 1 && watch.resume(pfn, before);
    let data = match answer {
        Answer::Known(kind) => kind != Kind::PageTable,
        Answer::Anywhere(_) => true,
        Answer::Busy => before.data && nr == 1,
        Answer::Unknown(why) => before.data && why != Stat::UnknownOffline,
    };
    let anywhere = !unchanged && data && !lost && watch.holds(Kind::Anywhere, first, nr);
    if done.again || !anywhere {
        stats.add(why, 1);
    }
    if anywhere {
        watch.tell(Kind::Anywhere, first, nr);
        stats.add(Stat::AnywhereChanged, nr);
        done.say = Some(header(first, nr, Kind::Anywhere));
    } else if !unchanged && watch.forget(first, nr) {
        stats.add(Stat::Revoked, nr);
        done.say = Some(header(first, nr, Kind::Revoked));
    }
    done
}

/// What the kernel says of a page, and the pages that this is about.
struct Look {
    found: Found,
    first: u64,
    nr: u64,
    /// As [`super::watch::Before::lost`], of any of the pages.
    lost: bool,
}

/// Asks the kernel; about a page of several once more, when all of them are watched.
fn look(
    watch: &Watch<'_>,
    limits: &Limits<'_>,
    rmap: &mut impl Rmap,
    pfn: u64,
    lost: bool,
) -> Look {
    let mut look = Look {
        found: rmap.walk(pfn),
        first: pfn,
        nr: 1,
        lost,
    };
    let order = look.found.order;
    if order > 0 && matches!(look.found.answer, Answer::Known(_) | Answer::Anywhere(_)) {
        let pages = 1u64.checked_shl(order).unwrap_or(u64::MAX);
        let first = pfn & !pages.wrapping_sub(1);
        if order > limits.max_order || first.saturating_add(pages) > limits.end {
            look.found = Found::new(Answer::Unknown(Stat::UnknownOther), 0);
            return look;
        }
        let lost = watch.begin(first, pages).lost || lost;
        let mut found = rmap.walk(pfn);
        if found.order != order {
            found = Found::new(Answer::Busy, order);
        }
        look = Look {
            found,
            first,
            nr: pages,
            lost,
        };
    }
    let reach = || linear::reach(limits.linear, look.first, look.nr);
    if look.found.is_incomplete(reach) {
        look.found.answer = Answer::Anywhere(Stat::AnywhereOther);
    }
    look
}

const fn header(gfn: u64, nr: u64, kind: Kind) -> Header {
    Header {
        gfn,
        order: nr.trailing_zeros(),
        kind,
    }
}

/// The kernel has memory, or has none, 2 MiB at a time.
const fn next_aligned(pfn: u64) -> u64 {
    let pages = MapSize::M2M.pages();
    (pfn & !pages.wrapping_sub(1)).saturating_add(pages)
}

const fn counter(kind: Kind) -> Stat {
    match kind {
        Kind::Mapped => Stat::PagesMapped,
        Kind::KernelOnly => Stat::PagesKernel,
        Kind::PageTable => Stat::PagesPageTable,
        Kind::TooMany => Stat::PagesTooMany,
        Kind::Revoked => Stat::Revoked,
        Kind::Anywhere => Stat::AnywhereOther,
    }
}

/// A page of WANTED's answer, and the one after the range that it stands for.
///
/// ```
/// use gvahint_core::reporter::pages::wanted_range;
/// assert_eq!(wanted_range(0x200 | 9 << 40), (0x200, 0x400));
/// ```
pub const fn wanted_range(word: u64) -> (u64, u64) {
    let gfn = word & 1u64.wrapping_shl(crate::wire::SET_GFN_BITS).wrapping_sub(1);
    let order = cast::low_u32(word >> crate::wire::SET_ORDER_SHIFT) & 63;
    (gfn, gfn.saturating_add(1u64.wrapping_shl(order)))
}
