// SPDX-License-Identifier: GPL-2.0

//! A kernel whose pages change while a reporter looks at them, and a host that believes what it hears.

#![allow(dead_code)]

use gvahint_core::report::Kind;
use gvahint_core::reporter::batch::Header;
use gvahint_core::reporter::pages::{examine, Answer, Examined, Found, Limits, Rmap};
use gvahint_core::reporter::stats::Stats;
use gvahint_core::reporter::watch::{dirty_words_for, words_for, Revocations, Watch};
use gvahint_core::sync::{AtomicU32, AtomicU64, Ordering};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// Two words of *dirty* and some.
pub(crate) const PAGES: u64 = 9000;
/// The first so many pages are one large page, while `huge`.
pub(crate) const HUGE: u64 = 512;
pub(crate) const LIMITS: Limits<'_> = Limits {
    end: PAGES,
    max_gvas: 7,
    max_order: 18,
    linear: &DIRECT_MAP,
};
/// All of memory.
pub(crate) const DIRECT_MAP: [u64; 4] = [0, 0xffff_8880_0000_0000, PAGES << 12, 4096];

/// The maps that the kernel clears.
pub(crate) const HINTED: usize = 0;
pub(crate) const DATA: usize = 1;

pub(crate) struct Bits {
    pub(crate) maps: [Vec<AtomicU64>; 4],
    pub(crate) dirty: Vec<AtomicU64>,
    pub(crate) kicked: AtomicU32,
    pub(crate) stats: Stats,
    /// Pages that were page tables since the host last heard that they are no data.
    pub(crate) lives: RefCell<HashSet<u64>>,
}

impl Bits {
    pub(crate) fn new() -> Self {
        let zeroes = |len: u64| (0..len).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        Self {
            maps: [0; 4].map(|_| zeroes(words_for(PAGES))),
            dirty: zeroes(dirty_words_for(PAGES)),
            kicked: AtomicU32::new(0),
            stats: Stats::new(),
            lives: RefCell::default(),
        }
    }

    pub(crate) fn watch(&self) -> Watch<'_> {
        let maps = self.maps.each_ref().map(|map| &map[..]);
        Watch::new(maps, &self.dirty, &self.kicked)
    }

    pub(crate) fn is_set(&self, map: usize, pfn: u64) -> bool {
        self.maps[map][pfn as usize / 64].load(Ordering::SeqCst) >> (pfn % 64) & 1 != 0
    }

    pub(crate) fn any_set(&self) -> bool {
        let mut words = self.maps[HINTED].iter().chain(&self.maps[DATA]);
        words.any(|w| w.load(Ordering::SeqCst) != 0)
    }
}

/// What happens between the kernel's look at a page and its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Race {
    Nothing,
    Change(u64),
    Split,
    Table(u64),
}

/// The kernel: a page is a page table, or mapped at an address that tells its version.
pub(crate) struct Kernel<'a> {
    pub(crate) bits: &'a Bits,
    pub(crate) versions: Vec<u64>,
    pub(crate) tables: HashSet<u64>,
    pub(crate) huge: bool,
    pub(crate) odd: Option<Answer>,
    /// Before the answer of which walk what happens.
    pub(crate) race: (u32, Race),
    pub(crate) woken: u32,
}

impl<'a> Kernel<'a> {
    pub(crate) fn new(bits: &'a Bits) -> Self {
        Self {
            bits,
            versions: vec![1; PAGES as usize],
            tables: HashSet::new(),
            huge: true,
            odd: None,
            race: (0, Race::Nothing),
            woken: 0,
        }
    }

    /// As gva_hint_stale() and gva_hint_allocated(): clears the bits of the range and tells if one was set.
    fn tell(&mut self, map: usize, first: u64, nr: u64) {
        let mut set = false;
        for pfn in first..first + nr {
            let mask = 1 << (pfn % 64);
            let word = &self.bits.maps[map][pfn as usize / 64];
            set |= word.fetch_and(!mask, Ordering::SeqCst) & mask != 0;
        }
        if set && self.bits.watch().stale(first, nr) {
            self.woken += 1;
        }
    }

    pub(crate) fn stale(&mut self, first: u64, nr: u64) {
        self.tell(HINTED, first, nr);
    }

    /// The page is freed, and a page table next.
    pub(crate) fn become_table(&mut self, pfn: u64) {
        self.split();
        self.stale(pfn, 1);
        self.tell(DATA, pfn, 1);
        self.tables.insert(pfn);
        self.bits.lives.borrow_mut().insert(pfn);
    }

    pub(crate) fn range(&self, pfn: u64) -> (u64, u64) {
        if self.huge && pfn < HUGE {
            (0, HUGE)
        } else {
            (pfn, 1)
        }
    }

    pub(crate) fn change(&mut self, pfn: u64) {
        let (first, nr) = self.range(pfn);
        for pfn in first..first + nr {
            self.versions[pfn as usize] += 1;
        }
        self.tables.remove(&pfn);
        self.stale(first, nr);
    }

    pub(crate) fn split(&mut self) {
        if self.huge {
            self.huge = false;
            self.stale(0, HUGE);
        }
    }

    /// Where the page is mapped.
    pub(crate) fn gva(&self, pfn: u64) -> u64 {
        self.versions[pfn as usize] << 36 | pfn << 12
    }
}

impl Rmap for Kernel<'_> {
    fn walk(&mut self, pfn: u64) -> Found {
        let (first, nr) = self.range(pfn);
        let order = nr.trailing_zeros();
        let table = Some(Answer::Known(Kind::PageTable)).filter(|_| self.tables.contains(&pfn));
        let answer = table.or(self.odd).unwrap_or(Answer::Known(Kind::Mapped));
        let known = matches!(answer, Answer::Known(_) | Answer::Anywhere(_));
        let mut found = Found::new(answer, if known { order } else { 0 });
        if answer == Answer::Known(Kind::Mapped) {
            found.push(self.gva(first), order);
        }
        match self.race {
            (0, Race::Change(pfn)) => self.change(pfn),
            (0, Race::Split) => self.split(),
            (0, Race::Table(pfn)) => self.become_table(pfn),
            (n, race) => {
                self.race = (n.saturating_sub(1), race);
                return found;
            }
        }
        self.race = (0, Race::Nothing);
        found
    }
}

/// What the host believes of pages: where they are mapped, if it was told that.
#[derive(Default)]
pub(crate) struct Host(HashMap<u64, (Kind, u64)>);

impl Host {
    pub(crate) fn hear(&mut self, set: Header, gvas: &[u64]) {
        assert_eq!(gvas.is_empty(), set.kind != Kind::Mapped, "{set:?}");
        let first = gvas.first().map_or(0, |gva| gva & !0xfff);
        for page in 0..1 << set.order {
            let gva = if gvas.is_empty() {
                0
            } else {
                first + (page << 12)
            };
            self.0.insert(set.gfn + page, (set.kind, gva));
        }
    }

    /// Fails if a page that is believed to be data is told as data once more, and was a page table in between.
    fn hear_of_lives(&mut self, bits: &Bits, set: Header, gvas: &[u64]) {
        let mut lives = bits.lives.borrow_mut();
        for pfn in set.gfn..set.gfn + (1 << set.order) {
            let is_data = |kind| !matches!(kind, Kind::Revoked | Kind::PageTable);
            let unheard = is_data(set.kind) && self.kind(pfn).is_some_and(is_data);
            assert!(
                !lives.remove(&pfn) || !unheard,
                "page {pfn} was a page table"
            );
        }
        self.hear(set, gvas);
    }

    pub(crate) fn look_at(&mut self, bits: &Bits, kernel: &mut Kernel<'_>, pfn: u64) -> Examined {
        let done = examine(&bits.watch(), &LIMITS, kernel, &bits.stats, pfn);
        if let Some(set) = done.say {
            self.hear_of_lives(bits, set, done.found.gvas());
        }
        done
    }

    pub(crate) fn revoke(&mut self, bits: &Bits) -> u64 {
        let watch = bits.watch();
        let mut revocations = Revocations::start(&watch);
        let mut pages = 0;
        while let Some(set) = revocations.next(&watch) {
            assert_eq!(set.gfn % (1 << set.order), 0, "aligned");
            pages += 1 << set.order;
            self.hear_of_lives(bits, set, &[]);
        }
        pages
    }

    pub(crate) fn kind(&self, pfn: u64) -> Option<Kind> {
        let kind = self.0.get(&pfn).map(|(kind, _)| *kind);
        kind.filter(|kind| *kind != Kind::Revoked)
    }

    pub(crate) fn believes(&self, pfn: u64) -> Option<u64> {
        match self.0.get(&pfn) {
            Some((Kind::Mapped, gva)) => Some(*gva),
            _ => None,
        }
    }
}
