// SPDX-License-Identifier: GPL-2.0
//! Calls to the host, and the session that they are made in.

use crate::shim::{call, now_ms, Page};
use gvahint_core::reporter::answer::{Answered, Meaning};
use gvahint_core::reporter::session::Session;
use gvahint_core::reporter::stats::{Stat, Stats};
use gvahint_core::wire;
use kernel::prelude::*;

/// The session is gone, or nothing can be said in it: back to the top.
pub(super) struct Over;

/// The host, as far as a session goes.
pub(super) struct Host<'a> {
    pub(super) session: Session,
    stats: &'a Stats,
}

impl<'a> Host<'a> {
    pub(super) fn new(stats: &'a Stats) -> Self {
        Self {
            session: Session::new(),
            stats,
        }
    }

    /// Calls with the first words of a page.
    pub(super) fn call(&mut self, op: u64, page: &mut Page, words: usize) -> Meaning {
        let Some(a1) = self.session.a1() else {
            return Meaning::Over;
        };
        let answer = call(op, a1, page, words);
        let answered = self.session.answered(answer, now_ms());
        self.note(answered)
    }

    /// Says HELLO; the answer goes into the page.
    pub(super) fn hello(&mut self, page: &mut Page) -> Result<(), Over> {
        let a1 = u64::from(wire::ABI_VERSION);
        let answer = call(wire::OP_HELLO, a1, page, wire::HELLO_WORDS);
        let words = page.words().get(..wire::HELLO_WORDS).unwrap_or_default();
        let answered = self.session.hello(answer, words, now_ms());
        self.count(answered);
        match answered.meaning {
            Meaning::Taken(_) => Ok(()),
            Meaning::Refused { .. } | Meaning::Over => {
                // It may not even have seen that the session before is over.
                self.bye(page);
                Err(Over)
            }
        }
    }

    /// What came of a call in the session.
    pub(super) fn note(&mut self, answered: Answered) -> Meaning {
        if answered.meaning == Meaning::Over {
            self.stats.add(Stat::SessionsLost, 1);
        }
        self.count(answered);
        answered.meaning
    }

    fn count(&self, answered: Answered) {
        if let Some(error) = answered.error {
            self.stats.add(error, 1);
        }
        if answered.silent {
            pr_info!("the host takes no hints; it is asked again every few seconds\n");
        }
    }

    /// Takes leave, whatever the host says, if it knows of us.
    pub(super) fn bye(&mut self, page: &mut Page) {
        if !self.session.is_live() {
            return;
        }
        if let Some(a1) = self.session.a1() {
            call(wire::OP_BYE, a1, page, 0);
        }
        self.session.left();
    }
}
