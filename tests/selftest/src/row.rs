// SPDX-License-Identifier: GPL-2.0
//! One row of report.json: what a run of a scenario cost and how right it was.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A value that was not measured is absent, not 0.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    pub scenario: String,
    pub ager: String,
    pub backing: String,
    pub profile: String,
    pub cpus: usize,
    pub vcpus: usize,
    pub flush: String,
    pub uncovered: String,
    pub timing: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_alias: Option<String>,
    pub touched: u64,
    pub aged: u64,
    pub false_idle: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub uncovered_by: BTreeMap<String, u64>,
    pub invept: u64,
    pub invvpid_addr: u64,
    pub invvpid_context: u64,
    pub vm_exits: u64,
    pub kicks: u64,
    pub tlb_misses: u64,
    pub walk_refs: u64,
    pub guest_work: u64,
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

    /// `flush/uncovered/timing` as far as they matter, for people.
    pub fn policy(&self) -> String {
        if matches!(self.flush.as_str(), "default" | "none") {
            return self.flush.clone();
        }
        format!("{}/{}/{}", self.flush, self.uncovered, self.timing)
    }

    /// Prints the line that the host side collects.
    pub fn print(&self) -> anyhow::Result<()> {
        println!("ROW {}", serde_json::to_string(self)?);
        Ok(())
    }
}
