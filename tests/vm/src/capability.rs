// SPDX-License-Identifier: GPL-2.0
//! What the CPU's EPT and VPID can do: IA32_VMX_EPT_VPID_CAP.

use anyhow::{Context, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;

const MSR: u64 = 0x48c;

/// The capabilities that decide how ageing works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// EPT entries have accessed and dirty bits.
    pub ept_ad: bool,
    /// EPT leaves may be of 1 GiB.
    pub ept_giant: bool,
    /// INVVPID drops single addresses.
    pub invvpid_addr: bool,
}

impl Capability {
    /// Asks CPU 0.
    pub fn read() -> Result<Self> {
        let file = File::open("/dev/cpu/0/msr").context("/dev/cpu/0/msr")?;
        let mut word = [0; 8];
        file.read_exact_at(&mut word, MSR)
            .context("IA32_VMX_EPT_VPID_CAP")?;
        let word = u64::from_le_bytes(word);
        Ok(Self {
            ept_ad: word >> 21 & 1 == 1,
            ept_giant: word >> 17 & 1 == 1,
            invvpid_addr: word >> 40 & 1 == 1,
        })
    }
}
