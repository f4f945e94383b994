// SPDX-License-Identifier: GPL-2.0
//! gvahintctl against the real module. scripts/machine puts it there if $GVAHINTCTL names one.

use super::Test;
use crate::scene::{user_set, Scene, Setup};
use crate::tap::skip;
use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::capability::Capability;
use gvahint_vm::knobs::{Policy, VmDir, ROOT};
use gvahint_vm::{module, sys};
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

pub const TESTS: &[Test] = &[
    Test::new("ctl_missing", "gvahintctl without the module", |_| {
        missing()
    }),
    Test::new("ctl_status", "what it shows is what sysfs holds", |_| {
        status()
    }),
    Test::new("ctl_set", "what it sets; all or none", |_| set()),
    Test::new("ctl_explain", "it names the right reason", |_| explain()),
    Test::new("ctl_top", "rates of an interval", |_| top()),
    Test::new("ctl_export", "what it exports is what sysfs holds", |_| {
        export()
    }),
    Test::new("ctl_vanish", "a VM that goes while it is watched", |_| {
        vanish()
    }),
    Test::new("ctl_doctor", "what it finds is what the CPU lacks", |_| {
        doctor()
    }),
];

const PROGRAM: &str = "/bin/gvahintctl";
const HINT: Policy = Policy::new("hint", "deferred");
/// A user that owns nothing.
const NOBODY: u32 = 65_534;
/// Exit codes, as its manual page has them.
const NOT_LOADED: i32 = 3;
const PERMISSION: i32 = 4;
const NO_VM: i32 = 5;
const NOTES: i32 = 7;

/// What a run left.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    fn exits(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "exit {}, not {code}: {self:?}",
            self.code
        );
        Ok(self)
    }

    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("{self:?}"))
    }
}

fn command(arguments: &[&str]) -> Result<Command> {
    if !Path::new(PROGRAM).exists() {
        skip!("this machine has no gvahintctl");
    }
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    Ok(command)
}

fn ctl(arguments: &[&str]) -> Result<Ran> {
    Ok(command(arguments)?.output()?.into())
}

/// Starts it; what it prints is for [`Child::wait_with_output`].
fn start(arguments: &[&str]) -> Result<Child> {
    let mut command = command(arguments)?;
    Ok(command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?)
}

/// The VM of that number in a document.
fn vm(document: &Value, id: u64) -> Result<&Value> {
    let vms = document["vms"].as_array().context("no VMs")?;
    let found = vms.iter().find(|vm| vm["id"] == id);
    found.with_context(|| format!("no VM {id} in {document}"))
}

/// Half of the pages reported, a vCPU that stands outside the guest, and everything aged once.
fn half_reported() -> Result<Scene> {
    let mut scene = Scene::prepare(Setup::quiet(64).with(gvahint_vm::code::After::Out))?;
    scene.hello()?;
    scene.report(&(0..32).map(user_set).collect::<Vec<_>>())?;
    scene.knobs.policy("clear_young", HINT)?;
    // No kick is left for later: what is counted stays as it is.
    scene.knobs.set("max_delay_ms", 0)?;
    scene.start_held()?;
    scene.idle.mark(&scene.pfns)?;
    scene.step()?;
    Ok(scene)
}

/// Fails if a missing module has another exit code than documented, or no remedy.
fn missing() -> Result<()> {
    ensure!(!module::loaded("gvahint"), "the module is loaded");
    for verb in [
        &["status"][..],
        &["get"],
        &["explain"],
        &["top", "--once"],
        &["export"],
    ] {
        let ran = ctl(verb)?.exits(NOT_LOADED)?;
        ensure!(ran.err.contains("modprobe gvahint"), "{ran:?}");
    }
    Ok(())
}

/// Fails if a value of `status` or `get` is not that of its file, or someone else than root sees any.
fn status() -> Result<()> {
    let scene = half_reported()?;
    let dir = scene.dir()?;
    let document = ctl(&["status", "--json"])?.exits(0)?.json()?;
    let knobs = document["knobs"].as_object().context("no knobs")?;
    for (name, value) in knobs {
        let holds = sys::read(Path::new(ROOT).join(name))?;
        ensure!(*value == *holds, "{name} is {value}, holds {holds}");
    }
    let vm = vm(&document, dir.id)?;
    let name = sys::read("/proc/self/comm")?;
    ensure!(
        vm["pid"] == std::process::id() && vm["process"] == *name,
        "{vm}"
    );
    ensure!(vm["state"] == "live" && vm["coverage"] == 0.5, "{vm}");
    let stats = dir.stats()?;
    ensure!(
        vm["stats"] == serde_json::to_value(&stats)?,
        "{vm}, sysfs: {stats:?}"
    );
    ensure!(stats["drained_full"] > 0, "nothing was drained: {stats:?}");
    let text = ctl(&["status"])?.exits(0)?.out;
    ensure!(text.contains("live") && text.contains("50.0 %"), "{text}");
    let nobody = command(&["status"])?.uid(NOBODY).gid(NOBODY).output()?;
    let nobody = Ran::from(nobody).exits(PERMISSION)?;
    ensure!(nobody.err.contains("as root"), "{nobody:?}");
    Ok(())
}

/// Fails if the module gets another value, refuses what `get` printed, or a VM's override is not set or not
/// lifted.
fn set() -> Result<()> {
    let scene = Scene::prepare(Setup::quiet(16))?;
    let dir = scene.dir()?;
    let id = dir.id.to_string();
    let holds = |name: &str| sys::read(Path::new(ROOT).join(name));
    ctl(&["set", "clear_young/timing", "batched", "batch_pages", "32"])?.exits(0)?;
    ensure!(
        holds("clear_young/timing")? == "batched" && holds("batch_pages")? == "32",
        "not set"
    );
    ensure!(ctl(&["get", "batch_pages"])?.exits(0)?.out == "32\n", "get");
    // Whatever is in force can be saved, and set again, in any order.
    ctl(&["set", "log_entries", "256"])?.exits(0)?;
    let saved = ctl(&["get"])?.exits(0)?.out;
    let file = "/tmp/gvahint.conf";
    std::fs::write(file, &saved)?;
    ctl(&["set", "--file", file])?.exits(0)?;
    let upside_down: Vec<&str> = saved.lines().rev().collect();
    std::fs::write(file, upside_down.join("\n"))?;
    ctl(&["set", "--file", file])?.exits(0)?;
    ensure!(ctl(&["get"])?.exits(0)?.out == saved, "set is not get");
    ctl(&["set", "log_entries", "4096"])?.exits(0)?;
    ctl(&["set", "--vm", &id, "clear_young/flush", "invept"])?.exits(0)?;
    ensure!(dir.read("clear_young_flush")? == "invept", "no override");
    ctl(&["set", "--vm", &id, "clear_young/flush", "inherit"])?.exits(0)?;
    ensure!(
        dir.read("clear_young_flush")? == "inherit",
        "still an override"
    );
    ctl(&["set", "clear_young/timing", "deferred", "batch_pages", "64"])?.exits(0)?;
    Ok(())
}

/// Fails if pages that were not reported, or whose hints grew old, are explained by another reason or
/// share, or a policy of `invept` is not named.
fn explain() -> Result<()> {
    let mut scene = half_reported()?;
    let dir = scene.dir()?;
    let id = dir.id.to_string();
    let document = ctl(&["explain", "--vm", &id, "--json"])?.exits(0)?.json()?;
    let first = vm(&document, dir.id)?;
    let reasons = first["reasons"].as_array().context("no reasons")?;
    ensure!(
        reasons.len() == 1 && reasons[0]["reason"] == "no_hint",
        "{first}"
    );
    ensure!(
        reasons[0]["pages"] == 32 && reasons[0]["share"] == 1.0,
        "{first}"
    );
    ensure!(first["full"]["executed"].as_u64() > Some(0), "{first}");
    // Over an interval: of 64 pages 32 are not reported as before, and the others' hints are too old.
    scene.knobs.set("hint_max_age_ms", 100)?;
    sys::sleep_ms(150);
    let watch = start(&["explain", "--vm", &id, "--json", "--interval", "2"])?;
    sys::sleep_ms(1000);
    scene.idle.mark(&scene.pfns)?;
    scene.step()?;
    let document = Ran::from(watch.wait_with_output()?).exits(0)?.json()?;
    let second = vm(&document, dir.id)?;
    let share = |name: &str| {
        let reasons = second["reasons"].as_array();
        let reason = reasons?.iter().find(|reason| reason["reason"] == name)?;
        reason["share"].as_f64()
    };
    ensure!(
        (share("no_hint"), share("aged")) == (Some(0.5), Some(0.5)),
        "{second}"
    );
    scene
        .knobs
        .policy("clear_young", Policy::new("invept", "deferred"))?;
    let text = ctl(&["explain", "--vm", &id])?.exits(0)?.out;
    ensure!(
        text.contains("clear_young/flush is invept for all VMs"),
        "{text}"
    );
    Ok(())
}

/// Fails if rates are not what the module counted in the interval, or `--once` does not end.
fn top() -> Result<()> {
    let scene = half_reported()?;
    let id = scene.dir()?.id;
    let watch = start(&["top", "--once", "--json", "--interval", "2"])?;
    sys::sleep_ms(1000);
    for _ in 0..3 {
        scene.vcpus[0].step(1)?;
        scene.idle.mark(&scene.pfns)?;
        scene.step()?;
    }
    let document = Ran::from(watch.wait_with_output()?).exits(0)?.json()?;
    let seconds = document["seconds"].as_f64().context("no time")?;
    let rates = &vm(&document, id)?["per_second"];
    let aged = rates["aged"].as_f64().context("no rate")? * seconds;
    ensure!(
        (aged - 3.0 * 64.0).abs() < 0.5,
        "{aged} pages in {seconds} s, 192 were aged"
    );
    ensure!(rates["drained_full"].as_f64() > Some(0.0), "{rates}");
    let text = ctl(&["top", "--once", "--interval", "0.1"])?.exits(0)?.out;
    ensure!(text.contains("INVEPT/s") && text.contains("live"), "{text}");
    Ok(())
}

/// Fails if a counter is missing, or has another value than its file.
fn export() -> Result<()> {
    let scene = half_reported()?;
    let dir = scene.dir()?;
    let file = "/tmp/gvahint.prom";
    ctl(&["export", "--output", file])?.exits(0)?;
    let text = sys::read(file)?;
    let ids = format!("vm=\"{}\",pid=\"{}\"", dir.id, std::process::id());
    let has = |line: String| {
        let found = text.lines().any(|known| known == line);
        if found {
            Ok(())
        } else {
            bail!("no {line} in {text}")
        }
    };
    for (name, value) in dir.stats()? {
        has(match (&*name, name.strip_prefix("uncovered_")) {
            ("hints" | "bytes" | "kept_pages", _) => format!("gvahint_vm_{name}{{{ids}}} {value}"),
            (_, Some(reason)) => {
                format!("gvahint_vm_uncovered_by_reason_total{{{ids},reason=\"{reason}\"}} {value}")
            }
            _ => format!("gvahint_vm_{name}_total{{{ids}}} {value}"),
        })?;
    }
    has("gvahint_up 1".to_owned())?;
    has(format!("gvahint_vm_state{{{ids},state=\"live\"}} 1"))?;
    has(format!("gvahint_vm_coverage_ratio{{{ids}}} 0.5"))
}

/// Fails if a VM that dies while it is watched ends `top`, or is explained all the same.
fn vanish() -> Result<()> {
    let keep = Scene::prepare(Setup::quiet(16))?;
    let doomed = gvahint_vm::vm::Vm::new(Setup::quiet(16).config)?;
    let [first, second] = &VmDir::all()?[..] else {
        bail!("not two VMs: {:?}", VmDir::all()?);
    };
    let id = second.id.to_string();
    let explain = start(&["explain", "--vm", &id, "--interval", "1"])?;
    let top = start(&["top", "--once", "--json", "--interval", "1"])?;
    sys::sleep_ms(300);
    drop(doomed);
    let ran = Ran::from(explain.wait_with_output()?).exits(NO_VM)?;
    ensure!(ran.err.contains(&format!("there is no VM {id}")), "{ran:?}");
    let document = Ran::from(top.wait_with_output()?).exits(0)?.json()?;
    vm(&document, first.id)?;
    ensure!(vm(&document, second.id).is_err(), "{document}");
    ctl(&["set", "--vm", &id, "clear_young/flush", "none"])?.exits(NO_VM)?;
    drop(keep);
    Ok(())
}

/// Fails if it finds a problem on a host that has all, finds none where the CPU lacks something, or names
/// another.
fn doctor() -> Result<()> {
    let _scene = Scene::prepare(Setup::quiet(16))?;
    let capability = Capability::read()?;
    let ran = ctl(&["doctor", "--json"])?;
    let document = ran.json()?;
    let findings = document["findings"].as_array().context("no findings")?;
    let of = |level: &str| -> Vec<String> {
        let of_level = findings.iter().filter(|finding| finding["level"] == level);
        of_level
            .map(|finding| finding["text"].to_string())
            .collect()
    };
    for text in of("problem").iter().chain(&of("note")) {
        println!("{text}");
    }
    let names = |what: &str| of("problem").iter().any(|text| text.contains(what));
    let due = [
        (!capability.ept_ad, "no accessed bits"),
        (!capability.ept_ad, "kvm_intel.eptad is off"),
        (!capability.invvpid_addr, "individual address is missing"),
    ];
    for (due, what) in due {
        ensure!(
            names(what) == due,
            "{what:?} is {}a problem",
            if due { "not " } else { "" }
        );
    }
    let code = if due.iter().any(|(due, _)| *due) {
        1
    } else {
        NOTES
    };
    ensure!(
        ran.code == code,
        "exit {}, not {code}: {:?}",
        ran.code,
        of("problem")
    );
    // The VM did not say HELLO.
    ensure!(
        of("note")
            .iter()
            .any(|text| text.contains("never said HELLO")),
        "{:?}",
        of("note")
    );
    Ok(())
}
