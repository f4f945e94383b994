// SPDX-License-Identifier: GPL-2.0
//! Guest page tables, built in guest memory.

use crate::layout;
use crate::memory::Memory;
use crate::{GIANT, LARGE, PAGE};
use anyhow::{ensure, Result};

const PRESENT_WRITE_USER: u64 = 7;
const PAGE_SIZE_BIT: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// With which pages the guest maps a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestPage {
    /// 4 KiB pages.
    Small,
    /// 2 MiB pages.
    Large,
    /// 1 GiB pages.
    Giant,
}

impl GuestPage {
    /// Size in bytes.
    pub const fn size(self) -> u64 {
        match self {
            Self::Small => PAGE,
            Self::Large => LARGE,
            Self::Giant => GIANT,
        }
    }

    /// log2 of its 4 KiB pages: the order that a REPORT says.
    pub const fn order(self) -> u64 {
        9 * self.level() as u64
    }

    /// Level of its entry in the tables.
    const fn level(self) -> u32 {
        match self {
            Self::Small => 0,
            Self::Large => 1,
            Self::Giant => 2,
        }
    }
}

/// Four levels of tables; table pages are taken one after the other from `layout::TABLES` on.
pub struct Tables {
    next: u64,
}

impl Tables {
    /// An empty root.
    pub const fn empty() -> Self {
        Self {
            next: layout::TABLES + PAGE,
        }
    }

    /// What goes into CR3.
    pub const fn root(&self) -> u64 {
        layout::TABLES
    }

    /// Maps `len` bytes of guest-physical memory at `gva`. A range may be mapped any number of times.
    pub fn map(
        &mut self,
        memory: &Memory,
        gva: u64,
        gpa: u64,
        len: u64,
        page: GuestPage,
    ) -> Result<()> {
        ensure!(
            (gva | gpa | len).is_multiple_of(page.size()),
            "misaligned mapping"
        );
        for offset in (0..len).step_by(page.size() as usize) {
            let (gva, gpa) = (gva.wrapping_add(offset), gpa + offset);
            let slot = self.slot(memory, gva, page.level())?;
            let size_bit = match page {
                GuestPage::Small => 0,
                GuestPage::Large | GuestPage::Giant => PAGE_SIZE_BIT,
            };
            memory.write(slot, gpa | PRESENT_WRITE_USER | size_bit);
        }
        Ok(())
    }

    /// Guest-physical address of the table page that holds the 4 KiB entry of `gva`.
    pub fn leaf_table(&mut self, memory: &Memory, gva: u64) -> Result<u64> {
        Ok(self.slot(memory, gva, 0)? & !(PAGE - 1))
    }

    /// Address of the entry for `gva` at `level` (0 = 4 KiB, 1 = 2 MiB, 2 = 1 GiB), with the tables above it.
    fn slot(&mut self, memory: &Memory, gva: u64, level: u32) -> Result<u64> {
        let mut table = self.root();
        for above in ((level + 1)..4).rev() {
            let slot = table + Self::index(gva, above) * 8;
            let mut entry = memory.read(slot);
            if entry == 0 {
                ensure!(self.next < layout::DATA, "no room for guest page tables");
                entry = self.next | PRESENT_WRITE_USER;
                self.next += PAGE;
                memory.write(slot, entry);
            }
            ensure!(
                entry & PAGE_SIZE_BIT == 0,
                "gva {gva:#x} lies in a large page"
            );
            table = entry & ADDRESS;
        }
        Ok(table + Self::index(gva, level) * 8)
    }

    const fn index(gva: u64, level: u32) -> u64 {
        (gva >> (12 + 9 * level)) & 511
    }
}
