// SPDX-License-Identifier: GPL-2.0
//! What the other tests stand on: staleness is there to be seen, and a host without the module.

use super::Test;
use crate::scene::{need_profile, Scene, Setup};
use crate::tap::skip;
use anyhow::{ensure, Result};
use gvahint_vm::code::After;
use gvahint_vm::hints::{errno, op, Mode, VERSION};
use gvahint_vm::trace::{Counter, AGED};
use gvahint_vm::{layout, module, sys};

/// Basic exit reason of WRMSR.
const WRMSR: u32 = 32;

pub const TESTS: &[Test] = &[
    Test::new(
        "fixture_stale",
        "without the module, ageing without a flush sees nothing",
        |_| stale(),
    ),
    Test::new(
        "fixture_fast_reentry",
        "the fast-path guest never comes out",
        |_| fast_reentry(),
    ),
    Test::new(
        "fixture_no_module",
        "without the module, the hypercall is unknown",
        |_| no_module(),
    ),
];

/// Fails if the hot set doesn't stay in the TLB (nothing is stale), if ground truth and page_idle
/// are about different pages (stale after a flush), or if events and pages don't match.
fn stale() -> Result<()> {
    let mut scene = Scene::bare(Setup::quiet(1024))?;
    need_profile(&scene.machine, &["combined-only", "leaf-cached"])?;
    scene.start()?;
    let aged = Counter::start(AGED)?;
    ensure!(
        scene.full_round()? == 1024,
        "pages were found touched though nothing was flushed"
    );
    ensure!(
        aged.count()? == 1024,
        "{} pages aged, not 1024",
        aged.count()?
    );
    scene.vm.toggle_dirty_log()?;
    scene.warm(1)?;
    let idle = scene.idle.count(&scene.pfns)?;
    ensure!(
        idle == 0,
        "{idle} pages are idle after a full flush and a sweep"
    );
    Ok(())
}

/// Fails if the guest's write of the TSC deadline doesn't exit, or if KVM has no preemption timer: it
/// would then handle the write on its slow path, and `hotset_reentry` would not show what it claims.
fn fast_reentry() -> Result<()> {
    let mut scene = Scene::bare(Setup::quiet(64).with(After::FastReentry))?;
    scene.start()?;
    let (work, _) = (scene.work(), scene.machine.reset()?);
    scene.warm(200)?;
    let exits = scene.machine.snapshot()?.exits_for(WRMSR);
    let sweeps = scene.work() - work;
    ensure!(
        exits >= 200 && exits <= sweeps + 1,
        "{exits} exits in {sweeps} sweeps"
    );
    let timer = sys::read("/sys/module/kvm_intel/parameters/preemption_timer")?;
    ensure!(timer == "Y", "KVM's preemption timer is off");
    Ok(())
}

/// Fails if a host without the module answers anything but that it doesn't know the call.
fn no_module() -> Result<()> {
    if module::loaded("gvahint") {
        skip!("the module is loaded");
    }
    let mut scene = Scene::bare(Setup::quiet(16))?;
    let mut caller = scene.vm.caller()?;
    let args = [op::HELLO, VERSION, layout::BUFFER, 32];
    let answer = caller.call(Mode::Kernel, args)?;
    ensure!(answer == errno::ENOSYS, "HELLO answered {answer}");
    let answer = caller.call(Mode::User, args)?;
    ensure!(answer == errno::EPERM, "HELLO from CPL 3 answered {answer}");
    Ok(())
}
