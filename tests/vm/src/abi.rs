// SPDX-License-Identifier: GPL-2.0
//! A module's files in sysfs against their documentation (docs/abi).

use crate::sys;
use anyhow::{ensure, Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Stands for the counters, whose names the description lists.
const COUNTER: &str = "<counter>";

/// `a/{b,c}_{d,e}` is `a/b_d`, `a/b_e`, `a/c_d`, `a/c_e`.
fn expand(name: &str) -> Vec<String> {
    let parts = name
        .split_once('{')
        .and_then(|(head, rest)| rest.split_once('}').map(|(list, tail)| (head, list, tail)));
    match parts {
        None => vec![name.to_owned()],
        Some((head, list, tail)) => list
            .split(',')
            .flat_map(|word| expand(&format!("{head}{word}{tail}")))
            .collect(),
    }
}

/// The files that a document names below `root`, and whether they can be set. A name may end in `*`.
pub fn documented(document: &str, root: &str) -> BTreeMap<String, bool> {
    let mut all = BTreeMap::new();
    let (mut names, mut counters) = (Vec::new(), None);
    for line in document.lines() {
        if let Some(path) = line.strip_prefix("What:") {
            names.extend(expand(path.trim().trim_start_matches(root)));
            counters = None;
        } else if let Some(text) = line.strip_prefix("Description:") {
            let settable = text.trim().starts_with("(RW)");
            for name in names.drain(..) {
                if let Some(directory) = name.strip_suffix(COUNTER) {
                    counters = Some(directory.to_owned());
                } else if !name.ends_with(['/', '>']) {
                    // A directory's name ends in a slash.
                    all.insert(name, settable);
                }
            }
        } else if let Some((directory, text)) = counters.as_ref().zip(line.strip_prefix("\t\t  ")) {
            let listed = text.split('\t').next().unwrap_or_default();
            let listed = listed.split_whitespace().flat_map(expand);
            all.extend(listed.map(|name| (format!("{directory}{name}"), false)));
        }
    }
    all
}

/// The files that are there below `path`, by their names below `root`, with their modes.
fn existing(path: &Path, root: &str, all: &mut BTreeMap<String, u32>) -> Result<()> {
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let data = path.symlink_metadata()?;
        if data.is_dir() {
            existing(&path, root, all)?;
        } else {
            let name = path.to_string_lossy();
            let name = name.trim_start_matches(root).to_owned();
            all.insert(name, data.permissions().mode() & 0o7777);
        }
    }
    Ok(())
}

/// Fails if a file is not documented or a documented one is missing, if its mode isn't what its (RO) or
/// (RW) says, if root can open one that is read-only for writing, or if one can't be read. The document
/// says `alias.1` where a name has `alias.0`.
pub fn compare(document: &str, root: &str, alias: (&str, &str)) -> Result<()> {
    let documented = documented(document, root);
    let mut found = BTreeMap::new();
    existing(Path::new(root), root, &mut found)?;
    println!("{} documented, {} there", documented.len(), found.len());
    let mut used = BTreeSet::new();
    for (name, mode) in &found {
        let general = name.replace(alias.0, alias.1);
        let matches = |known: &&String| match known.strip_suffix('*') {
            None => **known == general,
            Some(start) => general.starts_with(start),
        };
        let known = documented.keys().find(matches);
        let known = known.with_context(|| format!("{name} is not documented"))?;
        used.insert(known);
        let settable = documented[known];
        let due = if settable { 0o600 } else { 0o400 };
        ensure!(*mode == due, "{name} is {mode:o}, not {due:o}");
        let path = format!("{root}{name}");
        sys::read(&path)?;
        let opened = OpenOptions::new().write(true).open(&path);
        ensure!(
            opened.is_ok() == settable,
            "{name} opened for writing: {opened:?}"
        );
    }
    let missing: Vec<_> = documented
        .keys()
        .filter(|name| !used.contains(name))
        .collect();
    ensure!(missing.is_empty(), "documented, but not there: {missing:?}");
    Ok(())
}

/// Fails if a file does not take a value, with and without a newline, or shows another than it took.
pub fn takes(path: &str, value: &str) -> Result<()> {
    for text in [format!("{value}\n"), value.to_owned()] {
        sys::write(path, &text)?;
        let holds = sys::read(path)?;
        ensure!(holds == value, "{path} holds {holds:?} after {text:?}");
    }
    Ok(())
}

/// Fails if a file answers anything but EINVAL to a value, or changes all the same.
pub fn refuses(path: &str, wrong: &str) -> Result<()> {
    let before = sys::read(path)?;
    let mut file = OpenOptions::new().write(true).open(path)?;
    let answer = file.write(wrong.as_bytes()).map_err(|error| error.kind());
    ensure!(
        answer == Err(ErrorKind::InvalidInput),
        "{path} answered {answer:?} to {wrong:?}"
    );
    let holds = sys::read(path)?;
    ensure!(holds == before, "{path} holds {holds:?} after {wrong:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::documented;

    const DOCUMENT: &str = "
What:\t\t/r/a/
Description:\tA directory.

What:\t\t/r/{b,c}_x
Description:\t(RW) Two files:
\t\t  no\tcounter

What:\t\t/r/a/stats/<counter>
Description:\t(RO) Events.

\t\t  one two_{x,y}
\t\t\t  what they count
\t\t  three\tin one line
";

    // Fails if a name is not expanded, a directory is taken for a file, or a counter is missed.
    #[test]
    fn names_of_a_document() {
        let found = documented(DOCUMENT, "/r");
        let expected = [
            ("/a/stats/one", false),
            ("/a/stats/three", false),
            ("/a/stats/two_x", false),
            ("/a/stats/two_y", false),
            ("/b_x", true),
            ("/c_x", true),
        ];
        assert!(found
            .iter()
            .map(|(name, settable)| (name.as_str(), *settable))
            .eq(expected));
    }
}
