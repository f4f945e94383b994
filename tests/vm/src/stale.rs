// SPDX-License-Identifier: GPL-2.0
//! Pages whose addresses changed: entries of `stale` in report.json.

use serde::{Deserialize, Serialize};

/// What the host took for idle after all pages of a guest had changed their addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stale {
    /// What happened to the pages.
    pub change: String,
    /// Whether the guest's kernel tells the reporter of it.
    pub notified: bool,
    /// Time between the change and the ageing.
    pub wait_ms: u64,
    /// Pages that the guest touched after they had been aged.
    pub touched: u64,
    /// Of these, pages that were idle all the same.
    pub false_idle: u64,
    /// Time from the change until no page was falsely idle; absent if that did not come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_ms: Option<u64>,
    /// How long that was waited for.
    pub limit_ms: u64,
}

impl Stale {
    /// Prints the line that the host side collects.
    pub fn print(&self) -> anyhow::Result<()> {
        println!("STALE {}", serde_json::to_string(self)?);
        Ok(())
    }
}
