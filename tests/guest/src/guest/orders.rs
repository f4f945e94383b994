// SPDX-License-Identifier: GPL-2.0
//! A guest that is ordered about, and changes of its life from outside.

use super::{Guest, Plan, BOOT_LIMIT};
use crate::mailbox::{self, Phase};
use crate::vmm::Qemu;
use anyhow::{bail, ensure, Context, Result};
use std::time::{Duration, Instant};

/// Machine time in which an order is carried out.
const ORDER_LIMIT: Duration = Duration::from_secs(30);

/// Where the kernel maps its image: `__START_KERNEL_map`.
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

impl Guest {
    /// A guest of which nothing is known yet: it comes from elsewhere with its workload.
    pub fn arrive(plan: &Plan) -> Result<Self> {
        let mut guest = Self::start(plan)?;
        guest.await_phase(Phase::Running, BOOT_LIMIT)?;
        Ok(guest)
    }

    /// Makes the host forget what the guest is at, before that changes.
    fn expect_boot(&self) -> Result<()> {
        self.vm.write(self.mailbox + mailbox::MAGIC, 0)?;
        self.forget_stamps()
    }

    /// Does what ends the kernel that runs, and waits until a workload runs under the next one.
    pub fn reboot(&mut self, how: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.expect_boot()?;
        how(self)?;
        let booted = self.await_boot();
        booted.with_context(|| format!("the guest says {:?}", self.said().unwrap_or_default()))?;
        // Of those that the old one touched until it ended.
        self.forget_stamps()?;
        self.await_sweeps(2, BOOT_LIMIT)
    }

    /// The VMM's process.
    pub fn pid(&self) -> u32 {
        self.vm.pid()
    }

    /// Forgets which pages the workload has touched.
    pub fn forget_stamps(&self) -> Result<()> {
        let end = self.mailbox + mailbox::SIZE;
        self.vm.clear(self.mailbox + mailbox::STAMPS..end)
    }

    /// Gives an order, and does not wait. Only for guests with `gvahint.orders=1`.
    pub fn tell(&self, order: &str) -> Result<u64> {
        let room = (mailbox::ANSWER - mailbox::ORDER_TEXT) as usize;
        ensure!(order.len() < room, "an order that long: {order}");
        let mut bytes = order.bytes();
        for offset in (mailbox::ORDER_TEXT..mailbox::ANSWER).step_by(8) {
            let word = [(); 8].map(|()| bytes.next().unwrap_or(0));
            self.vm
                .write(self.mailbox + offset, u64::from_le_bytes(word))?;
        }
        let number = self.word(mailbox::ORDER)? + 1;
        self.vm.write(self.mailbox + mailbox::ORDER, number)?;
        Ok(number)
    }

    /// Whether that order was carried out.
    pub fn obeyed(&self, number: u64) -> Result<bool> {
        Ok(self.word(mailbox::ORDER_DONE)? == number)
    }

    /// Gives an order, and returns what came of it.
    pub fn order(&mut self, order: &str) -> Result<String> {
        let number = self.tell(order)?;
        self.answer(number).with_context(|| order.to_owned())
    }

    /// Waits until that order was carried out.
    pub fn answer(&mut self, number: u64) -> Result<String> {
        let (start, limit) = (Instant::now(), self.patience(ORDER_LIMIT));
        while !self.obeyed(number)? {
            ensure!(
                start.elapsed() < limit,
                "not done after {limit:?}; console:\n{}",
                self.console()
            );
            self.await_phase(Phase::Running, limit)?;
            gvahint_vm::sys::sleep_ms(5);
        }
        let answer = self.said()?;
        match self.word(mailbox::ORDER_FAILED)? {
            0 => Ok(answer),
            _ => bail!("the guest: {answer}"),
        }
    }

    /// Sets 32 bits of a variable of the guest's kernel, from outside; returns what they were. The small
    /// VMM's guests only, whose kernel lies where it was linked.
    pub fn set_variable(&mut self, name: &str, value: u32) -> Result<u32> {
        let address = self.order(&format!("symbol {name}"))?;
        let gpa = u64::from_str_radix(&address, 16)?.checked_sub(KERNEL_MAP);
        let gpa = gpa.with_context(|| format!("{name} lies at {address}"))?;
        let (word, shift) = (gpa / 8 * 8, gpa % 8 * 8);
        let all = self.vm.read(word)?;
        let others = all & !(u64::from(u32::MAX) << shift);
        self.vm.write(word, others | u64::from(value) << shift)?;
        Ok((all >> shift) as u32)
    }

    fn said(&self) -> Result<String> {
        self.text(mailbox::ANSWER..mailbox::STAMPS)
    }

    /// The VM as QEMU.
    pub fn qemu(&mut self) -> Result<&mut Qemu> {
        self.vm.qemu().context("this guest's VMM is not QEMU")
    }
}
