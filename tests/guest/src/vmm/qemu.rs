// SPDX-License-Identifier: GPL-2.0
//! Debian's own QEMU with the same guest: a VMM that knows nothing of gvahint.
//!
//! Guest memory is seen from outside, as root: /proc/PID/mem and /proc/PID/pagemap.

use super::{host_cpu, Config, Vmm};
use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::knobs::Knobs;
use gvahint_vm::memory::Backing;
use gvahint_vm::{sys, PAGE};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = "/usr/bin/qemu-system-x86_64";
const FIRMWARE: &str = "/usr/share/qemu";
const CONSOLE: &str = "/tmp/qemu.console";
const MESSAGES: &str = "/tmp/qemu.messages";
const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;
/// Machine time in which QEMU maps the guest's memory.
const START_MS: u64 = 10_000;

/// A QEMU at work; it is killed on drop.
pub struct Qemu {
    child: Child,
    memory: File,
    pagemap: File,
    /// Where guest memory begins in QEMU's address space.
    base: u64,
    _knobs: Knobs,
}

impl Qemu {
    /// Starts QEMU with a machine type, `microvm` or `pc`.
    pub fn start(config: &Config, machine: &str) -> Result<Self> {
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
            .args(["-serial", &format!("file:{CONSOLE}")])
            .args(["-smp", &config.vcpus.to_string()])
            .args(["-m", &(config.memory >> 20).to_string()])
            .arg("-kernel")
            .arg(config.kernel)
            .arg("-initrd")
            .arg(config.initrd)
            .args(["-append", config.cmdline])
            .stdin(Stdio::null())
            .stderr(File::create(MESSAGES)?)
            .spawn()
            .context(PROGRAM);
        sys::pin(0, 0)?;
        let mut child = child?;
        let base = find_memory(&mut child, config.memory)?;
        let directory = format!("/proc/{}", child.id());
        let memory = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("{directory}/mem"))?;
        Ok(Self {
            memory,
            pagemap: File::open(format!("{directory}/pagemap"))?,
            child,
            base,
            _knobs: knobs,
        })
    }
}

/// The mapping that is exactly as long as guest memory.
fn find_memory(child: &mut Child, len: u64) -> Result<u64> {
    let path = format!("/proc/{}/maps", child.id());
    for _ in 0..START_MS / 10 {
        if let Some(status) = child.try_wait()? {
            bail!("QEMU ended, {status}: {}", sys::read(MESSAGES)?);
        }
        for line in fs::read_to_string(&path)?.lines() {
            let range = line.split_whitespace().next().unwrap_or_default();
            let Some((start, end)) = range.split_once('-') else {
                continue;
            };
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

    fn pfns(&self, gfns: &[u64]) -> Result<Vec<u64>> {
        let Some(last) = gfns.iter().max() else {
            return Ok(Vec::new());
        };
        let mut bytes = vec![0; (last + 1) as usize * 8];
        self.pagemap
            .read_exact_at(&mut bytes, self.base / PAGE * 8)
            .context("QEMU's pagemap")?;
        let entries = words(&bytes);
        gfns.iter()
            .map(|gfn| {
                let entry = entries[*gfn as usize];
                ensure!(entry & PRESENT != 0, "gfn {gfn:#x} is not in memory");
                Ok(entry & FRAME)
            })
            .collect()
    }

    fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("QEMU ended, {status}: {}", sys::read(MESSAGES)?),
            None => Ok(()),
        }
    }

    fn console(&self) -> String {
        sys::read(CONSOLE).unwrap_or_default().replace('\r', "")
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn hva(&self, _gpa: u64) -> Option<u64> {
        None
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
