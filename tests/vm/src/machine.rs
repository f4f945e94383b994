// SPDX-License-Identifier: GPL-2.0
//! Counters of the emulated machine, by its device at ports 0x4E0. No other machine has it.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

const COMMAND: u64 = 0x4e0;
const DATA: u64 = 0x4e1;
const PRESENCE: u64 = 0x4e3;
const MAGIC: u8 = 0x47;

/// Vectors by which one CPU asks another to leave the guest: reschedule and both function calls.
const KICK_VECTORS: [&str; 3] = ["251", "252", "253"];

/// The device.
pub struct Machine {
    ports: File,
}

/// INVEPT by type.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Invept {
    /// Single context.
    pub single: u64,
    /// All contexts.
    pub all: u64,
    /// VMfail.
    pub failed: u64,
}

/// INVVPID by type.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Invvpid {
    /// Individual address.
    pub addr: u64,
    /// Single context.
    pub single: u64,
    /// All contexts.
    pub all: u64,
    /// Single context but globals.
    pub nonglobal: u64,
    /// VMfail.
    pub failed: u64,
}

/// Guest mode under one VPID.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Guest {
    /// 0: VPID off.
    pub vpid: u64,
    /// Instructions retired.
    pub instructions: u64,
    /// Misses of the modelled TLB.
    pub tlb_misses: u64,
    /// References of page walks to guest tables.
    pub walk_refs_guest: u64,
    /// References of page walks to EPT tables.
    pub walk_refs_ept: u64,
    /// EPT leaves whose accessed bit was set.
    pub ept_accessed_set: u64,
}

/// One CPU.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Cpu {
    /// Its number.
    pub cpu: usize,
    /// INVEPT executed.
    pub invept: Invept,
    /// INVVPID executed.
    pub invvpid: Invvpid,
    /// VM entries.
    pub entries: u64,
    /// VM exits.
    pub exits: u64,
    /// VM exits by basic reason.
    pub exit_reasons: BTreeMap<String, u64>,
    /// VM exits for external interrupts by vector.
    pub interrupt_exits: BTreeMap<String, u64>,
    /// Guest mode by VPID.
    pub guest: Vec<Guest>,
}

/// All counters at one moment.
#[derive(Clone, Debug, Deserialize)]
pub struct Snapshot {
    /// `combined-only`, `leaf-cached`, `fragments` or `off`.
    pub profile: String,
    /// `large` or `small`.
    pub tlb: String,
    /// By CPU.
    pub cpus: Vec<Cpu>,
}

impl Machine {
    /// The device, or `None` on a machine that has none.
    pub fn open() -> Option<Self> {
        let ports = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/port")
            .ok()?;
        let machine = Self { ports };
        (machine.read(PRESENCE).ok()? == MAGIC).then_some(machine)
    }

    /// Zeroes all counters.
    pub fn reset(&self) -> Result<()> {
        self.command(b'R')
    }

    /// All counters now.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.command(b'S')?;
        let mut text = Vec::new();
        loop {
            match self.read(DATA)? {
                0 => break,
                byte => text.push(byte),
            }
        }
        serde_json::from_slice(&text).context("snapshot of the machine's counters")
    }

    fn command(&self, byte: u8) -> Result<()> {
        self.ports
            .write_all_at(&[byte], COMMAND)
            .context("machine device")
    }

    fn read(&self, port: u64) -> Result<u8> {
        let mut byte = [0];
        self.ports
            .read_exact_at(&mut byte, port)
            .context("machine device")?;
        Ok(byte[0])
    }
}

impl Snapshot {
    fn sum(&self, of: impl Fn(&Cpu) -> u64) -> u64 {
        self.cpus.iter().map(of).sum()
    }

    fn guests(&self, of: impl Fn(&Guest) -> u64) -> u64 {
        self.sum(|cpu| cpu.guest.iter().map(&of).sum())
    }

    /// INVEPT, all types.
    pub fn invept(&self) -> u64 {
        self.sum(|cpu| cpu.invept.single + cpu.invept.all)
    }

    /// INVVPID of one address.
    pub fn invvpid_addr(&self) -> u64 {
        self.sum(|cpu| cpu.invvpid.addr)
    }

    /// INVVPID of a context or more.
    pub fn invvpid_context(&self) -> u64 {
        self.sum(|cpu| cpu.invvpid.single + cpu.invvpid.all + cpu.invvpid.nonglobal)
    }

    /// INVEPT and INVVPID that failed.
    pub fn failed(&self) -> u64 {
        self.sum(|cpu| cpu.invept.failed + cpu.invvpid.failed)
    }

    /// VM entries.
    pub fn entries(&self) -> u64 {
        self.sum(|cpu| cpu.entries)
    }

    /// VM exits.
    pub fn exits(&self) -> u64 {
        self.sum(|cpu| cpu.exits)
    }

    /// VM exits for one basic reason.
    pub fn exits_for(&self, reason: u32) -> u64 {
        let key = reason.to_string();
        self.sum(|cpu| cpu.exit_reasons.get(&key).copied().unwrap_or(0))
    }

    /// VM exits because another CPU asked for one.
    pub fn kicks(&self) -> u64 {
        let of = |cpu: &Cpu, v: &str| cpu.interrupt_exits.get(v).copied().unwrap_or(0);
        self.sum(|cpu| KICK_VECTORS.iter().map(|v| of(cpu, v)).sum())
    }

    /// Guest-mode TLB misses.
    pub fn tlb_misses(&self) -> u64 {
        self.guests(|guest| guest.tlb_misses)
    }

    /// EPT leaves whose accessed bit came back, in guest mode.
    pub fn accessed(&self) -> u64 {
        self.guests(|guest| guest.ept_accessed_set)
    }

    /// Guest-mode page walk references, guest and EPT tables.
    pub fn walk_refs(&self) -> u64 {
        self.guests(|guest| guest.walk_refs_guest + guest.walk_refs_ept)
    }

    /// Guest-mode instructions.
    pub fn instructions(&self) -> u64 {
        self.guests(|guest| guest.instructions)
    }
}
