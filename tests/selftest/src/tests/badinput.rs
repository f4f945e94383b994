// SPDX-License-Identifier: GPL-2.0
//! What a guest must not say, and what it is told: the table of `include/uapi/gvahint.h`, walked.

mod contents;

use super::Test;
use crate::scene::{need_profile, user_set, Scene, Setup};
use anyhow::{ensure, Context, Result};
use gvahint_vm::hints::{errno, kind, op, Hello, Mode, Set, HELLO_LEN, VERSION};
use gvahint_vm::knobs::Policy;
use gvahint_vm::{layout, PAGE};

pub const TESTS: &[Test] = &[
    Test::new(
        "bad_caller",
        "CPL 3, 32-bit code, unknown operations and versions",
        |_| within(caller),
    ),
    Test::new(
        "bad_buffer",
        "buffers misaligned, across pages, outside the memslots",
        |_| within(buffer),
    ),
    Test::new(
        "bad_answer",
        "calls whose answer cannot reach the guest",
        |_| answer(),
    ),
    Test::new("bad_linear", "malformed linear ranges", |_| {
        within(contents::linear)
    }),
    Test::new(
        "bad_canary",
        "malformed canaries, steps in disorder",
        |_| within(contents::canary),
    ),
    Test::new("bad_report", "malformed sets of each kind", |_| {
        within(contents::report)
    }),
];

/// Runs `walk` in a VM beside another one. Fails if the host logs anything for the liar, doesn't
/// count its errors, or if either VM's hints don't work afterwards.
fn within(walk: fn(&mut Scene, &Hello) -> Result<u64>) -> Result<()> {
    let mut other = Scene::prepare(Setup::quiet(64))?;
    other.report_user()?;
    other
        .knobs
        .policy("clear_young", Policy::new("hint", "deferred"))?;
    other.start()?;
    let mut scene = Scene::prepare(Setup::quiet(64))?;
    scene.hello()?;
    let dir = scene.dir()?;
    let memory = scene.vm.memory();
    let reporter = scene.reporter.as_mut().expect("hello() leaves one");
    let hello = reporter
        .hello(memory)?
        .expect("a second HELLO is as good as the first");
    ensure!(reporter.linear(memory, &[])? == 0, "LINEAR failed");
    let before = dir.stats()?;
    let bad = walk(&mut scene, &hello)?;
    println!("{bad} bad calls answered as documented");
    let after = dir.stats()?;
    for name in ["appended_gva", "appended_context", "sets_applied", "hints"] {
        ensure!(before.get(name) == after.get(name), "{name} rose");
    }
    // A HELLO flushes once, if it is a good one.
    let [flushes, hellos] = ["appended_full", "hello"].map(|name| after[name] - before[name]);
    ensure!(
        flushes == hellos,
        "{flushes} full flushes, {hellos} good HELLOs"
    );
    if dir.stat("rejected").is_ok() {
        ensure!(
            after["rejected"] > before["rejected"],
            "no error was counted"
        );
    }
    scene.hello()?;
    scene.report(&[user_set(0)])?;
    let profile = scene.machine.snapshot()?.profile;
    let idle = other.full_round()?;
    ensure!(
        idle == 0 || profile != "combined-only",
        "the other VM: {idle} pages falsely idle"
    );
    Ok(())
}

/// Fails if somebody who may not call is heard.
fn caller(scene: &mut Scene, _: &Hello) -> Result<u64> {
    let reporter = scene.reporter.as_mut().expect("there is a session");
    let a1 = reporter.session << 32 | 1000;
    let hello = [op::HELLO, VERSION, layout::BUFFER, HELLO_LEN];
    let bye = [op::BYE, a1, 0, 0];
    let mut cases = vec![
        (Mode::User, hello, errno::EPERM),
        (Mode::User, bye, errno::EPERM),
        (Mode::User, [77, 0, 0, 0], errno::EPERM),
        (
            Mode::Compat,
            [op::HELLO, 1, layout::BUFFER, HELLO_LEN],
            errno::EOPNOTSUPP,
        ),
        (Mode::Compat, [op::BYE, 1, 0, 0], errno::EOPNOTSUPP),
    ];
    for bad in [0, 3, 5, 63, 66, 127, 1 << 32, u64::MAX] {
        cases.push((Mode::Kernel, [bad, a1, 0, 0], errno::EINVAL));
    }
    for bad in [0, 2, u64::MAX, 1 << 32 | 1] {
        cases.push((
            Mode::Kernel,
            [op::HELLO, bad, layout::BUFFER, HELLO_LEN],
            errno::EINVAL,
        ));
    }
    for bad in [1, reporter.session + 1, 0, u64::from(u32::MAX)] {
        if bad != reporter.session {
            cases.push((
                Mode::Kernel,
                [op::BYE, bad << 32 | 2000, 0, 0],
                errno::ESTALE,
            ));
        }
    }
    for (mode, args, expected) in &cases {
        let answer = reporter.caller.call(*mode, *args)?;
        ensure!(
            answer == *expected,
            "{mode:?} {args:x?} answered {answer}, not {expected}"
        );
    }
    Ok(cases.len() as u64)
}

/// Fails if KVM reads or writes a buffer that is none.
fn buffer(scene: &mut Scene, _: &Hello) -> Result<u64> {
    let end = scene.vm.memory().len();
    let beyond = [end, 1 << 39, 1 << 52, !(PAGE - 1)];
    let mut cases = Vec::new();
    for gpa in beyond {
        cases.push((op::WANTED, gpa, 8, errno::EFAULT));
        cases.push((op::HELLO, gpa, HELLO_LEN, errno::EFAULT));
        cases.push((op::REPORT, gpa, 16, errno::EFAULT));
        cases.push((op::LINEAR, gpa, 32, errno::EFAULT));
    }
    let last = layout::BUFFER + PAGE;
    for (gpa, len) in [
        (layout::BUFFER + 4, HELLO_LEN),
        (last - 16, HELLO_LEN),
        (layout::BUFFER, 24),
        (layout::BUFFER, 0),
        (layout::BUFFER, PAGE),
    ] {
        cases.push((op::HELLO, gpa, len, errno::EINVAL));
    }
    for (gpa, len) in [
        (layout::BUFFER + 1, 16),
        (last - 8, 16),
        (layout::BUFFER, 12),
        (layout::BUFFER, PAGE + 8),
        (layout::BUFFER, 1 << 40),
        (layout::BUFFER, !7),
    ] {
        cases.push((op::REPORT, gpa, len, errno::EINVAL));
    }
    cases.push((op::LINEAR, layout::BUFFER, 40, errno::EINVAL));
    cases.push((op::BYE, layout::BUFFER, 8, errno::EINVAL));
    let reporter = scene.reporter.as_mut().expect("there is a session");
    for (op, gpa, len, expected) in &cases {
        let answer = match *op {
            op::HELLO => reporter
                .caller
                .call(Mode::Kernel, [*op, VERSION, *gpa, *len])?,
            _ => reporter.raw(*op, *gpa, *len)?,
        };
        ensure!(
            answer == *expected,
            "op {op}, buffer {gpa:#x}, {len} bytes answered {answer}, not {expected}"
        );
    }
    Ok(cases.len() as u64)
}

/// Fails if a call whose answer cannot reach the guest does anything: HELLO would end the session
/// that the guest knows of and begin one that it doesn't, WANTED forget what it tells.
fn answer() -> Result<()> {
    let mut scene = Scene::gated(64, Policy::new("hint", "deferred"))?;
    need_profile(&scene.machine, &["combined-only"])?;
    let dir = scene.dir()?;
    let wanted = user_set(1).header & ((1 << 40) - 1);
    scene.report(&[Set::of_kind(wanted, kind::REVOKED)])?;
    scene.idle.mark(&scene.pfns)?;
    scene.vcpus[0].step(2)?;
    scene.vm.show_read_only()?;
    let before = dir.stats()?;
    for gpa in [scene.vm.window(), 1 << 39, 1 << 52, !(PAGE - 1)] {
        let reporter = scene.reporter.as_mut().context("a session")?;
        let hello = [op::HELLO, VERSION, gpa, HELLO_LEN];
        let answers = [
            reporter.caller.call(Mode::Kernel, hello)?,
            reporter.raw(op::WANTED, gpa, 8)?,
        ];
        ensure!(
            answers == [errno::EFAULT; 2],
            "HELLO and WANTED into {gpa:#x} answered {answers:?}"
        );
    }
    let after = dir.stats()?;
    for name in ["hello", "hints", "bytes", "wanted", "wanted_told"] {
        let (then, now) = (before.get(name), after.get(name));
        ensure!(then == now, "{name} was {then:?} and is {now:?}");
    }
    let state = dir.read("state")?;
    ensure!(state.starts_with("live"), "the VM is {state}");
    let reporter = scene.reporter.as_mut().context("a session")?;
    let told = reporter.wanted(scene.vm.memory(), 8)?;
    ensure!(told == Ok(vec![wanted]), "WANTED answered {told:x?}");
    scene.report(&[user_set(1)])?;
    let covered = dir.stat("covered")?;
    scene.idle.mark(&scene.pfns)?;
    scene.vcpus[0].step(2)?;
    let covered = dir.stat("covered")? - covered;
    let idle = scene.idle.count(&scene.pfns)?;
    ensure!(
        (covered, idle) == (64, 0),
        "{covered} of 64 pages were covered, {idle} are falsely idle"
    );
    Ok(())
}
