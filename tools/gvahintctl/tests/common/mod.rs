// SPDX-License-Identifier: GPL-2.0
//! A made-up host: files in a temporary directory, and gvahintctl that is shown them.
#![allow(dead_code)] // each test file uses a part

pub mod fit;
pub mod table;
pub mod terminal;

use std::fs::{self, Permissions};
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_gvahintctl");
/// A user that owns nothing.
const NOBODY: u32 = 65_534;

/// Exit codes, as `--help` has them.
pub const FAILED: i32 = 1;
pub const USAGE: i32 = 2;
pub const NOT_LOADED: i32 = 3;
pub const PERMISSION: i32 = 4;
pub const NO_VM: i32 = 5;
pub const GARBAGE: i32 = 6;

/// A host with the module loaded.
pub struct Host {
    directory: TempDir,
}

/// What a run of the program left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

impl Ran {
    /// Fails unless the exit code is this one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Fails unless standard output holds each of these.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.out.contains(text), "no {text:?} in {self:#?}");
        }
        self
    }

    /// Fails unless standard error holds each of these.
    #[track_caller]
    pub fn complains(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.err.contains(text), "no {text:?} in {self:#?}");
        }
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }
}

impl Host {
    /// Without the module.
    pub fn bare() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    /// With the module, its defaults, and no VM.
    pub fn loaded() -> Self {
        let host = Self::bare();
        for (name, value) in [
            ("version", "0.1.0"),
            ("calibration", "uncalibrated"),
            ("clear_young/flush", "hint"),
            ("clear_young/uncovered", "full"),
            ("clear_young/timing", "deferred"),
            ("clear_flush_young/flush", "hint"),
            ("clear_flush_young/uncovered", "full"),
            ("clear_flush_young/timing", "batched"),
            ("batch_pages", "64"),
            ("max_delay_ms", "10"),
            ("linear_alias", "always"),
            ("hint_max_age_ms", "60000"),
            ("lease_ms", "10000"),
            ("max_gvas_per_entry", "512"),
            ("log_entries", "4096"),
            ("max_bytes_per_vm", "0"),
        ] {
            host.sysfs(name, value);
        }
        fs::create_dir_all(host.path("sys/kernel/gvahint/vms")).unwrap();
        host
    }

    /// With a VM that reports (1), and one that does not (2).
    pub fn with_vms() -> Self {
        let host = Self::loaded();
        host.vm(1, 4242, "live", "0.9990");
        host.write("proc/4242/comm", "qemu-system-x86\n");
        for (name, value) in [
            ("aged", 2000),
            ("covered", 1998),
            ("covered_context", 6),
            ("uncovered", 4),
            ("uncovered_no_hint", 3),
            ("uncovered_aged", 1),
            ("appended_gva", 1998),
            ("appended_full", 4),
            ("drained_gva", 1998),
            ("drained_full", 7),
            ("drained_context", 2),
            ("lagged", 2),
            ("superseded", 5),
            ("hints", 262_144),
            ("bytes", 2_200_000),
        ] {
            host.stat(1, name, value);
        }
        host.vm(2, 4343, "silent", "-");
        host
    }

    /// A VM of which nothing is counted yet.
    pub fn vm(&self, id: u64, pid: u64, state: &str, coverage: &str) {
        let file = |name: &str, value: &str| self.sysfs(&format!("vms/{id}/{name}"), value);
        file("pid", &pid.to_string());
        file("state", state);
        file("coverage", coverage);
        for notifier in ["clear_young", "clear_flush_young"] {
            for knob in ["flush", "uncovered", "timing"] {
                file(&format!("{notifier}_{knob}"), "inherit");
            }
        }
        for name in [
            "aged",
            "covered",
            "uncovered",
            "uncovered_no_hint",
            "uncovered_aged",
            "appended_gva",
            "appended_context",
            "appended_full",
            "turned",
            "moved",
            "drains",
            "drained_gva",
            "drained_context",
            "drained_full",
            "drained_nothing",
            "lagged",
            "too_many",
            "overwritten",
            "refused",
            "superseded",
            "kicks",
            "sets_refused",
            "sets_shortened",
            "hints",
            "bytes",
        ] {
            self.stat(id, name, 0);
        }
    }

    /// What a counter stands at.
    pub fn stat(&self, id: u64, name: &str, value: u64) {
        self.sysfs(&format!("vms/{id}/stats/{name}"), &value.to_string());
    }

    /// A VM that the directory still lists, and whose files are gone.
    pub fn vanished(&self, id: u64) {
        symlink(
            "/nonexistent",
            self.path(&format!("sys/kernel/gvahint/vms/{id}")),
        )
        .unwrap();
    }

    /// Takes a VM away.
    pub fn kill(&self, id: u64) {
        fs::remove_dir_all(self.path(&format!("sys/kernel/gvahint/vms/{id}"))).unwrap();
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file with that content.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// One of the module's files.
    pub fn sysfs(&self, name: &str, value: &str) {
        let path = self.write(&format!("sys/kernel/gvahint/{name}"), &format!("{value}\n"));
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    }

    /// What one of the module's files holds.
    pub fn holds(&self, name: &str) -> String {
        let path = self.path(&format!("sys/kernel/gvahint/{name}"));
        fs::read_to_string(path).unwrap().trim_end().to_owned()
    }

    /// The mode of one of the module's files.
    pub fn mode(&self, name: &str, mode: u32) {
        let path = self.path(&format!("sys/kernel/gvahint/{name}"));
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// The mode of all of the module's files.
    pub fn modes(&self, mode: u32) {
        let mut directories = vec![self.path("sys/kernel/gvahint")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => directories.push(path),
                    false => fs::set_permissions(path, Permissions::from_mode(mode)).unwrap(),
                }
            }
        }
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .arg("--root")
            .arg(self.directory.path())
            .args(arguments);
        command
            .env_remove("GVAHINT_ROOT")
            .env_remove("GVAHINT_SYSFS");
        command
    }

    /// The program, to be started.
    pub fn program(&self, arguments: &[&str]) -> Command {
        self.command(Path::new(PROGRAM), arguments)
    }

    /// Runs the program.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.program(arguments).output().unwrap().into()
    }

    /// Runs the program, which takes a second at least; `meanwhile` gets its process's number when it
    /// has looked at the host once.
    pub fn run_while(&self, arguments: &[&str], meanwhile: impl FnOnce(u32)) -> Ran {
        let mut program = self.program(arguments);
        let program = program.stdout(Stdio::piped()).spawn().unwrap();
        sleep(Duration::from_millis(700));
        meanwhile(program.id());
        program.wait_with_output().unwrap().into()
    }

    /// Runs the program as somebody whom modes hold back: root is not.
    pub fn run_unprivileged(&self, arguments: &[&str]) -> Ran {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            return self.run(arguments);
        }
        // Nobody may not look into every directory that this could be built in.
        let program = self.path("program");
        if !program.exists() {
            // Not by us: who is forked by another test meanwhile would have it open for writing still.
            let copied = Command::new("cp").arg(PROGRAM).arg(&program).status();
            assert!(copied.unwrap().success(), "cp {PROGRAM}");
        }
        let mut command = self.command(&program, arguments);
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        command.output().unwrap().into()
    }
}

/// The verbs, as clap lists them.
pub fn verbs() -> Vec<String> {
    let help = Host::bare().run(&["--help"]).exits(0).out;
    let (_, list) = help.split_once("\nCommands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    // What a verb does may take more lines, which begin further in.
    let verb = |line: &str| {
        let rest = line.strip_prefix("  ")?;
        let is = !rest.starts_with(' ');
        rest.split(' ').next().filter(|_| is).map(str::to_owned)
    };
    let verbs: Vec<_> = list.lines().filter_map(verb).collect();
    assert!(!verbs.is_empty(), "{help}");
    verbs
}

/// Text without what its lines were wrapped by.
pub fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Sends a signal.
pub fn signal(name: &str, pid: &str) {
    let kill = format!("kill -s {name} {pid}");
    let sent = Command::new("bash").args(["-c", &kill]).status().unwrap();
    assert!(sent.success(), "{kill}");
}
