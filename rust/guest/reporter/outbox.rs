// SPDX-License-Identifier: GPL-2.0
//! Sets that wait to be sent, in the order in which they were said.

use super::host::{Host, Over};
use crate::shim::Page;
use gvahint_core::reporter::answer::Meaning;
use gvahint_core::reporter::batch::{Batch, Header};
use gvahint_core::reporter::stats::{Stat, Stats};
use gvahint_core::wire;
use kernel::prelude::*;

/// A batch, and the page that it is in.
pub(super) struct Outbox<'a> {
    batch: Batch,
    page: Page,
    stats: &'a Stats,
}

impl<'a> Outbox<'a> {
    /// An empty one.  Sleeps.
    pub(super) fn new(stats: &'a Stats) -> Result<Self> {
        Ok(Self {
            batch: Batch::new(),
            page: Page::new()?,
            stats,
        })
    }

    /// Forgets what there is.
    pub(super) fn clear(&mut self) {
        self.batch.clear();
    }

    /// Puts a set into the batch; sends the batch if there is no room.
    pub(super) fn say(
        &mut self,
        host: &mut Host<'_>,
        header: Header,
        gvas: &[u64],
    ) -> Result<(), Over> {
        if !self.batch.push(self.page.words_mut(), header, gvas) {
            self.send(host)?;
            // It is empty now: a page holds the largest set.
            self.batch.push(self.page.words_mut(), header, gvas);
        }
        Ok(())
    }

    /// Sends the batch.
    pub(super) fn send(&mut self, host: &mut Host<'_>) -> Result<(), Over> {
        while !self.batch.is_empty() {
            let meaning = host.call(wire::OP_REPORT, &mut self.page, self.batch.len());
            match meaning {
                Meaning::Over => return Err(Over),
                Meaning::Taken(sets) if sets > 0 => {
                    self.stats.add(Stat::Reports, 1);
                    self.stats.add(Stat::Sets, sets);
                    self.batch.sent(self.page.words_mut(), sets);
                }
                Meaning::Taken(_) | Meaning::Refused { .. } => {
                    self.stats.add(Stat::SetsRefused, 1);
                    let too_big = meaning == Meaning::Refused { too_big: true };
                    if !self.batch.refused(self.page.words_mut(), too_big) {
                        host.session.start_over();
                        return Err(Over);
                    }
                }
            }
        }
        Ok(())
    }
}
