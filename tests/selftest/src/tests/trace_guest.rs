// SPDX-License-Identifier: GPL-2.0
//! The trace events of what guests say, `report` and `canary`; and which of their vCPUs flushes.

use super::trace::{expect, of};
use super::Test;
use crate::scene::{need_profile, user_set, vcpu_cpu, Scene, Setup};
use anyhow::{ensure, Context, Result};
use gvahint_vm::hints::{canary, errno, op, Mode, HELLO_LEN, VERSION};
use gvahint_vm::knobs::Policy;
use gvahint_vm::trace::{Event, Recorder};
use gvahint_vm::{layout, PAGE};

pub const TESTS: &[Test] = &[
    Test::new("trace_report", "each hypercall and its answer", |_| {
        report()
    }),
    Test::new("trace_canary", "both steps of a canary", |_| canaries()),
    Test::new("trace_vcpu", "which vCPU flushes", |_| vcpus()),
];

const PAGES: u64 = 16;

/// The one event of a call.
fn only(recorder: &Recorder, scene: &Scene, name: &str) -> Result<Event> {
    let events = recorder.take()?;
    let events = of(&events, name, &scene.dir()?)?;
    ensure!(events.len() == 1, "not one event {name}: {events:?}");
    Ok(events[0].clone())
}

/// Fails if a flush is said to be another vCPU's.
fn vcpus() -> Result<()> {
    let mut scene = Scene::gated(PAGES, Policy::new("hint", "deferred"))?;
    scene.knobs.set("max_delay_ms", 0)?;
    let sweep = scene.setup.sweep();
    scene.add_held(&sweep, vcpu_cpu(1))?;
    let recorder = Recorder::start("gvahint")?;
    for order in [[0, 1], [1, 0]] {
        scene.idle.mark(&scene.pfns)?;
        recorder.take()?;
        for vcpu in order {
            scene.vcpus[vcpu].step(1)?;
            let flush = only(&recorder, &scene, "flush")?;
            // The first is the one that reports.
            let (vcpu, gvas) = ((vcpu + 1).to_string(), PAGES.to_string());
            expect(&flush, &[("vcpu", &vcpu), ("kind", "gva"), ("gvas", &gvas)])?;
        }
    }
    Ok(())
}

/// Fails if a call has no event or another answer in it than the guest got, another session, length or
/// error; or if the hints after it are not those that the module counts.
fn report() -> Result<()> {
    let mut scene = Scene::prepare(Setup::quiet(PAGES))?;
    let recorder = Recorder::start("gvahint")?;
    let mut reporter = {
        scene.hello()?;
        scene.reporter.take().context("a session")?
    };
    let events = recorder.take()?;
    let calls = of(&events, "report", &scene.dir()?)?;
    ensure!(calls.len() == 2, "HELLO and LINEAR: {calls:?}");
    let session = reporter.session.to_string();
    let same = ("session", session.as_str());
    let due = [("op", "hello"), same, ("answer", &session), ("words", "4")];
    expect(calls[0], &due)?;
    let due = [("op", "linear"), same, ("answer", "0"), ("words", "0")];
    expect(calls[1], &due)?;

    let sets: Vec<_> = (0..PAGES).map(user_set).collect();
    let (taken, words) = (PAGES.to_string(), (2 * PAGES).to_string());
    reporter.report_all(scene.vm.memory(), &sets)?;
    let event = only(&recorder, &scene, "report")?;
    let due = [("op", "report"), same, ("answer", &taken), ("error", "-")];
    expect(&event, &due)?;
    expect(&event, &[("words", &words), ("hints", &taken)])?;
    ensure!(
        scene.stat("hints")? == PAGES,
        "{} hints",
        scene.stat("hints")?
    );

    let buffer = layout::BUFFER;
    let (own, stale) = (reporter.session << 32, (reporter.session + 1) << 32 | 1000);
    for (args, name, answer, error) in [
        ([op::WANTED, own | 100, buffer, 64], "wanted", 0, "-"),
        (
            [op::REPORT, stale, buffer, 8],
            "report",
            errno::ESTALE,
            "ESTALE",
        ),
        (
            [op::CANARY, own | 101, buffer, 8],
            "canary",
            errno::EINVAL,
            "EINVAL",
        ),
        ([7, own | 102, buffer, 8], "0x7", errno::EINVAL, "EINVAL"),
        (
            [op::HELLO, VERSION + 1, buffer, HELLO_LEN],
            "hello",
            errno::EINVAL,
            "EINVAL",
        ),
        ([op::BYE, own | 103, 0, 0], "bye", 0, "-"),
    ] {
        let got = reporter.caller.call(Mode::Kernel, args)?;
        ensure!(got == answer, "{name} answered {got}, not {answer}");
        let event = only(&recorder, &scene, "report")?;
        let answer = answer.to_string();
        expect(
            &event,
            &[("op", name), ("answer", &answer), ("error", error)],
        )?;
        let session = match args[0] {
            op::HELLO => 0,
            _ => args[1] >> 32,
        };
        expect(&event, &[("session", &session.to_string())])?;
    }
    // KVM answers these itself.
    reporter
        .caller
        .call(Mode::User, [op::BYE, own | 104, 0, 0])?;
    let events = recorder.take()?;
    ensure!(events.is_empty(), "a call from CPL 3: {events:?}");
    Ok(())
}

/// Fails if a step has another page, gVA or answer in its event than the guest named and got.
fn canaries() -> Result<()> {
    let mut scene = Scene::prepare(Setup::quiet(PAGES))?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene
        .knobs
        .policy("clear_young", Policy::new("hint", "deferred"))?;
    scene.hello()?;
    let recorder = Recorder::start("gvahint")?;
    let mut reporter = scene.reporter.take().context("a session")?;
    // The page that the call's own code is fetched from is touched behind the call.
    let (code, beyond) = (layout::CODE / PAGE, 1 << 39);
    for (gfn, step, answer, word, error) in [
        (code, 0, canary::OK, "ok", "-"),
        (code, 1, canary::OK, "ok", "-"),
        (code, 1, errno::EINVAL, "-", "EINVAL"),
        (beyond, 0, errno::EFAULT, "-", "EFAULT"),
    ] {
        let got = reporter.canary(scene.vm.memory(), gfn, layout::CODE, step)?;
        ensure!(got == answer, "step {step} answered {got}, not {answer}");
        let events = recorder.take()?;
        let events = of(&events, "canary", &scene.dir()?)?;
        ensure!(events.len() == 1, "not one event: {events:?}");
        let (gfn, gva) = (format!("0x{gfn:x}"), format!("0x{:x}", layout::CODE));
        let step = if step == 0 { "clear" } else { "test" };
        let due = [("gfn", gfn.as_str()), ("gva", &gva), ("step", step)];
        expect(events[0], &due)?;
        expect(events[0], &[("answer", word), ("error", error)])?;
    }
    Ok(())
}
