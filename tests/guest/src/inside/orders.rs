// SPDX-License-Identifier: GPL-2.0
//! What the host orders while the workload runs: changes of the guest's life.

use super::process;
use super::truth::Mailbox;
use super::Task;
use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::reclaim::Swap;
use gvahint_vm::{module, sys};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;

/// How often to look for an order.
const POLL_MS: u64 = 20;

/// The next kernel and its initramfs, if the image has them.
const NEXT_KERNEL: &str = "/boot/bzImage";
const NEXT_INITRD: &str = "/boot/initrd";

/// Carries out orders until all workloads have ended; fails if one of them did.
pub fn serve(mailbox: &Mailbox) -> Result<()> {
    while process::reap()? {
        if let Some(order) = mailbox.order() {
            mailbox.answer(carry_out(&order, mailbox));
        }
        sys::sleep_ms(POLL_MS);
    }
    Ok(())
}

/// A verb and what it is about.
fn carry_out(order: &str, mailbox: &Mailbox) -> Result<String> {
    let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
    match verb {
        "insmod" => module::insert(rest)?,
        "rmmod" => module::remove(rest)?,
        "read" => return sys::read(rest),
        "symbol" => return symbol(rest),
        "write" => {
            let (path, value) = rest.split_once(' ').context("write what?")?;
            sys::write(path, value)?;
        }
        // for as long as the kernel runs
        "swap" => std::mem::forget(Swap::new(rest.parse::<u64>()? << 20)?),
        "work" => return Ok(work(rest, mailbox)?.to_string()),
        "kill" => process::kill(rest.parse()?)?,
        "reboot" => reboot(libc::LINUX_REBOOT_CMD_RESTART)?,
        "kexec" => {
            load_next(rest)?;
            reboot(libc::LINUX_REBOOT_CMD_KEXEC)?;
        }
        _ => bail!("what is {verb}?"),
    }
    Ok(String::new())
}

/// Where a variable of the kernel lies, in hexadecimal.
fn symbol(name: &str) -> Result<String> {
    let symbols = sys::read("/proc/kallsyms")?;
    let mut symbols = symbols.lines().map(|line| line.split(' '));
    let found = symbols.find(|fields| fields.clone().nth(2) == Some(name));
    let address = found.and_then(|mut fields| fields.next());
    let address = address.with_context(|| format!("the kernel has no {name}"))?;
    Ok(address.to_owned())
}

/// Starts another workload: its name and its MiB. Returns the process.
fn work(what: &str, mailbox: &Mailbox) -> Result<i32> {
    let (name, mib) = what.split_once(' ').context("how many MiB?")?;
    let task = Task {
        work: name.to_owned(),
        bytes: mib.parse::<u64>()? << 20,
        huge: false,
        processes: 1,
        restless: true,
    };
    process::spawn(mailbox, || super::work_on(&task, mailbox))
}

/// Does not return if it succeeds.
fn reboot(how: i32) -> Result<()> {
    let (first, second) = (libc::LINUX_REBOOT_MAGIC1, libc::LINUX_REBOOT_MAGIC2);
    // SAFETY: Numbers only; there is no argument.
    unsafe { libc::syscall(libc::SYS_reboot, first, second, how, 0) };
    bail!("reboot: {}", std::io::Error::last_os_error())
}

/// Loads the kernel that kexec starts: this one's command line, and more.
fn load_next(more: &str) -> Result<()> {
    let kernel = File::open(NEXT_KERNEL).context(NEXT_KERNEL)?;
    let initrd = File::open(NEXT_INITRD).context(NEXT_INITRD)?;
    let cmdline = CString::new(format!("{} {more}", sys::read("/proc/cmdline")?))?;
    let bytes = cmdline.as_bytes_with_nul();
    // SAFETY: Both descriptors are open, and the string is as long as is said.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd.as_raw_fd(),
            bytes.len(),
            bytes.as_ptr(),
            0,
        )
    };
    ensure!(rc == 0, "kexec: {}", std::io::Error::last_os_error());
    Ok(())
}
