// SPDX-License-Identifier: GPL-2.0

//! `report.json`: a row for each thing that was measured, and each peer of it.

use serde::Serialize;

/// In what a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Instructions.
    Instructions,
    /// Our time; the peer's is 1.
    NsRatio,
    /// Bytes.
    Bytes,
}

/// What was not measured is absent.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// In what.
    pub metric: Metric,
    /// Ours.
    pub value: f64,
    /// Beside whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_value: Option<f64>,
    /// Items or samples that it comes from.
    pub n: u64,
}

impl Row {
    /// Ours alone.
    pub fn new(name: &str, metric: Metric, value: f64, n: u64) -> Self {
        Self {
            name: name.to_owned(),
            metric,
            value,
            peer: None,
            peer_value: None,
            n,
        }
    }

    /// Beside a peer.
    pub fn beside(&self, peer: &str, value: f64) -> Self {
        Self {
            peer: Some(peer.to_owned()),
            peer_value: Some(value),
            ..self.clone()
        }
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// 1.
    pub schema: u32,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Report {
    /// The rows of that name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.name == name)
    }

    /// What was measured of ours under that name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.named(name).next().map(|row| row.value)
    }

    /// What was measured of a peer's.
    pub fn peer(&self, name: &str, peer: &str) -> Option<f64> {
        self.named(name)
            .find(|row| row.peer.as_deref() == Some(peer))?
            .peer_value
    }
}
