// SPDX-License-Identifier: GPL-2.0
//! The guest's console: what it writes is kept, to be shown when something goes wrong.

use kvm_ioctls::VmFd;
use std::io::{Result, Write};
use std::sync::{Arc, Mutex, PoisonError};
use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};

/// First port of the first serial line.
pub const PORT: u16 = 0x3f8;
const PORTS: u16 = 8;
const IRQ: u32 = 4;

/// Raises the serial line's interrupt: an edge.
pub struct Line(Arc<VmFd>);

impl Trigger for Line {
    type E = kvm_ioctls::Error;

    fn trigger(&self) -> std::result::Result<(), Self::E> {
        self.0.set_irq_line(IRQ, true)?;
        self.0.set_irq_line(IRQ, false)
    }
}

/// Text that grows.
#[derive(Clone, Default)]
pub struct Text(Arc<Mutex<Vec<u8>>>);

impl Text {
    /// All so far.
    pub fn get(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The line, shared by all vCPUs.
pub struct Console(Mutex<Serial<Line, NoEvents, Text>>);

impl Console {
    /// A line that writes to `text`.
    pub fn new(vm: Arc<VmFd>, text: Text) -> Self {
        Self(Mutex::new(Serial::new(Line(vm), text)))
    }

    /// Whether a port is one of the line's.
    pub fn has(port: u16) -> bool {
        (PORT..PORT + PORTS).contains(&port)
    }

    /// A byte from the guest. What goes wrong here shows in the text.
    pub fn write(&self, port: u16, byte: u8) {
        let mut serial = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        serial.write((port - PORT) as u8, byte).ok();
    }

    /// A byte for the guest.
    pub fn read(&self, port: u16) -> u8 {
        let mut serial = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        serial.read((port - PORT) as u8)
    }
}
