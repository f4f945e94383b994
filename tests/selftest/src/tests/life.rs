// SPDX-License-Identifier: GPL-2.0
//! Modules, VMs, vCPUs and policies that come and go while pages are aged.

use super::Test;
use crate::scene::{need_cpus, need_profile, user_set, Loaded, Scene, Setup, PATIENCE, TICKS_MS};
use anyhow::{ensure, Context, Result};
use gvahint_vm::hints::{errno, op, Reporter, Set};
use gvahint_vm::knobs::{Policy, VmDir};
use gvahint_vm::uffd::Blocked;
use gvahint_vm::{layout, module, sys, PAGE};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

pub const TESTS: &[Test] = &[
    Test::new(
        "policy_switched",
        "a policy that changes while entries are pending",
        |_| switched(),
    ),
    Test::new(
        "module_cycles",
        "insmod and rmmod a hundred times while a guest is aged",
        |_| cycles(100),
    ),
    Test::new(
        "vcpu_late",
        "a VM older than the module, a vCPU younger",
        |_| late_vcpu(),
    ),
    Test::new("vm_killed", "VMs killed while they are aged", |_| killed()),
    Test::new(
        "rmmod_blocked_read",
        "rmmod while a hypercall's buffer blocks in userfaultfd",
        |_| blocked_read(),
    ),
    Test::new("two_vms", "a VM that lies beside one that doesn't", |_| {
        two_vms()
    }),
];

/// Not tests: what tests run in processes of their own.
pub const HELPERS: &[Test] = &[Test::new(
    "helper_victim",
    "ages itself until it is killed",
    |_| victim(),
)];

const HINT: Policy = Policy::new("hint", "deferred");

/// Fails if entries that were appended under one policy are forgotten under the next.
fn switched() -> Result<()> {
    let mut scene = Scene::gated(64, HINT)?;
    need_profile(&scene.machine, &["combined-only"])?;
    for (flush, due) in [
        ("hint", (64, 0, 0)),
        ("context", (0, 1, 0)),
        ("invept", (0, 0, 1)),
    ] {
        for next in ["none", "default"] {
            scene
                .knobs
                .policy("clear_young", Policy::new(flush, "deferred"))?;
            // What was aged without a flush before is caught up with.
            scene.vcpus[0].step(1)?;
            scene.idle.mark(&scene.pfns)?;
            scene
                .knobs
                .policy("clear_young", Policy::new(next, "now"))?;
            let seen = scene.step()?;
            let flushes = (seen.invvpid_addr(), seen.invvpid_context(), seen.invept());
            ensure!(
                flushes == due,
                "{flush}, then {next}: {flushes:?} by address, context, INVEPT"
            );
            let idle = scene.idle.count(&scene.pfns)?;
            ensure!(
                idle == 0,
                "{flush}, then {next}: {idle} pages are falsely idle"
            );
            scene.vm.toggle_dirty_log()?;
            scene.vcpus[0].step(1)?;
        }
    }
    Ok(())
}

/// Fails if the module can't come and go with VMs running, sessions live and ageing under way, if
/// anything of it stays behind, if a guest that is rolled back to an earlier module's session would be
/// believed, or if the last one doesn't work.
fn cycles(count: usize) -> Result<()> {
    let mut setup = Setup::quiet(256);
    setup.vcpus = 2;
    let mut scene = Scene::bare(setup)?;
    need_profile(&scene.machine, &["combined-only"])?;
    if module::loaded("gvahint") || !module::path("gvahint").exists() {
        crate::tap::skip!("gvahint.ko is loaded, or not there");
    }
    scene.start()?;
    let mut reporter = Reporter::new(scene.vm.caller()?);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let ager = scope.spawn(|| -> Result<u64> {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                scene.idle.mark(&scene.pfns)?;
                scene.idle.count(&scene.pfns)?;
                rounds += 1;
                sys::sleep_ms(1);
            }
            Ok(rounds)
        });
        let cycle = |i: usize| -> Result<()> {
            module::insert("gvahint")?;
            let memory = scene.vm.memory();
            let earlier = reporter.session();
            let hello = reporter.hello(memory)?;
            ensure!(hello.is_ok(), "cycle {i}: HELLO answered {hello:?}");
            let session = reporter.session();
            ensure!(
                i == 0 || !(earlier..=earlier + 100).contains(&session),
                "cycle {i}: session {session}, {earlier} by the module before"
            );
            ensure!(
                reporter.linear(memory, &[])? == 0,
                "cycle {i}: LINEAR failed"
            );
            let sets: Vec<_> = (0..256).map(user_set).collect();
            reporter.report_all(memory, &sets)?;
            sys::sleep_ms((i % 4) as u64);
            module::remove("gvahint").with_context(|| format!("cycle {i}"))
        };
        let cycled = (0..count).try_for_each(cycle);
        stop.store(true, Ordering::Relaxed);
        let rounds = ager.join().expect("the ager doesn't panic")?;
        println!("{count} cycles, {rounds} rounds of ageing meanwhile");
        ensure!(rounds > 10, "nothing was aged meanwhile");
        cycled
    })?;
    ensure!(
        scene.full_round()? == 256,
        "without the module, something was flushed"
    );
    scene.load()?;
    scene.report_user()?;
    scene.knobs.policy("clear_young", HINT)?;
    ensure!(
        scene.full_round()? == 0,
        "the module does not work after all this"
    );
    Ok(())
}

/// Fails if a VM that was there before the module isn't attached, if what was aged then stays idle for
/// ever, or if a new vCPU starts with a cursor that hides entries from it.
fn late_vcpu() -> Result<()> {
    let mut scene = Scene::bare(Setup::quiet(256))?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.start()?;
    let idle = scene.full_round()?;
    ensure!(idle == 256, "without the module {idle} pages are idle");
    scene.load()?;
    scene.warm(2)?;
    let idle = scene.idle.count(&scene.pfns)?;
    ensure!(idle == 0, "{idle} pages stay idle once the module came");
    scene.report_user()?;
    scene.knobs.policy("clear_young", HINT)?;
    ensure!(
        scene.full_round()? == 0,
        "pages of a VM older than the module are falsely idle"
    );
    let late = scene.vm.start(&scene.setup.sweep(), Some(0))?;
    scene.vcpus.push(late);
    scene.warm(3)?;
    ensure!(
        scene.full_round()? == 0,
        "pages are falsely idle once another vCPU came"
    );
    Ok(())
}

/// Says what it is doing and goes on until it is killed.
fn victim() -> Result<()> {
    let mut setup = Setup::quiet(512);
    setup.vcpus = 2;
    let mut scene = Scene::bare(setup)?;
    scene.start()?;
    scene.report_user()?;
    println!("ready");
    loop {
        scene.idle.mark(&scene.pfns)?;
        scene.report(&[user_set(0)])?;
    }
}

/// A process with a VM that is aged; it does not outlive the test.
pub struct Victim(pub Child);

impl Victim {
    /// Starts it, and waits until its VM reports.
    pub fn start() -> Result<Self> {
        let child = Command::new("/proc/self/exe")
            .args(["exec", "helper_victim"])
            .stdout(Stdio::piped())
            .spawn();
        let mut victim = Self(child.context("start the victim")?);
        let mut line = String::new();
        let output = victim.0.stdout.take().context("the victim's output")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
        ensure!(line == "ready\n", "the victim says {line:?}");
        Ok(victim)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may have been killed already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Fails if a dying VM stays known, or keeps the module from working or going.
fn killed() -> Result<()> {
    let loaded = Loaded::new()?;
    for round in 0..5 {
        let mut victim = Victim::start()?;
        ensure!(
            VmDir::all()?.len() == 1,
            "the module knows {} VMs",
            VmDir::all()?.len()
        );
        sys::sleep_ms(5 + 7 * round);
        // While it is aged, and in the last round while the module goes as well.
        victim.0.kill()?;
        if round < 4 {
            victim.0.wait()?;
            ensure!(VmDir::all()?.is_empty(), "a dead VM is still known");
        } else {
            drop(loaded);
            victim.0.wait()?;
            ensure!(!module::loaded("gvahint"), "the module did not go");
            break;
        }
    }
    Ok(())
}

/// Fails if a guest's buffer that can't be read keeps rmmod waiting, or the caller from an answer.
fn blocked_read() -> Result<()> {
    let mut scene = Scene::bare(Setup::quiet(64))?;
    let loaded = Loaded::new()?;
    let mut reporter = Reporter::new(scene.vm.caller()?);
    let memory = scene.vm.memory();
    ensure!(reporter.hello(memory)?.is_ok(), "HELLO failed");
    ensure!(reporter.linear(memory, &[])? == 0, "LINEAR failed");
    let blocked = Blocked::new(memory, layout::BUFFER)?;
    std::thread::scope(|scope| -> Result<()> {
        let call = scope.spawn(|| reporter.raw(op::REPORT, layout::BUFFER, 16));
        let outcome = (|| {
            blocked.await_fault(PATIENCE)?;
            drop(loaded);
            ensure!(
                !module::loaded("gvahint"),
                "rmmod failed while a guest read was blocked"
            );
            ensure!(!call.is_finished(), "the read did not block");
            Ok(())
        })();
        // Whatever happened, the page has to come or the scope never ends.
        blocked.resolve()?;
        outcome?;
        let answer = call.join().expect("a hypercall doesn't panic")?;
        ensure!(
            answer == errno::ENOSYS,
            "REPORT answered {answer} after rmmod"
        );
        Ok(())
    })
}

/// Fails if one VM's wrong hints touch another VM's ages, or more than its own.
fn two_vms() -> Result<()> {
    need_cpus(2)?;
    let mut honest = Scene::prepare(Setup::quiet(256))?;
    need_profile(&honest.machine, &["combined-only"])?;
    let mut liar = Scene::prepare(Setup::quiet(256))?;
    honest.report_user()?;
    liar.hello()?;
    // Every page under the next one's gVA: all wrong but none malformed.
    let lie = |i| Set::mapped(layout::data(i) / PAGE, &[layout::ALIAS + i * PAGE]);
    let sets: Vec<_> = (0..256).map(lie).collect();
    liar.report(&sets)?;
    honest.knobs.policy("clear_young", HINT)?;
    honest.start()?;
    liar.start()?;
    honest.idle.mark(&liar.pfns)?;
    let idle = honest.full_round()?;
    ensure!(idle == 0, "{idle} pages of the honest VM are falsely idle");
    sys::sleep_ms(TICKS_MS);
    liar.warm(1)?;
    let idle = liar.idle.count(&liar.pfns)?;
    ensure!(idle == 256, "{idle} of the liar's 256 pages are idle");
    Ok(())
}
