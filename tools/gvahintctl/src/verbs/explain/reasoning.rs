// SPDX-License-Identifier: GPL-2.0
//! From counters to causes.

use crate::knobs::NOTIFIERS;
use crate::numbers::{counted, share};
use crate::snapshot::{coverage_of, reasons, since, Snapshot, Stats, Vm};
use crate::words::{self, Word};
use serde::Serialize;

/// What happened to one VM, and why.
#[derive(Debug, Serialize)]
pub struct Explanation {
    pub id: u64,
    pub pid: u64,
    pub process: Option<String>,
    /// How the VM is called in a sentence.
    #[serde(skip)]
    pub name: String,
    pub state: String,
    pub state_meaning: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_remedy: Option<&'static str>,
    pub aged: u64,
    pub covered: u64,
    /// Of these, by a flush of the VPID only.
    pub covered_context: u64,
    pub uncovered: u64,
    pub coverage: Option<f64>,
    /// INVEPT.
    pub full: Flushes,
    /// INVVPID of a context.
    pub context: Flushes,
    /// Flushes by KVM that served the log.
    pub superseded: u64,
    /// Why pages were uncovered.
    pub reasons: Vec<Cause>,
    /// Why vCPUs dropped a VPID instead of single addresses.
    pub escalations: Vec<Cause>,
    /// What else is to be said.
    pub remarks: Vec<String>,
}

/// Flushes of one kind.
#[derive(Debug, Serialize)]
pub struct Flushes {
    /// Entries put into the log.
    pub asked: u64,
    /// Flushes by vCPUs; one entry is executed by each, and one flush serves many entries.
    pub executed: u64,
}

/// A cause and its part.
#[derive(Debug, Serialize)]
pub struct Cause {
    #[serde(rename = "reason")]
    pub name: String,
    pub pages: u64,
    pub share: f64,
    pub meaning: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<&'static str>,
}

/// Why a drain gave single addresses up.
const ESCALATIONS: &[Word] = &[
    Word {
        name: "lagged",
        meaning: "a vCPU entered so late that its addresses were overwritten in the log",
        remedy: Some("raise log_entries (from the guest's next HELLO on), or lower max_delay_ms"),
    },
    Word {
        name: "too_many",
        meaning: "more addresses than max_gvas_per_entry were due at one VM entry",
        remedy: Some("raise max_gvas_per_entry up to what `gvahintctl calibrate` finds, or use timing batched"),
    },
    Word {
        name: "overwritten",
        meaning: "addresses were overwritten while they were being dropped",
        remedy: Some("raise log_entries (from the guest's next HELLO on)"),
    },
    Word {
        name: "refused",
        meaning: "an address was not canonical by this CPU's width",
        remedy: Some("none: it should not happen; report it"),
    },
];

impl Explanation {
    /// Explains what happened to `vm` since `before`, or since it was attached.
    pub fn of(before: Option<&Snapshot>, now: &Snapshot, vm: &Vm) -> Self {
        let rose = since(before.and_then(|before| before.earlier(vm)), vm);
        let stat = |name: &str| rose.get(name).copied().unwrap_or(0);
        let uncovered_by = reasons(&rose);
        // Not the counter of all: it may have been read a moment earlier.
        let whole = uncovered_by.iter().map(|(_, pages)| pages).sum();
        let cause = |words: &'static [Word], name: &str, pages: u64, whole: u64| {
            let word = words::find(words, name);
            Cause {
                name: name.to_owned(),
                pages,
                share: share(pages, whole),
                meaning: word.map_or(
                    "a reason that this version of gvahintctl does not know",
                    |w| w.meaning,
                ),
                remedy: word.and_then(|word| word.remedy),
            }
        };
        let escalations = ESCALATIONS.iter().filter(|word| stat(word.name) > 0);
        let drops = stat("drained_context");
        Self {
            id: vm.id,
            pid: vm.pid,
            process: vm.process.clone(),
            name: vm.called(),
            state: vm.state.clone(),
            state_meaning: words::state(&vm.state),
            state_remedy: words::find(words::STATES, &vm.state).and_then(|word| word.remedy),
            aged: stat("aged"),
            covered: stat("covered"),
            covered_context: stat("covered_context"),
            uncovered: stat("uncovered"),
            coverage: coverage_of(&rose),
            full: Flushes {
                asked: stat("appended_full"),
                executed: stat("drained_full"),
            },
            context: Flushes {
                asked: stat("appended_context"),
                executed: drops,
            },
            superseded: stat("superseded"),
            reasons: uncovered_by
                .into_iter()
                .map(|(name, pages)| cause(words::REASONS, name, pages, whole))
                .collect(),
            escalations: escalations
                .map(|word| cause(ESCALATIONS, word.name, stat(word.name), drops))
                .collect(),
            remarks: remarks(now, vm, &rose),
        }
    }
}

/// What policies and state have to do with it.
fn remarks(now: &Snapshot, vm: &Vm, rose: &Stats) -> Vec<String> {
    let stat = |name: &str| rose.get(name).copied().unwrap_or(0);
    let mut remarks = Vec::new();
    let mut asks_always = false;
    for notifier in NOTIFIERS {
        let own = vm.own_policies().any(|own| own == notifier);
        let whose = if own { "for this VM" } else { "for all VMs" };
        let flush = now.effective(vm, &format!("{notifier}/flush"));
        let uncovered = now.effective(vm, &format!("{notifier}/uncovered"));
        remarks.push(match flush {
            "invept" => {
                asks_always = true;
                format!(
                    "{notifier}/flush is invept {whose}: each call that aged a page asks for one full flush. \
                     Set it to hint if the guest reports."
                )
            }
            "default" if notifier == "clear_young" => format!(
                "{notifier}/flush is default {whose}: KVM flushes nothing, and ages are wrong."
            ),
            "default" => format!(
                "{notifier}/flush is default {whose}: KVM flushes every VM on its CPUs, as without the module, uncounted here."
            ),
            "context" => format!("{notifier}/flush is context {whose}: it causes no full flush."),
            "none" => format!("{notifier}/flush is none {whose}: ageing drops nothing, and ages are wrong."),
            "hint" if uncovered == "none" => format!(
                "{notifier}/uncovered is none {whose}: pages without a hint cause no flush and may look idle."
            ),
            _ => continue,
        });
    }
    if ["silent", "lapsed", "no-gva-flush"].contains(&vm.state.as_str()) {
        remarks.push(
            "Under `hint` KVM treats such a VM as without the module: reclaim (clear_flush_young) flushes every VM \
             on its CPUs, uncounted here; page_idle, DAMON and MGLRU flush nothing, and their ages are wrong."
                .to_owned(),
        );
    }
    let turned = stat("turned");
    if turned > 0 {
        remarks.push(format!(
            "{} for pages that may have been page tables before they were reported as data, or that became some: one \
             serves all until then. A guest that forks or changes its memory much has many of these.",
            counted(turned, "full flush was", "full flushes were")
        ));
    }
    let degraded = vm.state == "degraded";
    if stat("appended_full") > turned && stat("uncovered") == 0 && !asks_always && !degraded {
        remarks.push(format!(
            "{} with no page uncovered: one when the module was loaded, one for each HELLO and LINEAR of the guest, \
             one where a policy that flushes, or kicks, followed one that does not; or another policy was in force \
             meanwhile.",
            counted(stat("appended_full") - turned, "full flush", "full flushes")
        ));
    }
    if stat("sets_shortened") > 0 {
        remarks.push(format!(
            "{} of several gVAs found no room for these, so that their pages need a flush of the VPID: raise \
             max_bytes_per_vm; it counts from the guest's next HELLO on.",
            counted(stat("sets_shortened"), "set", "sets")
        ));
    }
    if stat("sets_refused") > 0 {
        remarks.push(format!(
            "{} malformed or found no room: if bytes is near max_bytes_per_vm, raise that; it counts from the guest's \
             next HELLO on.",
            counted(stat("sets_refused"), "set of a report was", "sets of reports were")
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::COUNTERS;

    // Fails if a counter that explain looks at is not one of the module's.
    #[test]
    fn escalations_are_counted() {
        for word in ESCALATIONS {
            assert!(
                COUNTERS.iter().any(|counter| counter.name == word.name),
                "{}",
                word.name
            );
        }
    }
}
