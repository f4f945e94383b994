// SPDX-License-Identifier: GPL-2.0

//! What the fuzz targets do with their bytes. The naive models, and the steps
//! that are played on them, are those of the core's proptests.

use arbitrary::{Result, Unstructured};
use std::fmt::Debug;
use std::sync::OnceLock;

#[path = "../../../rust/core/tests/common/mod.rs"]
mod common;
#[path = "../../../rust/core/tests/models"]
mod models {
    pub(crate) mod log;
    pub(crate) mod map;
    pub(crate) mod table;
}
#[path = "../../../rust/core/tests/storage/mod.rs"]
mod storage;

pub mod log;
pub mod report;
pub mod table;
mod words;

/// Shows a step, for `scripts/fuzz --show`.
fn show(step: &dyn Debug) {
    static SHOW: OnceLock<bool> = OnceLock::new();
    if *SHOW.get_or_init(|| std::env::var_os("GVAHINT_FUZZ_SHOW").is_some()) {
        eprintln!("step: {step:?}");
    }
}

/// One of a few, by one byte.
fn one_of<T: Copy>(u: &mut Unstructured<'_>, of: &[T]) -> Result<T> {
    let byte = usize::from(u.arbitrary::<u8>()?);
    Ok(of[byte % of.len()])
}
