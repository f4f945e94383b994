// SPDX-License-Identifier: GPL-2.0
//! Debian's own QEMU with the same guest: a VMM that knows nothing of gvahint.
//!
//! Guest memory is seen from outside, as root: /proc/PID/mem and /proc/PID/pagemap.

use super::qmp::Qmp;
use super::{host_cpu, Config, Vmm};
use crate::mailbox;
use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::knobs::Knobs;
use gvahint_vm::memory::Backing;
use gvahint_vm::{sys, PAGE};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const PROGRAM: &str = "/usr/bin/qemu-system-x86_64";
const FIRMWARE: &str = "/usr/share/qemu";
const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;
/// Machine time in which QEMU maps the guest's memory.
const START_MS: u64 = 10_000;

/// A QEMU at work; it is killed on drop.
pub struct Qemu {
    child: Child,
    files: Files,
    memory: File,
    pagemap: File,
    /// Where guest memory begins in QEMU's address space.
    base: u64,
    /// The same for memory that was plugged in, and how long that is.
    plugged: Option<(u64, u64)>,
    qmp: Qmp,
    _knobs: Knobs,
}

/// What a QEMU writes to, and is spoken to by; each has its own.
struct Files {
    console: String,
    messages: String,
    socket: String,
}

impl Files {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = |kind| format!("/tmp/qemu.{}.{number}.{kind}", std::process::id());
        Self {
            console: path("console"),
            messages: path("messages"),
            socket: path("qmp"),
        }
    }
}

impl Qemu {
    /// Starts QEMU with a machine type, `microvm` or `pc`.
    pub fn start(config: &Config, machine: &str, options: &[String]) -> Result<Self> {
        let files = Files::new();
        let mut knobs = Knobs::new();
        if config.backing == Backing::Small {
            // QEMU asks for huge pages by itself.
            knobs.set_file(THP, "never")?;
        }
        // Its threads inherit where this one runs: away from the ager.
        sys::pin(0, host_cpu(0))?;
        let child = Command::new(PROGRAM)
            .args(["-accel", "kvm", "-cpu", "host", "-M", machine])
            .args(["-L", FIRMWARE, "-nodefaults", "-no-user-config"])
            .args(["-display", "none", "-no-reboot"])
            .args(["-serial", &format!("file:{}", files.console)])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", files.socket)])
            .args(["-smp", &config.vcpus.to_string()])
            .args(["-m", &(config.memory >> 20).to_string()])
            .arg("-kernel")
            .arg(config.kernel)
            .arg("-initrd")
            .arg(config.initrd)
            .args(["-append", config.cmdline])
            .args(options)
            .stdin(Stdio::null())
            .stderr(File::create(&files.messages)?)
            .spawn()
            .context(PROGRAM);
        sys::pin(0, 0)?;
        let mut child = child?;
        let pid = child.id();
        let mut alive = || alive(&mut child, &files);
        let qmp = Qmp::connect(&files.socket, &mut alive)?;
        // Not before it answers: this process goes on a moment before /proc shows QEMU's mappings, not
        // its own, of which one may be as long.
        let base = find_memory(pid, config.memory, &mut alive)?;
        let directory = format!("/proc/{pid}");
        let memory = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("{directory}/mem"))?;
        Ok(Self {
            memory,
            pagemap: File::open(format!("{directory}/pagemap"))?,
            child,
            files,
            base,
            plugged: None,
            qmp,
            _knobs: knobs,
        })
    }

    /// Executes a QMP command.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.qmp.execute(command, arguments)
    }

    /// From now on `bytes` at 4 GiB are guest memory, which QEMU has mapped.
    pub fn has_plugged(&mut self, bytes: u64) -> Result<()> {
        let pid = self.child.id();
        let mut alive = || alive(&mut self.child, &self.files);
        let base = find_memory(pid, bytes, &mut alive)?;
        self.plugged = Some((base, bytes));
        Ok(())
    }

    /// Where a guest page lies in QEMU's address space.
    fn hva_of(&self, gfn: u64) -> u64 {
        match self.plugged {
            Some((base, _)) if gfn >= mailbox::HIGH => base + (gfn - mailbox::HIGH) * PAGE,
            _ => self.base + gfn * PAGE,
        }
    }

    /// Entries of pagemap for a run of guest pages.
    fn entries(&self, first: u64, count: usize) -> Result<Vec<u64>> {
        let mut bytes = vec![0; count * 8];
        self.pagemap
            .read_exact_at(&mut bytes, self.hva_of(first) / PAGE * 8)
            .context("QEMU's pagemap")?;
        Ok(words(&bytes))
    }
}

/// Fails if QEMU ended.
fn alive(child: &mut Child, files: &Files) -> Result<()> {
    match child.try_wait()? {
        Some(status) => bail!("QEMU ended, {status}: {}", sys::read(&files.messages)?),
        None => Ok(()),
    }
}

/// The mapping that is exactly as long as guest memory and can be written: malloc reserves as much for a
/// moment when a thread of QEMU's begins.
fn find_memory(pid: u32, len: u64, alive: &mut dyn FnMut() -> Result<()>) -> Result<u64> {
    let path = format!("/proc/{pid}/maps");
    for _ in 0..START_MS / 10 {
        alive()?;
        for line in fs::read_to_string(&path)?.lines() {
            let mut fields = line.split_whitespace();
            let range = fields.next().unwrap_or_default();
            let Some((start, end)) = range.split_once('-') else {
                continue;
            };
            if !fields.next().is_some_and(|may| may.starts_with("rw")) {
                continue;
            }
            let start = u64::from_str_radix(start, 16)?;
            if u64::from_str_radix(end, 16)? - start == len {
                return Ok(start);
            }
        }
        sys::sleep_ms(10);
    }
    bail!("QEMU does not map {len} bytes for its guest")
}

impl Vmm for Qemu {
    fn read(&self, gpa: u64) -> Result<u64> {
        Ok(self.read_words(gpa, 1)?[0])
    }

    fn read_words(&self, gpa: u64, count: usize) -> Result<Vec<u64>> {
        let mut bytes = vec![0; count * 8];
        self.memory
            .read_exact_at(&mut bytes, self.base + gpa)
            .context("QEMU's memory")?;
        Ok(words(&bytes))
    }

    fn write(&self, gpa: u64, value: u64) -> Result<()> {
        self.memory
            .write_all_at(&value.to_ne_bytes(), self.base + gpa)
            .context("QEMU's memory")
    }

    fn clear(&self, gpas: Range<u64>) -> Result<()> {
        let zeros = vec![0; usize::try_from(gpas.end - gpas.start)?];
        self.memory
            .write_all_at(&zeros, self.base + gpas.start)
            .context("QEMU's memory")
    }

    fn pfns(&self, gfns: &[u64]) -> Result<Vec<u64>> {
        let mut pfns = Vec::with_capacity(gfns.len());
        for run in gfns.chunk_by(|a, b| a + 1 == *b) {
            for (entry, gfn) in self.entries(run[0], run.len())?.iter().zip(run) {
                ensure!(entry & PRESENT != 0, "gfn {gfn:#x} is not in memory");
                pfns.push(entry & FRAME);
            }
        }
        Ok(pfns)
    }

    fn check(&mut self) -> Result<()> {
        alive(&mut self.child, &self.files)
    }

    fn console(&self) -> String {
        sys::read(&self.files.console)
            .unwrap_or_default()
            .replace('\r', "")
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn hva(&self, _gpa: u64) -> Option<u64> {
        None
    }

    fn plugged(&self) -> u64 {
        self.plugged.map_or(0, |(_, bytes)| bytes)
    }

    fn qemu(&mut self) -> Option<&mut Qemu> {
        Some(self)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks_exact(8)
        .map(|chunk| u64::from_ne_bytes(chunk.try_into().expect("eight bytes")))
        .collect()
}
