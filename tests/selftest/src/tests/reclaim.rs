// SPDX-License-Identifier: GPL-2.0
//! clear_flush_young by real reclaim, clear_young by DAMON.

use super::Test;
use crate::row::Row;
use anyhow::Result;

pub const TESTS: &[Test] = &[];

/// One row a policy: reclaim under memory pressure while a hot set is in use.
pub fn rows() -> Result<Vec<Row>> {
    Ok(Vec::new())
}
