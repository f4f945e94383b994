// SPDX-License-Identifier: GPL-2.0

//! What callgrind counted: a directory `ROW.WHO_ITEMS` for each job, with gungraun's
//! summary in it.

use crate::maps::Map;
use crate::ours::Table;
use crate::rows::{Metric, Row};
use anyhow::{bail, Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Instructions by the number of items.
type Counts = BTreeMap<u64, u64>;

/// What one item more costs.
fn per_item(counts: &Counts) -> Option<(f64, u64)> {
    let (few, base) = counts.first_key_value()?;
    let (many, total) = counts.last_key_value()?;
    let items = many.checked_sub(*few).filter(|items| *items > 0)?;
    Some((total.checked_sub(*base)? as f64 / items as f64, items))
}

fn instructions(summary: &Path) -> Result<u64> {
    let text = fs::read_to_string(summary)?;
    let json: Value = serde_json::from_str(&text)?;
    let metric = json.pointer("/profiles/0/data/parts/0/metrics/Ir/values/new");
    metric
        .and_then(Value::as_u64)
        .with_context(|| format!("no instructions in {}", summary.display()))
}

/// The rows of a directory.
pub fn rows(dir: &Path) -> Result<Vec<Row>> {
    let mut jobs: BTreeMap<String, BTreeMap<String, Counts>> = BTreeMap::new();
    for entry in fs::read_dir(dir).with_context(|| format!("no counts in {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let parts = name.and_then(|name| {
            let (row, job) = name.split_once('.')?;
            let (who, items) = job.rsplit_once('_')?;
            Some((row, who, items.parse().ok()?))
        });
        let Some((row, who, items)) = parts else {
            bail!("not the name of a job: {}", path.display());
        };
        let count = instructions(&path.join("summary.json"))?;
        let of_row = jobs.entry(row.to_owned()).or_default();
        of_row
            .entry(who.to_owned())
            .or_default()
            .insert(items, count);
    }
    let mut rows = Vec::new();
    for (name, mut of_row) in jobs {
        let ours = of_row.remove(Table::NAME).as_ref().and_then(per_item);
        let (value, n) = ours.with_context(|| format!("{name}: ours was not counted"))?;
        let row = Row::new(&name, Metric::Instructions, value, n);
        if of_row.is_empty() {
            rows.push(row);
            continue;
        }
        for (peer, counts) in of_row {
            let (theirs, _) = per_item(&counts).with_context(|| format!("{name}: {peer}"))?;
            rows.push(row.beside(&peer, theirs));
        }
    }
    Ok(rows)
}
