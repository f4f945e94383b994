// SPDX-License-Identifier: GPL-2.0
//! What `make try` shows and the documentation says, typed by a test.

use super::{ctl, until, NOTES};
use anyhow::{ensure, Context, Result};
use gvahint_vm::knobs::VmDir;
use gvahint_vm::{module, sys};
use std::process::Command;

/// Commands of the documentation, one a line: tests/host/walk puts them there.
const COMMANDS: &str = "/run/commands";
const NOT_LOADED: i32 = 3;

/// The guests of `try`, killed when this is dropped.
struct Guests(Vec<i32>);

impl Guests {
    fn known() -> Result<Self> {
        let pids = VmDir::all()?.into_iter();
        let pids = pids.map(|dir| Ok(dir.read("pid")?.parse()?));
        Ok(Self(pids.collect::<Result<_>>()?))
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        for pid in &self.0 {
            // SAFETY: No memory is involved.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
    }
}

/// Fails if `try` or a command that it names does not work, or has not the effect that it tells of; if a
/// command of the documentation fails; or if anything is left when the module is unloaded.
pub fn run() -> Result<()> {
    if module::loaded("gvahint") {
        module::remove("gvahint")?;
    }
    let told = shell("try", 0)?;
    let guests = Guests::known()?;
    ensure!(guests.0.len() == 3, "try has {} guests", guests.0.len());
    let named = told
        .lines()
        .filter_map(|line| line.strip_prefix("  gvahintctl"));
    let named: Vec<_> = named.collect();
    ensure!(named.len() >= 6, "try names no commands: {told}");
    // Now and then its vCPU moves to a CPU that has nothing cached.
    until("ages of VM 3, which does not report, are wrong", || {
        Ok(share(3)? >= 90)
    })?;
    let mut by_invept = 0;
    for rest in named {
        let line = typed(&format!("gvahintctl{rest}"));
        shell(&line, code_of(&line))?;
        let Some(flush) = line.strip_prefix("gvahintctl set clear_young/flush ") else {
            continue;
        };
        let due = if flush == "none" { 90..=100 } else { 0..=0 };
        for vm in [1, 2] {
            until(&format!("{due:?} % idle in VM {vm} under {flush}"), || {
                Ok(due.contains(&share(vm)?))
            })?;
        }
        let invept = invept()?;
        println!("{flush}: {invept} INVEPT a second");
        let limit = match flush {
            "none" => 0..1,
            "invept" => 1..u64::MAX,
            _ => 0..1 + by_invept / 10,
        };
        ensure!(limit.contains(&invept), "not in {limit:?} under {flush}");
        by_invept = invept;
    }
    let commands = sys::read(COMMANDS)?;
    ensure!(commands.lines().count() >= 15, "few commands: {commands}");
    for line in commands.lines() {
        shell(line, code_of(line))?;
    }
    module::remove("gvahint")?;
    ctl(&["status"], NOT_LOADED)?;
    drop(guests);
    Ok(())
}

/// A line as it is typed: without its comment, and `top` as text.
fn typed(line: &str) -> String {
    let line = line.split(" #").next().unwrap_or(line).trim();
    match line {
        "gvahintctl top" => "gvahintctl top --once".to_owned(),
        line => line.replace("--interval 5", "--interval 1"),
    }
}

/// The doctor has notes to make in the machine: nobody measured its CPUs, and one guest is silent.
fn code_of(line: &str) -> i32 {
    if line.starts_with("gvahintctl doctor") {
        NOTES
    } else {
        0
    }
}

/// Runs a line; fails unless it ends with that exit code. What it printed.
fn shell(line: &str, code: i32) -> Result<String> {
    println!("$ {line}");
    super::run(Command::new("sh").args(["-c", line]), code)
}

/// Percent of the pages in use that page_idle took for idle in VM `n`, as `try` has it written down.
fn share(n: u64) -> Result<u32> {
    let text = sys::read(format!("/tmp/vm{n}"))?;
    let line = text
        .lines()
        .rfind(|line| line.contains("%"))
        .context("nothing was found")?;
    let share = line.split(['(', ' ']).zip(line.split(['(', ' ']).skip(1));
    let share = share
        .filter(|(_, next)| next.starts_with("%"))
        .map(|(share, _)| share)
        .next();
    Ok(share.context("no share")?.parse()?)
}

/// INVEPT a second that VMs 1 and 2 need by now.
fn invept() -> Result<u64> {
    let full = || -> Result<u64> {
        [1, 2]
            .iter()
            .map(|id| VmDir { id: *id }.stat("drained_full"))
            .sum()
    };
    let before = full()?;
    sys::sleep_ms(1000);
    Ok(full()? - before)
}
