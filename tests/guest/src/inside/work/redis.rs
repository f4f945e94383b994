// SPDX-License-Identifier: GPL-2.0
//! A program that nobody here wrote: redis-server under redis-benchmark, over a Unix socket.
//!
//! It can't tell which pages it touched. Init names the server's pages ([`mailbox::FOREIGN`]), and the
//! host sees by their contents which of them were written.

use crate::inside::truth::{frame, Mailbox};
use crate::inside::Task;
use crate::mailbox::{Phase, FOREIGN};
use anyhow::{ensure, Context, Result};
use gvahint_vm::{sys, PAGE};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Debian's redis-tools has the server under this name; it looks at what it is called.
const SERVER: &str = "/usr/bin/redis-check-rdb";
const CLIENT: &str = "/usr/bin/redis-benchmark";
const SOCKET: &str = "/tmp/redis";
/// Bytes of a value.
const VALUE: u64 = 512;
/// Time between two looks at the server's page tables.
const LOOK_MS: u64 = 100;

/// Sets and gets of random keys; values fill what the task allows.
pub fn run(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let mut server = Command::new(SERVER)
        .arg0("redis-server")
        .args(["--port", "0", "--unixsocket", SOCKET, "--save", ""])
        .args([
            "--ignore-warnings",
            "ARM64-COW-BUG",
            "--loglevel",
            "warning",
        ])
        .spawn()
        .context(SERVER)?;
    while !Path::new(SOCKET).exists() {
        ensure!(server.try_wait()?.is_none(), "redis-server ended");
        sys::sleep_ms(10);
    }
    let keys = (task.bytes / VALUE / 2).to_string();
    // Each key once, so that the server has its memory before it is aged.
    let filled = client(&["-t", "set", "-n", &keys], &keys).status()?;
    ensure!(filled.success(), "redis-benchmark: {filled}");
    let mut client = client(&["-t", "set,get", "-l", "-n", "100000"], &keys).spawn()?;
    let mut known = BTreeSet::new();
    look(mailbox, &server, &mut known)?;
    mailbox.phase(Phase::Running);
    while !mailbox.stopped() {
        sys::sleep_ms(LOOK_MS);
        ensure!(server.try_wait()?.is_none(), "redis-server ended");
        ensure!(client.try_wait()?.is_none(), "redis-benchmark ended");
        look(mailbox, &server, &mut known)?;
        mailbox.swept();
    }
    client.kill()?;
    server.kill()?;
    Ok(())
}

fn client(what: &[&str], keys: &str) -> Command {
    let value = VALUE.to_string();
    let mut command = Command::new(CLIENT);
    command
        .args(["-s", SOCKET, "-q", "-c", "4", "-P", "8"])
        .args(["-d", &value, "-r", keys])
        .args(what)
        .stdout(Stdio::null());
    command
}

/// Names the pages that the server can write.
fn look(mailbox: &Mailbox, server: &Child, known: &mut BTreeSet<u64>) -> Result<()> {
    let directory = format!("/proc/{}", server.id());
    let pagemap = File::open(format!("{directory}/pagemap"))?;
    let mut now = BTreeSet::new();
    for line in fs::read_to_string(format!("{directory}/maps"))?.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else {
            continue;
        };
        let Some((start, end)) = range.split_once('-').filter(|_| rights.starts_with("rw")) else {
            continue;
        };
        let (start, end) = (
            u64::from_str_radix(start, 16)?,
            u64::from_str_radix(end, 16)?,
        );
        let mut entries = vec![0; ((end - start) / PAGE * 8) as usize];
        pagemap.read_exact_at(&mut entries, start / PAGE * 8)?;
        now.extend(
            (0..entries.len())
                .step_by(8)
                .filter_map(|at| frame(&entries, at)),
        );
    }
    known
        .difference(&now)
        .for_each(|gfn| mailbox.stamp(*gfn, 0));
    now.difference(known)
        .for_each(|gfn| mailbox.stamp(*gfn, FOREIGN));
    *known = now;
    Ok(())
}
