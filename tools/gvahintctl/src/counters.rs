// SPDX-License-Identifier: GPL-2.0
//! What the module counts for each VM: `vms/<id>/stats/`. A test holds the table against docs/abi.

/// A counter or a level.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// Its file's name.
    pub name: &'static str,
    /// What it counts.
    pub about: &'static str,
}

/// Prefix of the counters of uncovered pages by reason; see [`crate::words::REASONS`].
pub const UNCOVERED_BY: &str = "uncovered_";

const fn counter(name: &'static str, about: &'static str) -> Counter {
    Counter { name, about }
}

/// What is not counted but held now.
pub const LEVELS: &[Counter] = &[
    counter("hints", "pages with a hint"),
    counter("kept_pages", "page tables that are left young"),
    counter("bytes", "memory held for the flush log and hints"),
];

/// What is counted from the VM's attachment on, but for the reasons.
pub const COUNTERS: &[Counter] = &[
    counter("aged", "pages whose accessed bit was cleared"),
    counter(
        "covered",
        "pages aged under `hint` that had a complete hint",
    ),
    counter(
        "covered_context",
        "covered pages that only a flush of the VPID covers",
    ),
    counter("uncovered", "pages aged under `hint` that had none"),
    counter("appended_gva", "single addresses put into the flush log"),
    counter(
        "appended_context",
        "flushes of a VPID put into the flush log",
    ),
    counter(
        "moved",
        "of these, for pages aged by addresses that were no longer theirs",
    ),
    counter("appended_full", "flushes of the EPT put into the flush log"),
    counter(
        "turned",
        "of these, for pages that turned from or into what may be page tables",
    ),
    counter(
        "drains",
        "times that a vCPU looked into the log before VM entry",
    ),
    counter(
        "drained_gva",
        "addresses that vCPUs dropped singly (INVVPID, individual address)",
    ),
    counter(
        "drained_context",
        "times that a vCPU dropped its VPID (INVVPID, single context)",
    ),
    counter(
        "drained_full",
        "times that a vCPU dropped the EPT's translations (INVEPT)",
    ),
    counter("drained_nothing", "drains that found nothing to do"),
    counter(
        "lagged",
        "VPIDs dropped because a vCPU lagged beyond the log",
    ),
    counter(
        "too_many",
        "VPIDs dropped because of more than max_gvas_per_entry addresses",
    ),
    counter(
        "overwritten",
        "VPIDs dropped because entries were overwritten during the drain",
    ),
    counter("refused", "VPIDs dropped because an address was refused"),
    counter(
        "unpublished",
        "drains that met an entry that was not complete yet",
    ),
    counter("superseded", "flushes by KVM itself that served the log"),
    counter("kicks", "times that vCPUs were made to leave the guest"),
    counter("hello", "HELLO calls that succeeded"),
    counter("linear", "LINEAR calls that succeeded"),
    counter("report", "REPORT calls that succeeded"),
    counter("wanted", "WANTED calls that succeeded"),
    counter("canary", "CANARY calls that succeeded"),
    counter("bye", "BYE calls that succeeded"),
    counter(
        "rejected",
        "calls that did not succeed; a single one after a reload of the module, a migration or a snapshot is normal",
    ),
    counter("sets_applied", "sets of reports that were taken over"),
    counter(
        "sets_refused",
        "sets of reports that were malformed or found no room",
    ),
    counter(
        "sets_shortened",
        "sets of several gVAs without room for these: only a flush of the VPID covers their pages",
    ),
    counter("wanted_told", "pages that WANTED named to the guest"),
    counter(
        "canary_lost",
        "canaries whose accessed bit did not come back",
    ),
    counter(
        "kept",
        "times that a page table, or a huge page with one, was left young",
    ),
];

/// docs/abi/sysfs-kernel-gvahint, for tests of the tables.
#[cfg(test)]
pub mod documentation {
    const TEXT: &str = include_str!("../../../docs/abi/sysfs-kernel-gvahint");

    /// `a/{b,c}` is `a/b`, `a/c`.
    fn expand(name: &str) -> Vec<String> {
        let parts = name
            .split_once('{')
            .and_then(|(head, rest)| Some((head, rest.split_once('}')?)));
        let Some((head, (list, tail))) = parts else {
            return vec![name.to_owned()];
        };
        let each = |word| expand(&format!("{head}{word}{tail}"));
        list.split(',').flat_map(each).collect()
    }

    /// The files of each entry, and its text.
    pub fn entries() -> Vec<(Vec<String>, String)> {
        let mut entries: Vec<(Vec<String>, String)> = Vec::new();
        for line in TEXT.lines() {
            if let Some(path) = line.strip_prefix("What:") {
                let names = expand(path.trim().trim_start_matches("/sys/kernel/gvahint/"));
                match entries.last_mut() {
                    Some((known, text)) if text.is_empty() => known.extend(names),
                    _ => entries.push((names, String::new())),
                }
            } else if let Some((_, text)) = entries.last_mut() {
                let line = line
                    .strip_prefix("Description:")
                    .unwrap_or(line)
                    .trim_start_matches('\t');
                text.push_str(line);
                text.push('\n');
            }
        }
        entries
    }

    /// The names that stand in the description of `file` before tabs, as in a list.
    pub fn listed(file: &str) -> Vec<String> {
        let (_, text) = entries()
            .into_iter()
            .find(|(names, _)| names.iter().any(|name| name == file))
            .unwrap_or_else(|| panic!("{file} is not documented"));
        let names = text.lines().filter_map(|line| line.strip_prefix("  "));
        let names = names.filter_map(|line| line.split('\t').next());
        names
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words;
    use std::collections::BTreeSet;

    // Fails if a counter is documented and not in the tables, or the other way round.
    #[test]
    fn counters_are_those_that_are_documented() {
        let documented: BTreeSet<String> = documentation::listed("vms/<id>/stats/<counter>")
            .into_iter()
            .collect();
        let known = LEVELS.iter().chain(COUNTERS);
        let known = known.map(|counter| counter.name.to_owned());
        let reasons = words::REASONS.iter();
        let reasons = reasons.map(|reason| format!("uncovered_{}", reason.name));
        assert_eq!(documented, known.chain(reasons).collect());
    }

    // Fails if a state is documented that there are no words for, or the other way round.
    #[test]
    fn states_are_those_that_are_documented() {
        let documented: BTreeSet<String> = documentation::listed("vms/<id>/state")
            .into_iter()
            .collect();
        let known = words::STATES.iter().map(|state| state.name.to_owned());
        let known: BTreeSet<_> = known.filter(|name| name != "live").collect();
        assert_eq!(documented, known);
    }

    // Fails if the module counts a reason that there are no words for, or the other way round.
    #[test]
    fn reasons_are_those_of_the_core() {
        let source = include_str!("../../../rust/core/src/plan.rs");
        let list = source
            .split("pub enum Reason {")
            .nth(1)
            .unwrap()
            .split('}')
            .next()
            .unwrap();
        let counted: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
        let known: BTreeSet<&str> = words::REASONS.iter().map(|reason| reason.name).collect();
        assert_eq!(counted, known);
    }
}
