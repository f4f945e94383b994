// SPDX-License-Identifier: GPL-2.0
//! Colour, where somebody looks: on a terminal, unless `NO_COLOR` is set.

use std::io::IsTerminal;

/// Colours text or leaves it alone.
pub struct Paint(bool);

impl Paint {
    /// For what is written to `stream`.
    pub fn of(stream: &impl IsTerminal) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(stream.is_terminal() && !unwanted && !dumb)
    }

    fn with(&self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// A text of clap's.
    pub fn styled(&self, text: &clap::builder::StyledStr) -> String {
        match self.0 {
            true => text.ansi().to_string(),
            false => text.to_string(),
        }
    }

    /// For what is wrong.
    pub fn red(&self, text: &str) -> String {
        self.with("31;1", text)
    }

    /// For what deserves a look.
    pub fn yellow(&self, text: &str) -> String {
        self.with("33", text)
    }

    /// For what is well.
    pub fn green(&self, text: &str) -> String {
        self.with("32", text)
    }

    /// For headings.
    pub fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }
}
