// SPDX-License-Identifier: GPL-2.0
//! Init of a guest: mounts what it needs, loads the reporter if the image has one, and runs the
//! workload that the kernel's command line names.

mod map;
mod marks;
mod orders;
mod process;
mod reporter;
mod truth;
mod uffd;
mod work;

use crate::mailbox::Phase;
use anyhow::{bail, Context, Result};
use gvahint_vm::sys;
use std::str::FromStr;
use truth::Mailbox;

/// What the host asked for.
#[derive(Clone)]
pub struct Task {
    /// Name of the workload.
    pub work: String,
    /// Bytes that the workload uses.
    pub bytes: u64,
    /// Whether it wants transparent huge pages.
    pub huge: bool,
    /// Number of processes, where there is a choice.
    pub processes: usize,
    /// Whether a page that nothing else happens to may lose its translation.
    pub restless: bool,
}

/// Never returns: a kernel without its init panics.
pub fn main() -> ! {
    if let Err(error) = run() {
        println!("init: {error:#}");
    }
    loop {
        sys::sleep_ms(1000);
    }
}

fn run() -> Result<()> {
    sys::mount("proc", "/proc", "cmdline")?;
    sys::mount("devtmpfs", "/dev", "mem")?;
    sys::mount("sysfs", "/sys", "kernel")?;
    sys::mount("debugfs", "/sys/kernel/debug", "tracing")?;
    sys::mount("tmpfs", "/tmp", "none")?;
    let cmdline = sys::read("/proc/cmdline")?;
    let gpa = parameter(&cmdline, "mailbox").context("no gvahint.mailbox=")?;
    let gpa = u64::from_str_radix(gpa.trim_start_matches("0x"), 16)?;
    let mailbox = Mailbox::open(gpa)?;
    mailbox.cpus(sys::cpus());
    mailbox.forget_orders();
    mailbox.phase(Phase::Preparing);
    let done = if number(&cmdline, "orders", 0u8)? != 0 {
        prepare(&cmdline).and_then(|task| {
            process::spawn(&mailbox, || work_on(&task, &mailbox))?;
            orders::serve(&mailbox)
        })
    } else {
        prepare(&cmdline).and_then(|task| work_on(&task, &mailbox))
    };
    match done {
        Ok(()) => mailbox.phase(Phase::Done),
        Err(error) => mailbox.fail(&format!("{error:#}")),
    }
    Ok(())
}

fn prepare(cmdline: &str) -> Result<Task> {
    if number(cmdline, "reporter", 1u8)? != 0 && reporter::available() {
        reporter::load()?;
    }
    let task = Task {
        work: parameter(cmdline, "work").unwrap_or("random").to_owned(),
        bytes: number(cmdline, "mib", 16u64)? << 20,
        huge: number(cmdline, "thp", 0u8)? != 0,
        processes: number(cmdline, "processes", 2)?,
        restless: number(cmdline, "restless", 1u8)? != 0,
    };
    if task.huge {
        // Kernels with less than 512 MiB switch it off by themselves.
        sys::write("/sys/kernel/mm/transparent_hugepage/enabled", "madvise")?;
    }
    Ok(task)
}

fn work_on(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let Some(work) = work::find(&task.work) else {
        bail!("there is no workload {}", task.work);
    };
    work(task, mailbox)
}

/// The last one of that name counts.
fn parameter<'a>(cmdline: &'a str, name: &str) -> Option<&'a str> {
    cmdline.split_whitespace().rev().find_map(|word| {
        word.strip_prefix("gvahint.")?
            .strip_prefix(name)?
            .strip_prefix('=')
    })
}

fn number<T: FromStr>(cmdline: &str, name: &str, default: T) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match parameter(cmdline, name) {
        Some(text) => text
            .parse()
            .with_context(|| format!("gvahint.{name}={text}")),
        None => Ok(default),
    }
}
