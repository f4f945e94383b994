// SPDX-License-Identifier: GPL-2.0
//! `set`: several knobs, all or none.

use super::{print, tell};
use crate::failure::{Failure, Kind, Result};
use crate::host::Host;
use crate::knobs::{Knob, KNOBS};
use crate::snapshot::value;
use crate::stop::Stop;
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Set knobs, globally or for one VM
///
/// Takes effect with the next page that is aged, while guests run. Several are set in the order given, all or
/// none: if one fails, those before it get their old values back. Settings are gone when the module is
/// unloaded.
#[derive(Args, Debug)]
#[command(
    override_usage = "gvahintctl set [--vm ID] KNOB VALUE [KNOB VALUE]...\n       gvahintctl set [--vm ID] --file FILE",
    after_help = format!("{}\n\n{EXAMPLES}", list())
)]
pub struct Arguments {
    /// For this VM only; `inherit` gives a knob back to the global value
    #[arg(long, value_name = "ID")]
    vm: Option<u64>,
    /// Take them from a file with lines `KNOB = VALUE` and comments after #
    #[arg(long, value_name = "FILE", conflicts_with = "pairs")]
    file: Option<PathBuf>,
    /// Knobs, each with its value
    #[arg(value_name = "KNOB VALUE", required_unless_present = "file")]
    pairs: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  gvahintctl set clear_young/timing batched
  gvahintctl set clear_young/flush hint clear_young/uncovered none
  gvahintctl set --vm 3 clear_young/flush invept
  gvahintctl set --vm 3 clear_young/flush inherit
  gvahintctl set --file /etc/gvahint.conf";

/// The knobs and what they take.
fn list() -> String {
    let mut text = "Knobs (those with a / are of VMs, too):".to_owned();
    for knob in KNOBS {
        text += &format!(
            "\n  {:27} {}\n  {:27}   {}",
            knob.name,
            knob.about,
            "",
            knob.takes.allowed()
        );
    }
    text
}

/// One knob to be set.
struct Change {
    knob: &'static Knob,
    value: String,
}

impl Arguments {
    /// Sets them.
    pub fn run(self, host: &Host) -> Result<ExitCode> {
        let of_vm = self.vm.is_some();
        let changes = match &self.file {
            Some(file) => from_file(file, of_vm)?,
            None => in_pairs(self.pairs, of_vm)?,
        };
        host.need_module()?;
        if let (Some(file), true) = (&self.file, changes.is_empty()) {
            tell(&format!("nothing is set in {}\n", file.display()));
        }
        print(&all_or_none(host, self.vm, &changes)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Change {
    /// Fails unless there is such a knob, and it takes the value.
    fn new(name: &str, value: String, of_vm: bool) -> Result<Self> {
        let knob = Knob::find(name)?;
        knob.check(&value, of_vm)?;
        let value = knob.plain(value);
        Ok(Self { knob, value })
    }
}

fn in_pairs(words: Vec<String>, of_vm: bool) -> Result<Vec<Change>> {
    let mut words = words.into_iter();
    let mut changes = Vec::new();
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| {
            let what = format!("{name} has no value: knobs and values come in pairs");
            // A name that is wrong is worth saying first.
            Knob::find(&name)
                .err()
                .unwrap_or(Failure::new(Kind::Usage, what))
        })?;
        changes.push(Change::new(&name, value, of_vm)?);
    }
    Ok(changes)
}

fn from_file(path: &Path, of_vm: bool) -> Result<Vec<Change>> {
    let wrong = |what: String| Failure::new(Kind::Usage, format!("{}: {what}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let mut changes = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let pair = line
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()));
        let (name, value) =
            pair.ok_or_else(|| wrong(format!("line {number} is not `KNOB = VALUE`: {line:?}")))?;
        let change = Change::new(name, value.to_owned(), of_vm).map_err(|failure| Failure {
            what: wrong(format!("line {number}: {}", failure.what)).what,
            ..failure
        })?;
        changes.push(change);
    }
    Ok(changes)
}

/// Makes the changes; says what changed, or why nothing did.
fn all_or_none(host: &Host, vm: Option<u64>, changes: &[Change]) -> Result<String> {
    // An interruption takes back what is done.
    let stop = Stop::on_signals()?;
    let mut old = Vec::new();
    for change in changes {
        old.push(value(host, change.knob, vm)?);
    }
    let mut written = 0;
    let mut apply = |change: &Change| {
        if stop.wanted() {
            return Err(Failure::new(Kind::Failed, "interrupted"));
        }
        host.write(&change.knob.file(vm), &change.value)?;
        written += 1;
        holds(host, vm, change)
    };
    if let Err(failure) = changes.iter().try_for_each(&mut apply) {
        let back = changes[..written].iter().zip(&old).rev();
        return Err(undone(host, vm, back, failure));
    }
    let told = changes.iter().zip(&old).map(|(change, old)| {
        let Change { knob, value } = change;
        match old == value {
            true => format!("{}: {value}, as before\n", knob.name),
            false => format!("{}: {old} -> {value}\n", knob.name),
        }
    });
    Ok(told.collect())
}

/// Fails unless the knob holds what was written.
fn holds(host: &Host, vm: Option<u64>, change: &Change) -> Result<()> {
    let file = change.knob.file(vm);
    let holds = value(host, change.knob, vm)?;
    if holds == change.value {
        return Ok(());
    }
    let what = format!(
        "{} holds {holds:?} after {:?} was written",
        host.file(&file).display(),
        change.value
    );
    Err(Failure::new(Kind::Failed, what).remedy("somebody else sets it at the same time"))
}

/// Gives knobs their old values back; `failure` says what became of that.
fn undone<'a>(
    host: &Host,
    vm: Option<u64>,
    back: impl Iterator<Item = (&'a Change, &'a String)>,
    mut failure: Failure,
) -> Failure {
    let (mut restored, mut stuck) = (Vec::new(), Vec::new());
    for (change, old) in back {
        let name = change.knob.name;
        match host.write(&change.knob.file(vm), old) {
            Ok(()) => restored.push(format!("{name} is {old} again")),
            Err(error) => stuck.push(format!("{name} stays {}: {}", change.value, error.what)),
        }
    }
    failure.what += match (restored.is_empty(), stuck.is_empty()) {
        (true, true) => "; nothing was changed",
        (_, true) => "; nothing is changed: ",
        _ => "; NOT everything could be undone: ",
    };
    stuck.extend(restored);
    failure.what += &stuck.join(", ");
    failure
}
