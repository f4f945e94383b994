// SPDX-License-Identifier: GPL-2.0

//! Bytes as the hypercalls of a hostile guest: each call's numbers and its
//! buffer's words are raw.

use crate::models::map::Report;
use crate::models::table::Player;
use crate::words::{self, Faults, Limits};
use crate::{one_of, show};
use arbitrary::{Result, Unstructured};
use gvahint_core::addr::VaBits;
use gvahint_core::linear::LinearList;
use gvahint_core::plan::Reason;
use gvahint_core::report::{self, Kind, Sets};
use gvahint_core::session::{Lease, SessionState};
use gvahint_core::wire::{self, Fault, Op, WireError};

/// Words of a page.
const MAX_WORDS: usize = 512;
/// Frames that one REPORT speaks of, but for its last set.
const MAX_FRAMES: u64 = 1 << 18;
const LEASE_MS: u32 = 10_000;
const ALL: &[(u64, u64)] = &[(0, 1 << 40)];
const HOLES: &[(u64, u64)] = &[(0, 0xa0), (0x100, 0x8_0000), (0x10_0000, 0x14_0000)];
/// Enough for any input.
const PLENTY: usize = 1 << 16;

/// Plays an input.
pub fn run(data: &[u8]) {
    let _: Result<()> = play(&mut Unstructured::new(data));
}

struct Guest {
    player: Player,
    session: SessionState,
    lease: Lease,
    /// What the lease ought to be: when the last good call was, and whether after LINEAR.
    last: Option<(u64, bool)>,
    counter: u32,
    memslots: &'static [(u64, u64)],
    plenty: bool,
}

fn play(u: &mut Unstructured<'_>) -> Result<()> {
    let max_gfn = one_of(u, &[1 << 20, 1 << 30, 1 << 40])?;
    let limit = one_of(u, &[PLENTY, 12, 30])?;
    let mut player = Player::new(max_gfn, limit);
    player.table.bits = one_of(u, &[VaBits::Bits48, VaBits::Bits57])?;
    player.vague = limit != PLENTY;
    let mut guest = Guest {
        player,
        session: SessionState::NONE,
        lease: Lease::new(),
        last: None,
        counter: one_of(u, &[0, u32::MAX - 1])?,
        memslots: one_of(u, &[ALL, HOLES])?,
        plenty: limit == PLENTY,
    };
    while !u.is_empty() {
        guest.call(u)?;
    }
    guest.player.finish();
    Ok(())
}

impl Guest {
    fn call(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let what = u.arbitrary::<u8>()?;
        if what >= 0xf0 {
            self.player.table.now_ms += u64::from(u.arbitrary::<u16>()?) << (what & 7);
            return Ok(());
        }
        let a0 = match what & 7 {
            0..=2 => wire::OP_REPORT,
            3 => wire::OP_LINEAR,
            4 => wire::OP_HELLO,
            5 => wire::OP_BYE,
            _ => u.arbitrary::<u64>()?,
        };
        let a1 = match (what & 8, a0) {
            (0, wire::OP_HELLO) => 1,
            (0, _) => {
                (u64::from(self.session.id) << 32)
                    | u64::from(self.session.last_seq.wrapping_add(1))
            }
            _ => u.arbitrary::<u64>()?,
        };
        let count = usize::from(u.arbitrary::<u8>()?) * usize::from(1 + (what >> 5 & 1));
        let raw = what & 16 != 0;
        let count = count.min(u.len() / if raw { 8 } else { 4 }).min(MAX_WORDS);
        let words = (0..count).map(|_| if raw { u.arbitrary() } else { word(u) });
        let words = words.collect::<Result<Vec<u64>>>()?;
        show(&format_args!("op {a0:#x} a1 {a1:#x} {words:x?}"));

        check_op(a0, words.len() as u64 * 8);
        match a0 {
            wire::OP_HELLO => self.hello(a1),
            _ if !self.admit(a1) => {}
            wire::OP_LINEAR => self.linear(&words),
            wire::OP_REPORT if self.session.sealed => self.report(&words),
            wire::OP_BYE => {
                self.session = SessionState::NONE;
                self.forget();
            }
            _ => {}
        }
        self.check_lease();
        for word in words.iter().take(32) {
            let gfn = word & ((1 << 40) - 1);
            self.player.look(gfn);
            self.player.look(gfn ^ 1);
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.lease.end();
        self.last = None;
        self.player.table.clear();
        self.player.map.clear();
        self.player.set_linear(&[]);
    }

    fn hello(&mut self, a1: u64) {
        assert_eq!(wire::check_version(a1).is_ok(), a1 == 1);
        if a1 == 1 {
            self.forget();
            let before = self.session.id;
            self.session = SessionState::hello(&mut self.counter);
            assert!(self.session.id > 0 && self.session.id != before);
            assert!(!self.session.sealed);
            self.lease.start(self.player.table.now_ms);
            self.last = Some((self.player.table.now_ms, false));
        }
    }

    fn admit(&mut self, a1: u64) -> bool {
        let (id, seq) = (a1 >> 32, a1 & u64::from(u32::MAX));
        let fresh = seq > u64::from(self.session.last_seq);
        let expected = id > 0 && id == u64::from(self.session.id) && fresh;
        let admitted = self.session.admit(a1);
        let stale = WireError::call(Fault::Stale);
        assert_eq!(admitted, if expected { Ok(()) } else { Err(stale) });
        assert!(
            !expected || self.session.admit(a1).is_err(),
            "a number serves twice"
        );
        expected
    }

    /// What the lease says is what the calls so far make of it.
    fn check_lease(&self) {
        let now = self.player.table.now_ms;
        let expected = match self.last {
            Some((last, sealed)) if now - last <= u64::from(LEASE_MS) => {
                if sealed {
                    Ok(())
                } else {
                    Err(Reason::NoLinear)
                }
            }
            _ => Err(Reason::NoSession),
        };
        assert_eq!(self.lease.check(now, LEASE_MS), expected);
    }

    fn linear(&mut self, words: &[u64]) {
        let bits = self.player.table.bits;
        let parsed = LinearList::parse(words, bits);
        if words.len() % 4 != 0 || words.len() / 4 > wire::MAX_LINEAR {
            let fault = parsed.err().map(|error| (error.word, error.fault));
            assert!(matches!(
                fault,
                Some((None, Fault::Length | Fault::TooManyRanges))
            ));
            return;
        }
        match words::linear(words, bits) {
            Ok(list) => {
                assert_eq!(parsed.map(|list| list.len()), Ok(list.len()));
                self.player.set_linear(&list);
                if self.player.map.linear == list {
                    self.session.sealed = true;
                    let _ = self.lease.seal(self.player.table.now_ms);
                    self.last = Some((self.player.table.now_ms, true));
                }
            }
            Err(faults) => check_error(parsed.err(), words, &faults),
        }
    }

    fn report(&mut self, words: &[u64]) {
        let limits = Limits {
            bits: self.player.table.bits,
            max_gfn: self.player.table.hints().shape().max_gfn(),
            memslots: self.memslots,
        };
        let (sets, faults) = read(words, &limits);
        check_sets(words, &limits, &sets, &faults);

        let held = u64::from(self.player.table.state.held());
        let before = self.player.table.nodes.steps();
        let mut frames = 0;
        let applied = self.player.table.apply_in(words, |gfn, pages| {
            frames += pages;
            limits.valid(gfn, pages)
        });
        let steps = self.player.table.nodes.steps() - before;
        let asked = words.len() as u64 + 1;
        assert!(frames <= 2 * MAX_FRAMES, "{frames} frames");
        assert!(
            steps <= asked * 12_000 + (held + 8 * asked) * 4_200,
            "{steps} steps"
        );

        let taken = applied.sets as usize;
        assert!(taken <= sets.len());
        match applied.refused {
            Some(error) if error.fault == Fault::NoRoom => {
                assert!(!self.plenty && taken < sets.len());
                let at: usize = sets[..taken].iter().map(|set| set.words().len()).sum();
                assert_eq!(error.word, Some(at));
            }
            refused => {
                assert_eq!(taken, sets.len());
                assert_eq!(refused.is_some(), !faults.is_empty());
                if refused.is_some() {
                    check_error(refused, words, &faults);
                }
            }
        }
        let refused = applied.refused.filter(|_| taken == 0);
        let answer = refused.map_or(Ok(applied.sets), |error| Err(error.errno()));
        assert_eq!(applied.answer(), answer);
        if answer.is_ok() {
            let _ = self.lease.renew(self.player.table.now_ms);
            self.last = Some((self.player.table.now_ms, true));
        }
        let no_room = applied
            .refused
            .is_some_and(|error| error.fault == Fault::NoRoom);
        for (n, set) in sets[..taken + usize::from(no_room)].iter().enumerate() {
            self.know(set, n < taken);
        }
    }

    /// The map follows a set; it may know more than a table without nodes.
    fn know(&mut self, set: &Report, taken: bool) {
        let map = &mut self.player.map;
        if set.kind != Kind::Revoked {
            while map
                .slot(set.gfn)
                .is_some_and(|slot| slot.1 > set.slot_order())
            {
                map.split(set.gfn);
            }
        }
        if taken {
            map.set(set, self.player.table.now_ms);
        } else {
            map.revoke(set.gfn, set.pages());
        }
    }
}

/// A word that is often good, of four bytes: a header or a gVA.
fn word(u: &mut Unstructured<'_>) -> Result<u64> {
    let [what, small, n, low] = u.arbitrary::<[u8; 4]>()?;
    let order = [0u64, 9, 18, 1, 3, 17, 19, 63][usize::from(small & 7)];
    let page = u64::from(n) << (9 * (small >> 3 & 3));
    if what & 1 == 0 {
        let (kind, count) = (u64::from(what >> 1 & 7), u64::from(low));
        Ok(page >> order << order | order << 40 | kind << 46 | count << 50)
    } else {
        let high = (what & 2 != 0) as u64 * 0xffff_8000_0000_0000;
        let offset = if what & 4 == 0 { 0 } else { u64::from(low) };
        Ok(high | page << 12 | order | offset << (what >> 3))
    }
}

fn check_op(a0: u64, bytes: u64) {
    let fits = match a0 {
        wire::OP_LINEAR => bytes % 32 == 0,
        wire::OP_REPORT => true,
        wire::OP_BYE => bytes == 0,
        wire::OP_HELLO => bytes == 32,
        _ => {
            let fault = Op::parse(a0, bytes).err().map(|error| error.fault);
            assert!(matches!(fault, None | Some(Fault::Op | Fault::Length)));
            return;
        }
    };
    assert_eq!(Op::parse(a0, bytes).is_ok(), fits);
}

/// The good sets that a REPORT begins with, and what is wrong with the next one.
fn read(words: &[u64], limits: &Limits<'_>) -> (Vec<Report>, Faults) {
    let (mut sets, mut at, mut frames) = (Vec::new(), 0, 0);
    while at < words.len() && frames < MAX_FRAMES {
        match words::set(words, at, limits) {
            Ok(set) => {
                at += set.words().len();
                frames += set.pages();
                sets.push(set);
            }
            Err(faults) => return (sets, faults),
        }
    }
    (sets, Faults::new())
}

/// The parser finds the same sets, twice, and stays at the end once it got there.
fn check_sets(words: &[u64], limits: &Limits<'_>, expected: &[Report], faults: &Faults) {
    let parse = || {
        let checked = report::Limits {
            bits: limits.bits,
            max_gfn: limits.max_gfn,
        };
        let mut sets = Sets::new(words, checked);
        let (mut found, mut error) = (Vec::new(), None);
        while !sets.is_done() {
            match sets.next(&mut |gfn, pages| limits.valid(gfn, pages)) {
                Some(Ok(set)) => found.push(Report {
                    gfn: set.gfn().raw(),
                    order: set.order(),
                    kind: set.kind(),
                    gvas: set.gvas().map(|(gva, size)| (gva.raw(), size)).collect(),
                }),
                Some(Err(bad)) => error = Some(bad),
                None => break,
            }
            assert!(found.len() <= words.len());
        }
        (found, error)
    };
    let (found, error) = parse();
    assert_eq!(parse(), (found.clone(), error));
    assert_eq!(found, expected);
    assert_eq!(error.is_some(), !faults.is_empty());
    if error.is_some() {
        check_error(error, words, faults);
        let first = faults.iter().map(|fault| fault.0).min();
        assert_eq!(error.and_then(|error| error.word), first);
    }
}

/// The error is one of those that there are, in a word of the buffer.
fn check_error(error: Option<WireError>, words: &[u64], faults: &Faults) {
    let named = error.and_then(|error| Some((error.word?, error.fault)));
    let known = named.filter(|(word, _)| *word < words.len());
    assert!(
        known.is_some_and(|error| faults.contains(&error)),
        "{error:?} of {faults:?}"
    );
}
