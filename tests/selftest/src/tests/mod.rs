// SPDX-License-Identifier: GPL-2.0
//! The tests, one file a theme. Above each stands what would make it fail.

pub mod abi;
pub mod alias;
pub mod badinput;
pub mod calibrate;
pub mod canary;
pub mod coverage;
pub mod ctl;
pub mod cursors;
pub mod fixture;
pub mod gvas;
pub mod keep;
pub mod leaf1g;
pub mod leaf2m;
pub mod leaf4k;
pub mod leaks;
pub mod life;
pub mod limits;
pub mod log;
pub mod mask;
pub mod matrix;
pub mod memslot;
pub mod ordering;
pub mod overrides;
pub mod reclaim;
pub mod revoked;
pub mod room;
pub mod superseded;
pub mod sysfs;
pub mod timing;
pub mod trace;
pub mod trace_format;
pub mod trace_guest;
pub mod trace_load;
pub mod verdict;
pub mod wanted;

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
    const THEMES: [&[Test]; 34] = [
        fixture::TESTS,
        matrix::TESTS,
        alias::TESTS,
        gvas::TESTS,
        coverage::TESTS,
        leaf2m::TESTS,
        leaf4k::TESTS,
        leaf1g::TESTS,
        keep::TESTS,
        canary::TESTS,
        verdict::TESTS,
        log::TESTS,
        cursors::TESTS,
        superseded::TESTS,
        memslot::TESTS,
        limits::TESTS,
        revoked::TESTS,
        room::TESTS,
        wanted::TESTS,
        ordering::TESTS,
        timing::TESTS,
        reclaim::TESTS,
        mask::TESTS,
        life::TESTS,
        badinput::TESTS,
        abi::TESTS,
        sysfs::TESTS,
        overrides::TESTS,
        trace::TESTS,
        trace_guest::TESTS,
        trace_format::TESTS,
        leaks::TESTS,
        ctl::TESTS,
        calibrate::TESTS,
    ];
    THEMES.into_iter().flatten()
}

/// What runs in a process of its own, tests or not.
pub fn find(name: &str) -> Option<&'static Test> {
    let helpers = life::HELPERS.iter().chain(trace_load::HELPERS);
    all().chain(helpers).find(|test| test.name == name)
}
