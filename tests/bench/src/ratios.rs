// SPDX-License-Identifier: GPL-2.0

//! What criterion timed: `ROW/WHO/new/estimates.json`. Only ratios are kept.

use crate::maps::Map;
use crate::ours::Table;
use crate::rows::{Metric, Row};
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn json(path: &Path) -> Result<Value> {
    let text =
        fs::read_to_string(path).with_context(|| format!("no times in {}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

/// The median, and of how many samples.
fn median(dir: &Path) -> Result<(f64, u64)> {
    let estimates = json(&dir.join("new/estimates.json"))?;
    let sample = json(&dir.join("new/sample.json"))?;
    let median = estimates
        .pointer("/median/point_estimate")
        .and_then(Value::as_f64);
    let times = sample.get("times").and_then(Value::as_array);
    let samples = times.map_or(0, Vec::len) as u64;
    Ok((median.context("no median")?, samples))
}

/// The rows of a directory: our time as a multiple of each peer's.
pub fn rows(dir: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for name in ["table_build_64gib", "lookup_time", "append_64_vcpus_time"] {
        let (ours, n) = median(&dir.join(name).join(Table::NAME))?;
        for entry in fs::read_dir(dir.join(name))? {
            let path = entry?.path();
            let peer = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if peer == Table::NAME || !path.join("new").is_dir() {
                continue;
            }
            let (theirs, _) = median(&path)?;
            rows.push(Row::new(name, Metric::NsRatio, ours / theirs, n).beside(peer, 1.0));
        }
    }
    Ok(rows)
}
