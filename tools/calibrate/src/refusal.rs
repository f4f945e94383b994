// SPDX-License-Identifier: GPL-2.0
//! Why this host can't be measured, and what helps.

use std::fmt;

/// Of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// gvahint is not loaded.
    NotLoaded,
    /// Not root.
    Permission,
    /// The CPU or the kernel lacks something, or is busy.
    Unfit,
    /// Interrupted by whoever runs it.
    Interrupted,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of which kind.
    pub kind: Kind,
    /// What is wrong.
    pub what: String,
    /// What to do about it, if that is known.
    pub remedy: Option<String>,
}

impl Refusal {
    /// With a remedy.
    pub fn new(kind: Kind, what: impl Into<String>, remedy: &str) -> Self {
        Self {
            kind,
            what: what.into(),
            remedy: Some(remedy.to_owned()),
        }
    }

    /// The host can't be measured.
    pub fn unfit(what: impl Into<String>, remedy: &str) -> Self {
        Self::new(Kind::Unfit, what, remedy)
    }

    /// Somebody wants an end.
    pub fn interrupted() -> Self {
        Self {
            kind: Kind::Interrupted,
            what: "interrupted; everything is as before".to_owned(),
            remedy: None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Refusal {}
