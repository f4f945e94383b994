// SPDX-License-Identifier: GPL-2.0
//! What went wrong, what helps, and the exit code that says so.

use crate::paint::Paint;
use std::io;
use std::process::ExitCode;

/// Kinds of failure. The numbers are exit codes, which `--help` documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything that has no number of its own, and problems that `doctor` found.
    Failed = 1,
    /// A wrong name or value.
    Usage = 2,
    /// The module's files are not there.
    NotLoaded = 3,
    /// The files may not be read or written.
    Permission = 4,
    /// The VM that was named is not there.
    NoVm = 5,
    /// A file holds what it can't.
    Garbage = 6,
    /// `doctor` found nothing worse than notes.
    Notes = 7,
    /// `calibrate` found that hints do not work on this host.
    HintsFail = 8,
    /// `calibrate` found nothing out.
    NoVerdict = 9,
}

/// The exit codes, for `--help` and the manual page.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done; doctor: all is well
  1  failed; doctor: found a problem (also where others exit with 3, 4 or 6)
  2  wrong usage: an unknown verb, option, knob or value
  3  the module is not loaded
  4  no permission
  5  there is no such VM, or it is gone
  6  a file of the module holds something that it can't
  7  doctor: found nothing worse than notes
  8  calibrate: single addresses do not suffice on this host
  9  calibrate: no verdict";

impl Kind {
    /// The process's exit code.
    pub fn exit(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of which kind.
    pub kind: Kind,
    /// What happened, in one sentence or several lines.
    pub what: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// What can fail.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// Without a remedy.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            remedy: None,
        }
    }

    /// With one.
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    /// As it stands on standard error.
    pub fn shown(&self, paint: &Paint) -> String {
        let mut text = format!("{} {}\n", paint.red("error:"), self.what);
        if let Some(remedy) = &self.remedy {
            text += &format!("  {} {remedy}\n", paint.bold("remedy:"));
        }
        text
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Kind::Failed, error.to_string())
    }
}
