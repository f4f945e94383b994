// SPDX-License-Identifier: GPL-2.0
//! Marks of a guest: what the CPUs had counted when it made them.
//!
//! A mark is a write to a port, which leaves the guest. So the counters are read while the guest stands
//! still, and what lies between two marks is counted to the instruction.

use anyhow::{Context, Result};
use gvahint_vm::machine::Machine;
use std::sync::{Mutex, PoisonError};

/// The port, on which no PC has anything.
pub const PORT: u16 = 0x4f0;

/// Guest-mode instructions at each mark so far.
#[derive(Default)]
pub struct Marks(Mutex<Vec<u64>>);

impl Marks {
    /// Takes one; fails on a machine that counts nothing.
    pub fn take(&self) -> Result<()> {
        let machine = Machine::open().context("this machine counts no instructions")?;
        let instructions = machine.snapshot()?.instructions();
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.push(instructions);
        Ok(())
    }

    /// All of them.
    pub fn all(&self) -> Vec<u64> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.clone()
    }
}
