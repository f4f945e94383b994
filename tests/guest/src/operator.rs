// SPDX-License-Identifier: GPL-2.0
//! gvahintctl and a real Linux guest that reports; and what the documentation tells operators to type.

mod walk;

use crate::ager::{fill_lru_lists, Ager};
use crate::guest::{Guest, Plan};
use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::knobs::{Knobs, Policy, VmDir};
use gvahint_vm::{module, sys};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

type Run = fn() -> Result<()>;

/// The tests, in this order.
pub const TESTS: [(&str, Run); 3] = [
    ("reporting", reporting),
    ("vanish", vanish),
    ("walk", walk::run),
];

/// Exit codes, as its manual page has them.
const NOTES: i32 = 7;

/// Machine time for a boot and more, on CPUs that others use as well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command of gvahintctl's; fails unless it ends with that exit code. What it printed.
fn ctl(arguments: &[&str], code: i32) -> Result<String> {
    run(Command::new("gvahintctl").args(arguments), code)
}

/// Runs a command; fails unless it ends with that exit code. What it printed.
fn run(command: &mut Command, code: i32) -> Result<String> {
    let output = command.output()?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.code() == Some(code),
        "{command:?}: {}, not {code}: {out}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(out)
}

/// The VM of that number in a document.
fn vm(document: &str, id: u64) -> Result<Option<Value>> {
    let document: Value = serde_json::from_str(document)?;
    let vms = document["vms"].as_array().context("no VMs")?;
    Ok(vms.iter().find(|vm| vm["id"] == id).cloned())
}

/// Waits for something.
fn until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = std::time::Instant::now();
    while !so()? {
        ensure!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        sys::sleep_ms(50);
    }
    Ok(())
}

/// Fails if a verb does not show of a guest that reports, while it is aged, what is so: live, all covered,
/// its addresses dropped, hardly an INVEPT, no problem.
fn reporting() -> Result<()> {
    sys::pin(0, 0)?;
    let mut ager = Ager::new()?;
    Knobs::new().policy("clear_young", Policy::new("hint", "deferred"))?;
    let mut guest = Guest::boot(&Plan::new("random", 4))?;
    guest.await_sweeps(1, PATIENCE)?;
    fill_lru_lists()?;
    let dir = guest.dir()?;
    until("the guest has reported what it was asked for", || {
        let before = dir.stat("uncovered")?;
        ager.again(&mut guest)?;
        Ok(dir.read("state")? == "live" && dir.stat("uncovered")? == before)
    })?;

    let watch = |arguments: &[&str]| {
        let mut command = Command::new("gvahintctl");
        command.args(arguments).args(["--interval", "1"]);
        command.stdout(Stdio::piped()).spawn()
    };
    let top = watch(&["top", "--once", "--json"])?;
    let explain = watch(&["explain", "--json"])?;
    let mut aged = 0;
    for _ in 0..8 {
        aged += ager.again(&mut guest)?.aged;
    }
    let text = |child: Child| -> Result<String> {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let row = vm(&text(top)?, dir.id)?.context("top does not show the guest")?;
    println!("top: {row}");
    let rate = |counter: &str| row["per_second"][counter].as_f64().unwrap_or(-1.0);
    ensure!(row["coverage"].as_f64() >= Some(0.99), "{row}");
    ensure!(
        rate("aged") > 0.0 && rate("aged") <= 3.0 * aged as f64,
        "{row}"
    );
    ensure!(rate("drained_gva") > 0.0, "{row}");
    ensure!(rate("drained_full") * 100.0 <= rate("aged"), "{row}");
    let told = vm(&text(explain)?, dir.id)?.context("explain does not know the guest")?;
    ensure!(told["state"] == "live", "{told}");

    let seen = vm(&ctl(&["status", "--json"], 0)?, dir.id)?.context("status")?;
    ensure!(
        seen["state"] == "live" && seen["pid"] == std::process::id(),
        "{seen}"
    );
    ensure!(seen["stats"]["hints"].as_u64() >= Some(1024), "{seen}");
    let doctor = ctl(&["doctor", "--json"], NOTES)?;
    let id = dir.id;
    let live = format!("pid {}) is live", std::process::id());
    ensure!(doctor.contains(&live), "{doctor}");
    let export = ctl(&["export"], 0)?;
    let line = format!(
        "gvahint_vm_state{{vm=\"{id}\",pid=\"{}\",state=\"live\"}} 1",
        std::process::id()
    );
    ensure!(export.lines().any(|known| known == line), "{export}");
    guest.finish()?;
    guest.check_console()
}

/// A guest in a process of its own, to be killed.
struct Victim(Child);

impl Victim {
    fn boot() -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args(["stay", "random", "--mib", "1", "--memory", "64"]);
        Ok(Self(command.stdout(Stdio::null()).spawn()?))
    }

    fn dir(&self) -> Result<Option<VmDir>> {
        let pid = self.0.id().to_string();
        let mut all = VmDir::all()?.into_iter();
        Ok(all.find(|dir| dir.read("pid").is_ok_and(|text| text == pid)))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Fails if a guest that is killed while `top` runs stays there, ends it, or is complained of.
fn vanish() -> Result<()> {
    module::provide("gvahint")?;
    let victim = Victim::boot()?;
    until("the guest reports", || {
        let state = victim.dir()?.map(|dir| dir.read("state"));
        Ok(state.transpose()?.is_some_and(|state| state == "live"))
    })?;
    let id = victim.dir()?.context("gone")?.id;
    let mut top = Command::new("gvahintctl")
        .args(["top", "--json", "--interval", "0.2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(top.stdout.take().context("no output")?).lines();
    let mut there = || -> Result<bool> {
        match lines.next() {
            Some(line) => Ok(vm(&line?, id)?.is_some()),
            None => bail!("top ended"),
        }
    };
    ensure!(there()?, "top does not show VM {id}");
    drop(victim);
    until("the guest is gone from top", || Ok(!there()?))?;
    // It goes on, and ends well when it is told to.
    ensure!(!there()?, "VM {id} is back");
    // SAFETY: No memory is involved.
    unsafe { libc::kill(top.id() as i32, libc::SIGTERM) };
    let output = top.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success() && complaint.is_empty(),
        "{output:?}"
    );
    Ok(())
}
