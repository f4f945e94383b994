// SPDX-License-Identifier: GPL-2.0

//! The hint table, naively: an ordered map from a first frame to the hint that
//! spans 1, 512 or 2^18 frames from there. Driven by proptest and by fuzzers.

#![allow(dead_code, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions)]

use gvahint_core::addr::MapSize;
use gvahint_core::gvas::MAX_GVAS;
use gvahint_core::plan::Reason;
use gvahint_core::policy::LinearAlias;
use gvahint_core::report::Kind;
use gvahint_core::table::Query;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

/// No hint is older than that, whatever `hint_max_age_ms` says.
pub(crate) const OLDEST: u64 = 600_000;
/// How much earlier than asked a hint may age.
const VAGUE: u64 = 64;

pub(crate) type Gvas = Vec<(u64, MapSize)>;

/// A set as the guest means it.
#[derive(Clone, PartialEq)]
pub(crate) struct Report {
    pub(crate) gfn: u64,
    pub(crate) order: u32,
    pub(crate) kind: Kind,
    pub(crate) gvas: Gvas,
}

impl Report {
    pub(crate) fn pages(&self) -> u64 {
        1 << self.order
    }

    /// log2 of the frames that one of its slots spans.
    pub(crate) fn slot_order(&self) -> u32 {
        self.order / 9 * 9
    }

    pub(crate) fn words(&self) -> Vec<u64> {
        let kind = match self.kind {
            Kind::Mapped => 1,
            Kind::KernelOnly => 2,
            Kind::PageTable => 3,
            Kind::TooMany => 4,
            Kind::Revoked => 5,
            Kind::Anywhere => 6,
        };
        let count = self.gvas.len() as u64;
        let mut words = vec![self.gfn | u64::from(self.order) << 40 | kind << 46 | count << 50];
        words.extend(self.gvas.iter().map(|(g, s)| g | u64::from(s.order())));
        words
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:#x}+2^{}", self.kind, self.gfn, self.order)?;
        for (gva, size) in &self.gvas {
            write!(f, " {gva:#x}/{size:?}")?;
        }
        Ok(())
    }
}

/// A linear range as the guest means it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Linear {
    pub(crate) gfn: u64,
    pub(crate) pages: u64,
    pub(crate) gva: u64,
    pub(crate) size: MapSize,
}

#[derive(Clone, Debug)]
struct Hint {
    kind: Kind,
    /// First frame of the set, to which the gVAs belong.
    base: u64,
    gvas: Rc<Gvas>,
    written: u64,
    set: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Age {
    Alive,
    Either,
    Dead,
}

impl Hint {
    fn age(&self, q: &Query) -> Age {
        let (age, max) = (q.now_ms - self.written, u64::from(q.max_age_ms));
        if age >= max {
            Age::Dead
        } else if age + VAGUE > max {
            Age::Either
        } else {
            Age::Alive
        }
    }
}

#[derive(Default)]
pub(crate) struct Map {
    slots: BTreeMap<u64, (u32, Hint)>,
    pub(crate) linear: Vec<Linear>,
    sets: u64,
}

impl Map {
    /// First frame and order of the slot that spans a frame.
    pub(crate) fn slot(&self, gfn: u64) -> Option<(u64, u32)> {
        let (start, (order, _)) = self.slots.range(..=gfn).next_back()?;
        (gfn - start < 1 << order).then_some((*start, *order))
    }

    fn hint(&self, gfn: u64) -> Option<&Hint> {
        self.slots.get(&self.slot(gfn)?.0).map(|(_, hint)| hint)
    }

    /// What was known of the range is replaced; slots that it is a part of
    /// were split or dropped before.
    pub(crate) fn set(&mut self, report: &Report, now: u64) {
        self.revoke(report.gfn, report.pages());
        if report.kind == Kind::Revoked {
            return;
        }
        self.sets += 1;
        let hint = Hint {
            kind: report.kind,
            base: report.gfn,
            gvas: Rc::new(report.gvas.clone()),
            written: now,
            set: self.sets,
        };
        let order = report.slot_order();
        for at in (report.gfn..report.gfn + report.pages()).step_by(1 << order) {
            self.slots.insert(at, (order, hint.clone()));
        }
    }

    /// Forgets frames, with the whole of each slot that has one of them.
    pub(crate) fn revoke(&mut self, gfn: u64, pages: u64) {
        if pages == 0 {
            return;
        }
        if let Some((start, _)) = self.slot(gfn) {
            self.slots.remove(&start);
        }
        let hit: Vec<u64> = self
            .slots
            .range(gfn..gfn.saturating_add(pages))
            .map(|s| *s.0)
            .collect();
        for at in hit {
            self.slots.remove(&at);
        }
    }

    /// Puts 512 slots in place of the one that spans a frame.
    pub(crate) fn split(&mut self, gfn: u64) {
        if let Some((start, order)) = self.slot(gfn).filter(|slot| slot.1 > 0) {
            if let Some((_, hint)) = self.slots.remove(&start) {
                for n in 0..512 {
                    let piece = (order - 9, hint.clone());
                    self.slots.insert(start + (n << (order - 9)), piece);
                }
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.slots.clear();
    }

    /// Whether a hint of that frame is dead, under any setting.
    pub(crate) fn is_dead(&self, gfn: u64, now: u64) -> bool {
        self.hint(gfn)
            .is_none_or(|hint| now - hint.written + VAGUE > OLDEST)
    }

    fn of_linear(&self, gfn: u64) -> impl Iterator<Item = (u64, MapSize)> + '_ {
        self.linear.iter().filter_map(move |r| {
            let page = gfn.checked_sub(r.gfn).filter(|page| *page < r.pages)?;
            Some((r.gva + (page << 12), r.size))
        })
    }

    /// What a lookup finds, but for the hint's age; no gVA: they are not listed.
    fn expected(&self, gfn: u64, alias: LinearAlias) -> Result<Gvas, Reason> {
        let hint = self.hint(gfn).ok_or(Reason::NoHint)?;
        let with_linear = match (hint.kind, alias) {
            (Kind::PageTable, _) => return Err(Reason::PageTable),
            (Kind::TooMany | Kind::Anywhere, _) => return Ok(Vec::new()),
            (Kind::KernelOnly, LinearAlias::Auto) | (_, LinearAlias::Always) => true,
            (_, _) => false,
        };
        let later = |(gva, size): &(u64, MapSize)| (gva + ((gfn - hint.base) << 12), *size);
        let mut gvas: Gvas = hint.gvas.iter().map(later).collect();
        if with_linear {
            gvas.extend(self.of_linear(gfn));
        }
        match gvas.len() {
            0 => Err(Reason::KernelOnly),
            n if n > MAX_GVAS => Ok(Vec::new()),
            _ => Ok(gvas),
        }
    }

    /// Compares a lookup; `vague`: the table may know less, or have no room for gVAs.
    pub(crate) fn check(&self, gfn: u64, q: &Query, found: &Result<Gvas, Reason>, vague: bool) {
        let expected = self.expected(gfn, q.alias);
        let age = self.hint(gfn).map_or(Age::Alive, |hint| hint.age(q));
        let declined = matches!(found, Err(Reason::Aged | Reason::NoHint));
        let fits = match age {
            _ if vague && expected.is_ok() && *found == Ok(Vec::new()) => age != Age::Dead,
            Age::Alive => *found == expected || vague && *found == Err(Reason::NoHint),
            Age::Either => *found == expected || declined,
            Age::Dead => declined,
        };
        assert!(
            fits,
            "frame {gfn:#x}: {found:x?}, expected {expected:x?} ({age:?})"
        );
    }

    /// Compares what covers a leaf of 2^`order` frames: gVAs, or the context (`None`).
    pub(crate) fn check_leaf(
        &self,
        gfn: u64,
        order: u32,
        q: &Query,
        found: &Result<Option<Gvas>, Reason>,
        vague: bool,
    ) {
        let gfn = gfn >> order << order;
        self.check_sound(gfn, order, q, found);
        let (expected, age) = self.expected_leaf(gfn, order, q);
        let known = matches!(
            found,
            Err(Reason::Aged | Reason::NoHint | Reason::LargeLeaf)
        );
        let short = vague && expected.is_ok() && *found == Ok(None);
        let fits = *found == expected || short || known && (vague || age != Age::Alive);
        assert!(
            fits && (age != Age::Dead || known),
            "leaf {gfn:#x}+2^{order}: {found:x?}, expected {expected:x?} ({age:?})"
        );
    }

    /// Whatever covers a leaf drops each translation of each of its frames.
    fn check_sound(&self, gfn: u64, order: u32, q: &Query, found: &Result<Option<Gvas>, Reason>) {
        let Ok(found) = found else { return };
        for page in [0, 1, 511, 512, (1 << order) / 2, (1 << order) - 1] {
            let at = gfn + page.min((1 << order) - 1);
            let known = self.expected(at, q.alias);
            let Some(dropped) = found else {
                // The context drops all gVAs, listed or not, but not what page tables need.
                let hidden = matches!(known, Err(Reason::NoHint | Reason::PageTable));
                assert!(!hidden, "covers frame {at:#x} of which is known {known:?}");
                continue;
            };
            assert!(
                known.as_ref().is_ok_and(|gvas| !gvas.is_empty()),
                "covers frame {at:#x} of which is known {known:?}"
            );
            for (gva, size) in known.iter().flatten() {
                let taken = |(d, s): &(u64, MapSize)| s == size && (d ^ gva) < size.bytes();
                assert!(dropped.iter().any(taken), "frame {at:#x}: {gva:#x} stays");
            }
        }
    }

    fn expected_leaf(
        &self,
        gfn: u64,
        order: u32,
        q: &Query,
    ) -> (Result<Option<Gvas>, Reason>, Age) {
        let size = match order {
            0 => MapSize::M4K,
            9 => MapSize::M2M,
            _ => MapSize::M1G,
        };
        let end = gfn + (1 << order);
        if let Some((start, _)) = self.slot(gfn).filter(|slot| slot.1 >= order) {
            let apart = |r: &&Linear| {
                let overlaps = r.gfn < end && gfn < r.gfn + r.pages;
                let within = r.gfn <= gfn && end <= r.gfn + r.pages && r.size >= size;
                overlaps && !within
            };
            let hint = &self.slots[&start].1;
            let with_linear = match hint.kind {
                Kind::KernelOnly => q.alias != LinearAlias::Never,
                _ => q.alias == LinearAlias::Always,
            };
            let split = with_linear && self.linear.iter().find(apart).is_some();
            let expected = self.expected(gfn, q.alias).map(|gvas| {
                let whole = gvas.iter().all(|(_, mapped)| *mapped >= size);
                (whole && !gvas.is_empty() && !split).then_some(gvas)
            });
            return (expected, hint.age(q));
        }
        let slots: Vec<&(u32, Hint)> = self.slots.range(gfn..end).map(|slot| slot.1).collect();
        let hints: Vec<&Hint> = slots.iter().map(|(_, hint)| hint).collect();
        let ages: Vec<Age> = hints.iter().map(|hint| hint.age(q)).collect();
        let age = if ages.contains(&Age::Dead) {
            Age::Dead
        } else if ages.contains(&Age::Either) {
            Age::Either
        } else {
            Age::Alive
        };
        let good = |hint: &&Hint| match hint.kind {
            Kind::Mapped | Kind::TooMany | Kind::Anywhere => true,
            Kind::KernelOnly => q.alias != LinearAlias::Never,
            _ => false,
        };
        let expected = match hints.len() {
            0 => Err(Reason::NoHint),
            512 if slots.iter().all(|slot| slot.0 + 9 == order) && hints.iter().all(good) => {
                Ok(None)
            }
            _ => Err(Reason::LargeLeaf),
        };
        (expected, age)
    }

    fn alive(&self, now: Option<u64>) -> impl Iterator<Item = (u64, u32, &Hint)> + '_ {
        let slots = self.slots.iter();
        let slots = slots.map(|(start, (order, hint))| (*start, *order, hint));
        slots.filter(move |(_, _, hint)| now.is_none_or(|now| now - hint.written + VAGUE < OLDEST))
    }

    /// Frames with a hint: at least those that are alive `now`, or all.
    pub(crate) fn frames(&self, now: Option<u64>) -> u64 {
        self.alive(now).map(|(_, order, _)| 1 << order).sum()
    }

    /// Nodes of the tree with those hints, and cells, for a root that spans 2^`reach`.
    pub(crate) fn nodes(&self, now: Option<u64>, reach: u32) -> (u64, u64) {
        let mut last = [u64::MAX; 8];
        let mut nodes = 0;
        let mut cells = BTreeSet::new();
        for (start, order, hint) in self.alive(now) {
            for span in (order + 9..=reach).step_by(9) {
                let last = &mut last[span as usize / 9];
                nodes += u64::from(*last != start >> span);
                *last = start >> span;
            }
            if hint.gvas.len() > 1 {
                cells.insert(hint.set);
            }
        }
        (nodes, cells.len() as u64)
    }

    /// Frames at which hints begin, a few.
    pub(crate) fn some(&self) -> Vec<u64> {
        let step = self.slots.len() / 16 + 1;
        self.slots.keys().step_by(step).copied().collect()
    }
}
