// SPDX-License-Identifier: GPL-2.0
//! What happens in a guest's life, while its pages are aged by hint: coverage recovers by itself, or
//! lapses cleanly; no age is wrong that the host could know; nothing is left behind.

mod end;
mod kernel;
mod memory;
mod module;
mod objects;
mod pressure;
mod rollback;
mod scene;
mod time;
mod vmm;

use anyhow::Result;

/// One event, or a few of a kind.
pub struct Test {
    pub name: &'static str,
    /// Runs under FULL=1 only.
    full: bool,
    run: fn() -> Result<()>,
}

impl Test {
    /// Runs it in this process. Fails also if it leaves memory of the host's module behind.
    pub fn run(&self) -> Result<()> {
        gvahint_vm::module::provide("gvahint")?;
        let before = objects::settled(objects::LOADED)?;
        (self.run)()?;
        objects::none_left(before)
    }
}

const fn test(name: &'static str, full: bool, run: fn() -> Result<()>) -> Test {
    Test { name, full, run }
}

const TESTS: &[Test] = &[
    test("guest_module", false, module::guest),
    test("host_module", false, module::host),
    test("encrypted", false, module::encrypted),
    test("leaks", false, module::leaks),
    test("kexec", false, kernel::kexec),
    test("crash", false, kernel::crash),
    test("reset", false, kernel::reset),
    test("killed", false, end::killed),
    test("snapshot", false, vmm::snapshot),
    test("age_out", false, time::age_out),
    test("suspend", false, time::suspend),
    test("rolled_back", false, rollback::rolled_back),
    test("hotplug", false, memory::hotplug),
    test("offline", false, memory::offline),
    test("short", false, pressure::short),
    test("reclaims", false, pressure::reclaims),
    test("paused", true, vmm::paused),
    test("forked", true, vmm::forked),
    test("crash_reboot", true, kernel::crash_reboot),
    test("other_kernel", true, kernel::other_kernel),
    test("balloon", false, memory::balloon),
];

/// The tests that run: those whose names begin with one of `names`; without any, the default ones.
pub fn chosen(full: bool, names: &[String]) -> impl Iterator<Item = &'static Test> + '_ {
    TESTS.iter().filter(move |test| match names {
        [] => full || !test.full,
        names => names
            .iter()
            .any(|name| test.name.starts_with(name.as_str())),
    })
}
