// SPDX-License-Identifier: GPL-2.0
//! The tests, one file a theme. Above each stands what would make it fail.

pub mod fixture;
pub mod matrix;
pub mod reclaim;

use anyhow::Result;

/// One test.
pub struct Test {
    pub name: &'static str,
    pub about: &'static str,
    /// Left out unless everything is asked for, or it by name.
    pub full: bool,
    /// Gets whether every cell is asked for.
    pub run: fn(bool) -> Result<()>,
}

impl Test {
    const fn new(name: &'static str, about: &'static str, run: fn(bool) -> Result<()>) -> Self {
        Self {
            name,
            about,
            full: false,
            run,
        }
    }

    const fn only_full(self) -> Self {
        Self { full: true, ..self }
    }
}

/// All tests in the order in which they run.
pub fn all() -> impl Iterator<Item = &'static Test> {
    [fixture::TESTS, matrix::TESTS, reclaim::TESTS]
        .into_iter()
        .flatten()
}
