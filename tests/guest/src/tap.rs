// SPDX-License-Identifier: GPL-2.0
//! TAP version 13, a process for each test.

use anyhow::{bail, Result};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// What no kernel may say, the host's or a guest's.
const COMPLAINTS: [&str; 7] = [
    "WARNING:",
    "BUG:",
    "kernel BUG",
    "Oops",
    "general protection",
    "INFO: task",
    "INFO: rcu",
];

/// Lines of a kernel's log that are complaints.
pub fn complaints(log: &str) -> Vec<String> {
    log.lines()
        .filter(|line| COMPLAINTS.iter().any(|bad| line.contains(bad)))
        .map(str::to_owned)
        .collect()
}

/// Runs tests by their names, as asked for by `names`.
pub fn run(tests: &[&str], names: &[String]) -> Result<ExitCode> {
    if tests.is_empty() {
        bail!("no such test: {names:?}");
    }
    println!("TAP version 13\n1..{}", tests.len());
    kernel_log();
    let mut failed = 0;
    for (number, test) in (1..).zip(tests) {
        let start = Instant::now();
        let mut child = Command::new("/proc/self/exe");
        let output = child.args(["exec", test]).output()?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            println!("# {line}");
        }
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            println!("# {line}");
        }
        println!("# {:.1} s of machine time", start.elapsed().as_secs_f64());
        let complaints = complaints(&kernel_log());
        for line in &complaints {
            println!("# kernel: {line}");
        }
        if output.status.success() && complaints.is_empty() {
            println!("ok {number} - {test}");
        } else {
            failed += 1;
            println!("not ok {number} - {test}");
        }
    }
    println!("# Totals: pass:{} fail:{failed}", tests.len() - failed);
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What this machine's kernel said since the last call.
pub fn kernel_log() -> String {
    const READ_CLEAR: i32 = 4;
    let mut buffer = vec![0u8; 1 << 18];
    // SAFETY: The buffer is as long as is said.
    let len = unsafe {
        libc::klogctl(
            READ_CLEAR,
            buffer.as_mut_ptr().cast(),
            buffer.len() as libc::c_int,
        )
    };
    // What can't be read can't be said to hold no complaint.
    let len = usize::try_from(len).expect("klogctl reads the kernel's log");
    buffer.truncate(len);
    String::from_utf8_lossy(&buffer).into_owned()
}
