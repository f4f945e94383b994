// SPDX-License-Identifier: GPL-2.0
//! TAP version 13: one line a test, visible skips, a process for each test.

use crate::tests::{self, Test};
use anyhow::{bail, ensure, Context as _, Result};
use gvahint_vm::module;
use gvahint_vm::sys;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Virtual seconds that a test may be silent.
const LIMIT: Duration = Duration::from_secs(120);
const SKIPPED: u8 = 4;

/// Why a test can't say anything on this machine.
#[derive(Debug)]
pub struct Skip(pub String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "skip: {}", self.0)
    }
}

impl std::error::Error for Skip {}

/// Leaves the test as skipped.
macro_rules! skip {
    ($($why:tt)*) => {
        return Err(anyhow::Error::new($crate::tap::Skip(format!($($why)*))))
    };
}
pub(crate) use skip;

/// Runs the tests whose names begin with one of `names` and prints the plan and the results.
pub fn run(full: bool, names: &[String]) -> Result<ExitCode> {
    let chosen = |test: &&Test| {
        if names.is_empty() {
            return full || !test.full;
        }
        names
            .iter()
            .any(|name| test.name.starts_with(name.as_str()))
    };
    let tests: Vec<_> = tests::all().filter(chosen).collect();
    let unknown = |name: &&String| {
        !tests
            .iter()
            .any(|test| test.name.starts_with(name.as_str()))
    };
    let unknown: Vec<_> = names.iter().filter(unknown).collect();
    if !unknown.is_empty() {
        bail!("no such test: {unknown:?}");
    }
    println!("TAP version 13\n1..{}", tests.len());
    let mut log = KernelLog::open()?;
    let (mut failed, mut skipped) = (0, 0);
    for (number, test) in (1..).zip(&tests) {
        let outcome = run_one(full, test)?;
        let complaints = log.complaints()?;
        for line in &complaints {
            println!("# kernel: {line}");
        }
        match outcome {
            _ if !complaints.is_empty() => {
                failed += 1;
                println!("not ok {number} {}", test.name);
            }
            Outcome::Passed => println!("ok {number} {}", test.name),
            Outcome::Skipped(why) => {
                skipped += 1;
                println!("ok {number} {} # SKIP {why}", test.name);
            }
            Outcome::Failed(why) => {
                failed += 1;
                println!("# {why}\nnot ok {number} {}", test.name);
            }
        }
        std::io::stdout().flush()?;
    }
    let passed = tests.len() - failed - skipped;
    println!("# Totals: pass:{passed} fail:{failed} skip:{skipped}");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

/// Runs a test as a child. Its lines become TAP diagnostics, rows excepted.
fn run_one(full: bool, test: &Test) -> Result<Outcome> {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["exec", test.name])
        .args(full.then_some("--full"));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("start a test")?;
    let output = child.stdout.take().context("a test's output")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut last = String::new();
    let limit = LIMIT * if sys::kernel_looks_for_bugs() { 10 } else { 1 };
    loop {
        match receiver.recv_timeout(limit) {
            Ok(line) if line.starts_with("ROW ") => println!("{line}"),
            Ok(line) => {
                println!("# {line}");
                last = line;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill()?;
                return Ok(Outcome::Failed(format!(
                    "nothing heard for {} s",
                    limit.as_secs()
                )));
            }
        }
    }
    let status = child.wait()?;
    Ok(match status.code() {
        Some(0) => Outcome::Passed,
        Some(code) if code == i32::from(SKIPPED) => Outcome::Skipped(last),
        _ => Outcome::Failed(format!("{status}")),
    })
}

/// Runs one test here; the last line says why it failed or was skipped.
pub fn exec(full: bool, name: &str) -> ExitCode {
    let Some(test) = tests::find(name) else {
        println!("no such test: {name}");
        return ExitCode::FAILURE;
    };
    let loaded = module::loaded("gvahint");
    let done = (test.run)(full).and_then(|()| {
        let now = module::loaded("gvahint");
        ensure!(
            now == loaded,
            "the module was loaded before: {loaded}, is now: {now}"
        );
        Ok(())
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(Skip(why)) => {
                println!("{why}");
                ExitCode::from(SKIPPED)
            }
            None => {
                println!("{error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// What the kernel said since the last look.
struct KernelLog {
    records: std::fs::File,
}

impl KernelLog {
    fn open() -> Result<Self> {
        let flags = libc::O_NONBLOCK;
        let mut records = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open("/dev/kmsg")
            .context("kmsg")?;
        records.seek(SeekFrom::End(0))?;
        Ok(Self { records })
    }

    /// Lines that no test may cause.
    fn complaints(&mut self) -> Result<Vec<String>> {
        const BAD: [&str; 9] = [
            "WARNING:",
            "BUG:",
            "kernel BUG",
            "Oops",
            "general protection",
            "INFO: task",
            "INFO: rcu",
            "possible recursive locking",
            "circular locking",
        ];
        let mut complaints = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.records.read(&mut record) {
                Ok(0) => break,
                Ok(n) => {
                    let text = String::from_utf8_lossy(&record[..n]);
                    let line = text.split_once(';').map_or(&*text, |(_, rest)| rest);
                    if BAD.iter().any(|bad| line.contains(bad)) {
                        complaints.push(line.lines().next().unwrap_or_default().to_owned());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Records were overwritten before they were read: the next one is there.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) => return Err(error).context("kmsg"),
            }
        }
        Ok(complaints)
    }
}
