// SPDX-License-Identifier: GPL-2.0
//! The files of /sys/kernel/gvahint, held open, and what each of them may say.

use crate::tests::abi::{case, Case, DOCUMENT, VM};
use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::knobs::{VmDir, ROOT};
use gvahint_vm::{abi, sys};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// What `state` may be.
const STATES: [&str; 7] = [
    "live",
    "silent",
    "no-linear",
    "lapsed",
    "no-gva-flush",
    "degraded",
    "calibration-failed",
];

/// A documented file.
#[derive(Clone)]
pub struct Entry {
    pub path: String,
    /// What it held at first.
    pub first: String,
    /// None if it can only be read.
    pub case: Option<Case>,
}

/// All files of a VM, or without one those that are for all.
pub fn documented(vm: Option<&VmDir>) -> Result<Vec<Entry>> {
    let id = vm.map(|vm| vm.id.to_string()).unwrap_or_default();
    let mut all = Vec::new();
    for (name, settable) in abi::documented(DOCUMENT, ROOT) {
        if name.starts_with("/vms/") != vm.is_some() {
            continue;
        }
        let path = format!("{ROOT}{name}").replace(VM, &id);
        for path in beginning(path)? {
            all.push(Entry {
                first: sys::read(&path)?,
                case: settable.then(|| case(&name)).transpose()?,
                path,
            });
        }
    }
    Ok(all)
}

/// The files that a path stands for, which may end in `*`.
fn beginning(path: String) -> Result<Vec<String>> {
    let Some(start) = path.strip_suffix('*') else {
        return Ok(vec![path]);
    };
    let (directory, _) = start.rsplit_once('/').context("a path")?;
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path().to_string_lossy().into_owned();
        if path.starts_with(start) {
            all.push(path);
        }
    }
    Ok(all)
}

impl Entry {
    /// Whether it may hold that.
    fn may_be(&self, value: &str) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        match (&self.case, name) {
            (Some(case), _) => case.good.contains(&value) || value == self.first,
            (None, "version" | "pid") => value == self.first,
            (None, "state") => STATES.contains(&value),
            (None, "coverage") => {
                let share = value
                    .parse()
                    .is_ok_and(|share| (0.0..=1.0).contains(&share));
                value == "-" || share && value.len() == "0.0000".len()
            }
            _ => value.parse::<u64>().is_ok(),
        }
    }

    /// The `n`th value that it takes, and that it doesn't; they come round.
    pub fn words(&self, n: usize) -> Option<(&'static str, &'static str)> {
        let Case { good, bad } = self.case.as_ref()?;
        Some((good[n % good.len()], bad[n % bad.len()]))
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Taken,
    /// EINVAL.
    Refused,
    /// ENODEV.
    Gone,
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENODEV)
}

/// A file that is open, for writing as well if it can be set.
pub struct Open {
    pub entry: Entry,
    file: File,
}

impl Open {
    pub fn new(entry: &Entry) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(entry.case.is_some())
            .open(&entry.path)
            .with_context(|| entry.path.clone())?;
        Ok(Self {
            entry: entry.clone(),
            file,
        })
    }

    /// What it holds, none if it is gone. Fails if that is nothing that it may hold.
    pub fn value(&self) -> Result<Option<String>> {
        let path = &self.entry.path;
        let mut bytes = [0; 256];
        let length = match self.file.read_at(&mut bytes, 0) {
            Ok(length) => length,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {path}")),
        };
        let text = String::from_utf8_lossy(&bytes[..length]);
        let Some(value) = text.strip_suffix('\n') else {
            bail!("{path} holds {text:?}: no line");
        };
        ensure!(self.entry.may_be(value), "{path} holds {value:?}");
        Ok(Some(value.to_owned()))
    }

    /// Writes a value, good or bad.
    pub fn set(&self, value: &str) -> Result<Answer> {
        let path = &self.entry.path;
        match self.file.write_at(value.as_bytes(), 0) {
            Ok(length) if length == value.len() => Ok(Answer::Taken),
            Ok(length) => bail!("{path} took {length} bytes of {value:?}"),
            Err(error) if is_gone(&error) => Ok(Answer::Gone),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Answer::Refused),
            Err(error) => Err(error).with_context(|| format!("write {value:?} to {path}")),
        }
    }

    /// Reads it, and writes the `n`th values that it takes and doesn't. Whether it is still there; fails
    /// if it answers wrongly, or is there again after it was gone.
    pub fn is_there(&self, n: usize) -> Result<bool> {
        let path = &self.entry.path;
        let read = self.value()?.is_some();
        let Some((good, wrong)) = self.entry.words(n) else {
            return Ok(read);
        };
        let answers = (self.set(good)?, self.set(wrong)?);
        match (read, answers) {
            (true, (Answer::Taken, Answer::Refused)) => Ok(true),
            // Gone in between, or before.
            (true, (Answer::Taken | Answer::Gone, Answer::Gone)) => Ok(false),
            (false, (Answer::Gone, Answer::Gone)) => Ok(false),
            _ => bail!("{path}: read {read}; {good:?}, {wrong:?} answered {answers:?}"),
        }
    }

    /// Fails unless it is gone for good: nothing is read, taken or refused, and it can't be opened again.
    pub fn ensure_gone(&self) -> Result<()> {
        let path = &self.entry.path;
        for n in 0..4 {
            ensure!(!self.is_there(n)?, "{path} is still there");
        }
        let reopened = File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        ensure!(
            reopened.as_ref().is_err_and(is_gone),
            "{path} opened once more: {reopened:?}"
        );
        Ok(())
    }
}
