// SPDX-License-Identifier: GPL-2.0
//! One row of report.json: what a run of a scenario cost and how right it was.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A value that was not measured is absent, not 0.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// Guest and what is aged: `hotset/4096/all`, `linux/random`, `linux/random/guest-thp`.
    pub scenario: String,
    /// `page_idle`; `damon`, `damon_paddr` (of the VMM's addresses, of the host's); `mglru` (ageing runs);
    /// `reclaim`, `reclaim_mglru` (of the VMM's memory cgroup, without and with MGLRU).
    pub ager: String,
    /// Pages that the host backs the guest with: `4k`, `thp`.
    pub backing: String,
    /// The machine's profile.
    pub profile: String,
    /// CPUs of the machine.
    pub cpus: usize,
    /// vCPUs of the guest.
    pub vcpus: usize,
    /// Policy: what is flushed.
    pub flush: String,
    /// Policy: what for pages without a hint.
    pub uncovered: String,
    /// Policy: when.
    pub timing: String,
    /// Whether linear ranges count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_alias: Option<String>,
    /// Pages that the guest touched after they had been marked, over all rounds.
    pub touched: u64,
    /// Leaves whose accessed bit was cleared, by the tracepoint of KVM.
    pub aged: u64,
    /// Of the touched pages, those that were idle all the same.
    pub false_idle: u64,
    /// Share of the aged pages with a complete hint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<f64>,
    /// Share of the aged pages that only a flush of the context covered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage_by_context: Option<f64>,
    /// Why others had none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub uncovered_by: BTreeMap<String, u64>,
    /// INVEPT of any type.
    pub invept: u64,
    /// INVVPID of one address.
    pub invvpid_addr: u64,
    /// INVVPID of a context.
    pub invvpid_context: u64,
    /// VM exits.
    pub vm_exits: u64,
    /// Of these, forced by another CPU.
    pub kicks: u64,
    /// The guest's TLB misses.
    pub tlb_misses: u64,
    /// Memory references of their walks.
    pub walk_refs: u64,
    /// Sweeps that the guest completed.
    pub guest_work: u64,
    /// Instructions in guest mode.
    pub instructions: u64,
}

impl Row {
    /// Guest TLB misses for each page whose accessed bit was cleared.
    pub fn misses_per_clear(&self) -> f64 {
        self.tlb_misses as f64 / self.aged.max(1) as f64
    }

    /// Share of touched pages that were reported idle.
    pub fn false_share(&self) -> f64 {
        self.false_idle as f64 / self.touched.max(1) as f64
    }

    /// `flush/uncovered/timing` as far as they matter, and `linear_alias` where it is not the default, for people.
    pub fn policy(&self) -> String {
        if matches!(self.flush.as_str(), "default" | "none") {
            return self.flush.clone();
        }
        let policy = format!("{}/{}/{}", self.flush, self.uncovered, self.timing);
        match self.linear_alias.as_deref() {
            None | Some("always") => policy,
            Some(alias) => format!("{policy} {alias}"),
        }
    }

    /// Prints the line that the host side collects.
    pub fn print(&self) -> anyhow::Result<()> {
        println!("ROW {}", serde_json::to_string(self)?);
        Ok(())
    }
}
