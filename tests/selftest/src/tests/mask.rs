// SPDX-License-Identifier: GPL-2.0
//! CPUs that lack what the module needs: KVM does what it always did.

use super::Test;
use crate::scene::{Scene, Setup};
use crate::tap::skip;
use anyhow::{ensure, Result};
use gvahint_vm::capability::Capability;
use gvahint_vm::knobs::Policy;

pub const TESTS: &[Test] = &[
    Test::new(
        "mask_no_gva_flush",
        "a CPU that can't flush single addresses",
        |_| no_gva_flush(),
    ),
    Test::new("mask_no_ept_ad", "EPT without accessed bits", |_| {
        no_ept_ad()
    }),
];

const PAGES: u64 = 256;

/// Fails if `hint` flushes anything where KVM's clear_young doesn't, or the policies that need no
/// single flush stop working.
fn no_gva_flush() -> Result<()> {
    if Capability::read()?.invvpid_addr {
        skip!("INVVPID knows single addresses here");
    }
    let mut scene = Scene::hinted(Setup::quiet(PAGES), Policy::new("hint", "deferred"))?;
    scene.machine.reset()?;
    let idle = scene.full_round()?;
    let seen = scene.machine.snapshot()?;
    ensure!(
        idle == PAGES,
        "{idle} of {PAGES} pages idle: default drops nothing"
    );
    let flushes = (seen.invvpid_addr(), seen.invvpid_context(), seen.failed());
    ensure!(
        flushes == (0, 0, 0),
        "{flushes:?} INVVPID by address, by context, failed"
    );
    ensure!(
        scene.stat("uncovered_no_gva_flush")? > 0,
        "the module gives no reason"
    );
    for flush in ["context", "invept"] {
        scene
            .knobs
            .policy("clear_young", Policy::new(flush, "deferred"))?;
        scene.vm.toggle_dirty_log()?;
        scene.warm(1)?;
        let idle = scene.full_round()?;
        ensure!(idle == 0, "{flush}: {idle} pages are falsely idle");
    }
    Ok(())
}

/// Fails if hooks run for entries without accessed bits, or a page isn't found once KVM's own flush
/// made the guest fault on it.
fn no_ept_ad() -> Result<()> {
    if Capability::read()?.ept_ad {
        skip!("EPT has accessed bits here");
    }
    for flush in ["hint", "invept"] {
        let scene = Scene::hinted(Setup::quiet(PAGES), Policy::new(flush, "deferred"))?;
        scene.machine.reset()?;
        let idle = scene.full_round()?;
        let seen = scene.machine.snapshot()?;
        ensure!(
            idle == PAGES,
            "{flush}: {idle} of {PAGES} pages idle: default drops nothing"
        );
        let flushes = (seen.invvpid_addr(), seen.invept());
        ensure!(
            flushes == (0, 0),
            "{flush}: {flushes:?} INVVPID by address, INVEPT"
        );
        ensure!(scene.stat("aged")? == 0, "{flush}: the module was called");
        scene.vm.toggle_dirty_log()?;
        scene.warm(2)?;
        let idle = scene.idle.count(&scene.pfns)?;
        ensure!(
            idle == 0,
            "{flush}: {idle} pages are idle after a full flush"
        );
    }
    Ok(())
}
