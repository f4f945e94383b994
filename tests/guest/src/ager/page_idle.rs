// SPDX-License-Identifier: GPL-2.0
//! page_idle: marks pages idle and looks at the marks.

use super::{Method, View};
use crate::guest::Guest;
use anyhow::Result;
use gvahint_vm::age::PageIdle;

impl Method for PageIdle {
    fn warms_up(&self) -> bool {
        true
    }

    fn mark(&mut self, _guest: &Guest, view: &View) -> Result<()> {
        PageIdle::mark(self, &view.heads())
    }

    fn idle(&mut self, view: &View) -> Result<Vec<Option<bool>>> {
        let idle = PageIdle::idle(self, &view.heads())?;
        Ok(idle.into_iter().map(Some).collect())
    }
}
