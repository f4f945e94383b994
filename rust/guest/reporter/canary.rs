// SPDX-License-Identifier: GPL-2.0
//! Whether hints work on this host, and what is left to do where they don't.

use super::host::Over;
use super::Work;
use crate::shim::now_ms;
use gvahint_core::reporter::answer::Meaning;
use gvahint_core::reporter::canary::Verdict;
use gvahint_core::reporter::stats::Stat;
use gvahint_core::wire;
use kernel::prelude::*;

impl Work<'_> {
    /// Asks, if it is time to.
    pub(super) fn ask_canary(&mut self) -> Result<(), Over> {
        let now = now_ms();
        if !self
            .canary
            .is_due(self.shared.settings.canary_ms.get(), now)
        {
            return Ok(());
        }
        let session = &mut self.host.session;
        let Some(a1) = session.a1().zip(session.a1()) else {
            return Err(Over);
        };
        let (clear, test) = self.canary_page.ask(a1, &mut self.scratch);
        let clear = self.judge(clear)?;
        let test = test.map(|answer| self.judge(answer)).transpose()?;
        let told = self.canary.heard(clear, test, now);
        self.shared.stats.add(told.counter(), 1);
        match told {
            Verdict::Lost => self.lost(),
            Verdict::Ok => self.lost_said = false,
            Verdict::Untried | Verdict::Inconclusive => (),
        }
        Ok(())
    }

    fn judge(&mut self, answer: i64) -> Result<Meaning, Over> {
        let answered = self.host.session.canary_answered(answer, now_ms());
        match self.host.note(answered) {
            Meaning::Over => Err(Over),
            meaning => Ok(meaning),
        }
    }

    /// The host does not use what it is told.
    fn lost(&mut self) {
        if !self.lost_said {
            pr_warn!("hints don't work on this host: dropping one address does not bring the accessed bit of its page back\n");
            pr_warn!("it is told nothing more, and ages this guest by full flushes; enabled = 0, then 1 once state is off, tries again\n");
        }
        self.lost_said = true;
        self.host.session.canary_lost();
    }

    /// Renews the lease: without, the host would age this guest as if it had never reported.
    pub(super) fn renew(&mut self) -> Result<(), Over> {
        match self.host.call(wire::OP_REPORT, &mut self.scratch, 0) {
            Meaning::Taken(_) => self.shared.stats.add(Stat::Reports, 1),
            Meaning::Refused { .. } => (),
            Meaning::Over => return Err(Over),
        }
        Ok(())
    }
}
