// SPDX-License-Identifier: GPL-2.0
//! Marks: moments that the host counts instructions between (see `vmm/marks.rs`).

use crate::vmm::marks::PORT;
use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

/// Ports of the guest.
pub struct Marks(File);

impl Marks {
    /// Fails without /dev/port.
    pub fn open() -> Result<Self> {
        let ports = OpenOptions::new().write(true).open("/dev/port");
        Ok(Self(ports.context("/dev/port")?))
    }

    /// Makes one.
    pub fn make(&self) -> Result<()> {
        self.0.write_all_at(&[0], PORT.into()).context("mark")
    }
}
