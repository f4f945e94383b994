// SPDX-License-Identifier: GPL-2.0
//! `gvahintctl calibrate`: the right verdict on each profile, and what becomes of it.

use super::Test;
use crate::scene::{machine, need_cpus, need_profile, Loaded, Scene};
use crate::tap::skip;
use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::capability::Capability;
use gvahint_vm::knobs::{Knobs, Policy, VmDir, ROOT};
use gvahint_vm::sys;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

pub const TESTS: &[Test] = &[
    Test::new(
        "calibrate_verdict",
        "the verdict, and that nothing is set without being asked",
        |_| verdict(),
    ),
    Test::new(
        "calibrate_apply",
        "a verdict that is applied changes what `hint` drops",
        |_| apply(),
    ),
    Test::new(
        "calibrate_again",
        "an earlier verdict doesn't hold while calibrate runs, and does after it",
        |_| again(),
    ),
    Test::new(
        "calibrate_interrupted",
        "^C leaves everything as it was",
        |_| interrupted(),
    ),
    Test::new(
        "calibrate_errors",
        "what it says where it can't run",
        |_| errors(),
    ),
    Test::new("calibrate_unfit", "CPUs that have no hints", |_| unfit()),
];

const PROGRAM: &str = "/bin/gvahintctl";
/// A user that owns nothing.
const NOBODY: u32 = 65_534;

fn calibrate(arguments: &[&str]) -> Result<Command> {
    calibrate_at_length(&[&["--quick"][..], arguments].concat())
}

/// With the costs that `--set-max-gvas` takes, and as many trials as are asked for.
fn calibrate_at_length(arguments: &[&str]) -> Result<Command> {
    if !Path::new(PROGRAM).exists() {
        skip!("this machine has no gvahintctl");
    }
    let mut command = Command::new(PROGRAM);
    command.arg("calibrate").args(arguments);
    Ok(command)
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

/// Fails if a run ended otherwise. A kernel that looks for bugs is at the vCPU too often for one to come
/// to a verdict, which it has to say.
fn ended(output: &Output, exit: i32) -> Result<()> {
    let text = String::from_utf8_lossy(&output.stderr);
    if sys::kernel_looks_for_bugs() && code(output) == 1 && text.contains("disturbed too often") {
        skip!("a kernel that looks for bugs disturbs the vCPU too often");
    }
    ensure!(code(output) == exit, "exit {}: {output:?}", code(output));
    Ok(())
}

/// Skips where one run, that of `calibrate_verdict`, shows all that there is: it takes minutes to give up.
fn need_verdict() -> Result<()> {
    if sys::kernel_looks_for_bugs() {
        skip!("calibrate comes to no verdict on a kernel that looks for bugs");
    }
    Ok(())
}

/// What has to come out on this machine: exit code, verdict, and the kind of flush that brings every
/// page back, of those that are tried.
fn due(profile: &str) -> Result<(i32, &'static str)> {
    match profile {
        "combined-only" => Ok((0, "passed")),
        "leaf-cached" => Ok((8, "failed-invept")),
        "fragments" => Ok((8, "failed-context")),
        // Entries and exits drop everything, so that nothing can be seen.
        "off" => Ok((9, "inconclusive")),
        other => bail!("profile {other}"),
    }
}

/// All settings of the module's, and the VMs that it knows.
fn settings() -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    let mut directories = vec![Path::new(ROOT).to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            match path.is_dir() {
                true => directories.push(path),
                false => {
                    let value = sys::read(&path)?;
                    all.insert(path.to_string_lossy().into_owned(), value);
                }
            }
        }
    }
    Ok(all)
}

/// Fails if the verdict is not the one that the profile demands, in text or in JSON; if an arm's shares
/// are not what that profile does, to the last trial; or if any setting changes.
fn verdict() -> Result<()> {
    need_cpus(2)?;
    let profile = machine()?.snapshot()?.profile;
    let (exit, verdict) = due(&profile)?;
    let _loaded = Loaded::new()?;
    let before = settings()?;
    let file = "/tmp/calibration.json";
    let output = calibrate(&["--json", file])?.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(settings()? == before, "settings: {:?}", settings()?);
    ended(&output, exit)?;
    let word = verdict.split('-').next().unwrap_or(verdict);
    ensure!(text.contains(&format!("\n{word}: ")), "the text: {text}");
    let lasts = text.contains("A table of the guest's stays idle until INVEPT");
    ensure!(lasts == (profile != "off"), "the text: {text}");
    let report: Value = serde_json::from_str(&sys::read(file)?)?;
    ensure!(report["verdict"] == verdict, "{}", report["verdict"]);
    let cells = report["cells"].as_array().context("cells")?;
    ensure!(cells.len() == 7, "{} combinations of pages", cells.len());
    let tables = report["page_tables"].as_array().context("page_tables")?;
    ensure!(tables.len() == 1, "{} kinds of page tables", tables.len());
    for cell in cells.iter().chain(tables) {
        // Walks reach a table by a guest-physical mapping, which only INVEPT drops.
        let is_table = tables.contains(cell);
        // Of a large page one fragment's gVA drops that fragment.
        let others = [
            "another gVA of its guest page",
            "its first gVA",
            "the first gVA of its three mappings",
        ];
        let kept = profile == "fragments" && others.iter().any(|gva| cell["dropped"] == *gva);
        let (kept_by_hint, kept_by_context) = match is_table {
            true => (profile != "off", profile != "off"),
            false => (profile == "leaf-cached" || kept, profile == "leaf-cached"),
        };
        let back = |arm: &str| -> Result<bool> {
            let share = &cell["came_back"][arm];
            let number = |key: &str| share[key].as_u64().with_context(|| format!("{share}"));
            let (count, trials) = (number("count")?, number("trials")?);
            ensure!(trials >= 100, "{arm}: {trials} trials");
            ensure!(count == 0 || count == trials, "{arm}: {count} of {trials}");
            Ok(count > 0)
        };
        for (arm, comes_back) in [
            ("hint", !kept_by_hint),
            ("context", !kept_by_context),
            ("invept", true),
            ("decoy", profile == "off"),
            ("none", profile == "off"),
            ("untouched", false),
        ] {
            ensure!(back(arm)? == comes_back, "{arm} in {cell}");
        }
    }
    let costs = &report["costs"];
    for name in ["exit", "by_context"] {
        let cycles = costs[name].as_f64().with_context(|| name.to_string())?;
        ensure!(cycles > 0.0, "{name}: {cycles} cycles");
    }
    // What the machine's CPUs need no time for may be 0, or less than the noise.
    for name in ["invvpid_address", "invvpid_context", "invept"] {
        let cycles = costs[name].as_f64().with_context(|| name.to_string())?;
        ensure!(cycles.is_finite(), "{name}: {cycles} cycles");
    }
    let points = costs["by_gvas"].as_array().context("by_gvas")?;
    ensure!(points.len() >= 3, "by_gvas: {points:?}");
    println!(
        "{verdict}: {} void trials",
        cells
            .iter()
            .map(|c| c["void"].as_u64().unwrap_or(0))
            .sum::<u64>()
    );
    Ok(())
}

/// Fails if the verdict or max_gvas_per_entry are not set as the report says, if --dry-run sets anything, if
/// calibrate can't run again with what it has set (break-even is 1 here: a context takes no time), or if
/// `hint` doesn't plan by the verdict from then on, so that ages are right.
fn apply() -> Result<()> {
    need_cpus(2)?;
    need_verdict()?;
    let machine = machine()?;
    let profile = need_profile(&machine, &["combined-only", "leaf-cached", "fragments"])?;
    let (exit, verdict) = due(&profile)?;
    let _loaded = Loaded::new()?;
    let before = settings()?;
    let output = calibrate(&["--no-costs", "--apply", "--dry-run"])?.output()?;
    ensure!(settings()? == before, "--dry-run sets {:?}", settings()?);
    ended(&output, exit)?;
    // To be given back.
    let mut knobs = Knobs::new();
    for name in ["calibration", "max_gvas_per_entry"] {
        knobs.set(name, sys::read(Path::new(ROOT).join(name))?)?;
    }
    let set = [
        "--trials",
        "400",
        "--apply",
        "--set-max-gvas",
        "--json",
        "-",
    ];
    let output = calibrate_at_length(&set)?.output()?;
    ended(&output, exit)?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let holds = sys::read(Path::new(ROOT).join("calibration"))?;
    ensure!(holds == verdict, "calibration is {holds:?}");
    let due = report["costs"]["break_even"]
        .as_u64()
        .unwrap_or(4096)
        .clamp(3, 4096);
    let holds = sys::read(Path::new(ROOT).join("max_gvas_per_entry"))?;
    ensure!(
        holds == due.to_string(),
        "max_gvas_per_entry is {holds:?}, not {due}"
    );
    let output = calibrate(&["--no-costs"])?.output()?;
    ended(&output, exit).context("once more")?;

    const PAGES: u64 = 64;
    knobs.set("max_gvas_per_entry", 512)?;
    let mut scene = Scene::gated(PAGES, Policy::new("hint", "deferred"))?;
    scene.knobs.set("max_delay_ms", 0)?;
    scene.idle.mark(&scene.pfns)?;
    let seen = scene.step()?;
    let idle = scene.idle.count(&scene.pfns)?;
    let flushes = (seen.invvpid_addr(), seen.invvpid_context(), seen.invept());
    let (due, state) = match verdict {
        "passed" => ((PAGES, 0, 0), "live"),
        "failed-context" => ((0, 1, 0), "calibration-failed"),
        _ => ((0, 0, 1), "calibration-failed"),
    };
    ensure!(
        (flushes, idle) == (due, 0),
        "{flushes:?} INVVPID by address, by context, INVEPT; {idle} idle"
    );
    let is = scene.dir()?.read("state")?;
    ensure!(is == state, "state is {is:?}");
    Ok(())
}

/// Fails if an earlier verdict bends the new one, or is gone or replaced after a run that was not to
/// apply its own.
fn again() -> Result<()> {
    need_cpus(2)?;
    need_verdict()?;
    let profile = machine()?.snapshot()?.profile;
    let (exit, _) = due(&profile)?;
    let _loaded = Loaded::new()?;
    let mut knobs = Knobs::new();
    for earlier in ["failed-context", "failed-invept"] {
        knobs.set("calibration", earlier)?;
        let output = calibrate(&["--no-costs"])?.output()?;
        ended(&output, exit).with_context(|| format!("after {earlier}"))?;
        let holds = sys::read(Path::new(ROOT).join("calibration"))?;
        ensure!(holds == earlier, "calibration was {earlier}, is {holds}");
    }
    Ok(())
}

/// Fails if a second run begins beside another; or if a run that is interrupted leaves its VM, another
/// setting or no earlier verdict behind, goes on, or says nothing.
fn interrupted() -> Result<()> {
    need_cpus(2)?;
    let _loaded = Loaded::new()?;
    let mut knobs = Knobs::new();
    knobs.set("calibration", "failed-invept")?;
    let before = settings()?;
    let mut child = calibrate(&["--apply"])?
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(child.stderr.take().context("stderr")?).lines();
    let mut said = String::new();
    while !said.contains("EPT leaf") {
        said = lines.next().context("it ended early")??;
    }
    ensure!(VmDir::all()?.len() <= 1, "more than one VM");
    let second = calibrate(&["--no-costs"])?.output()?;
    let text = String::from_utf8_lossy(&second.stderr);
    ensure!(
        code(&second) == 1 && text.contains("another calibrate is at work"),
        "a second run: {second:?}"
    );
    let pid = i32::try_from(child.id())?;
    // SAFETY: No memory is involved.
    let rc = unsafe { libc::kill(pid, libc::SIGINT) };
    ensure!(rc == 0, "kill failed");
    let rest: Vec<String> = lines.map_while(std::result::Result::ok).collect();
    let status = child.wait()?;
    ensure!(status.code() == Some(1), "{status}: {rest:?}");
    ensure!(
        rest.iter().any(|line| line.contains("interrupted")),
        "{rest:?}"
    );
    ensure!(settings()? == before, "settings: {:?}", settings()?);
    Ok(())
}

/// Fails if a reason not to run is not said with its remedy, or has another exit code than documented.
fn errors() -> Result<()> {
    let expect = |what: &str, mut command: Command, exit: i32, text: &str| -> Result<()> {
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let right = code(&output) == exit && said.contains(text) && said.contains("remedy:");
        ensure!(right, "{what}: {output:?}");
        Ok(())
    };
    if Path::new(ROOT).exists() {
        skip!("gvahint.ko is loaded");
    }
    expect("no module", calibrate(&[])?, 3, "gvahint is not loaded")?;
    let _loaded = Loaded::new()?;
    let mut command = calibrate(&[])?;
    command.uid(NOBODY);
    expect("no root", command, 4, "needs root")?;
    let command = calibrate(&["--cpu", "99"])?;
    expect("no such CPU", command, 1, "no CPU 99")?;
    let mut knobs = Knobs::new();
    knobs.set("max_gvas_per_entry", 2)?;
    expect(
        "too few gVAs",
        calibrate(&[])?,
        1,
        "max_gvas_per_entry is 2",
    )?;
    knobs.set("max_gvas_per_entry", 512)?;
    knobs.set("max_bytes_per_vm", 65_536)?;
    knobs.set("log_entries", 65_536)?;
    expect("no memory", calibrate(&[])?, 1, "HELLO")?;
    ensure!(VmDir::all()?.is_empty(), "a VM stays behind");
    Ok(())
}

/// Fails if calibrate has a verdict where the module uses no hints, or doesn't name what is missing.
fn unfit() -> Result<()> {
    let capability = Capability::read()?;
    let missing = match (capability.ept_ad, capability.invvpid_addr) {
        (false, _) => "accessed bits in EPT entries",
        (true, false) => "no INVVPID for single addresses",
        (true, true) => skip!("this CPU has what hints need"),
    };
    need_cpus(2)?;
    let _loaded = Loaded::new()?;
    let output = calibrate(&["--apply"])?.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(code(&output) == 1 && said.contains(missing), "{output:?}");
    let holds = sys::read(Path::new(ROOT).join("calibration"))?;
    ensure!(holds == "uncalibrated", "calibration is {holds:?}");
    Ok(())
}
