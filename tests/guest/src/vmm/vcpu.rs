// SPDX-License-Identifier: GPL-2.0
//! vCPU threads of a Linux guest.

use super::marks::{self, Marks};
use super::serial::Console;
use anyhow::{bail, Result};
use gvahint_vm::sys;
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{mpsc, Arc};
use std::thread::JoinHandle;

/// The keyboard controller's command port, and the command that resets the machine.
const KEYBOARD: u16 = 0x64;
const RESET: u8 = 0xfe;
/// System control port B: bit 5 is the output of the timer's channel 2.
const CONTROL_B: u16 = 0x61;
const TIMER_OUTPUT: u8 = 0x20;
/// CMOS data: a clock that is not updating and has no alarm.
const CMOS: u16 = 0x71;

/// A running vCPU. Dropping it ends its thread.
pub struct Vcpu {
    tid: i32,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Vcpu {
    /// Runs `fd` in a thread of its own, on host CPU `cpu` only.
    pub fn spawn(
        fd: VcpuFd,
        index: usize,
        cpu: usize,
        console: Arc<Console>,
        marks: Arc<Marks>,
    ) -> Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name(format!("vcpu{index}"))
            .spawn(move || {
                let pinned = sys::pin(0, cpu);
                // The receiver waits below.
                let _ = sender.send(sys::gettid());
                pinned?;
                run(fd, &console, &marks, &asked)
            })?;
        Ok(Self {
            tid: receiver.recv()?,
            stop,
            thread: Some(thread),
        })
    }

    /// Why the vCPU ended, if it did.
    pub fn ended(&mut self) -> Option<String> {
        let thread = self.thread.take_if(|thread| thread.is_finished())?;
        Some(match thread.join() {
            Ok(Ok(())) => "the guest reset itself".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "a vCPU's thread panicked".to_owned(),
        })
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.take() else {
            return;
        };
        // A signal that comes just before KVM_RUN interrupts nothing: send it until it did.
        while !thread.is_finished() {
            sys::nudge(self.tid).ok();
            sys::sleep_ms(1);
        }
        if let Ok(Err(error)) = thread.join() {
            println!("{error:#}");
        }
    }
}

fn run(mut fd: VcpuFd, console: &Console, marks: &Marks, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::SeqCst) {
        match fd.run() {
            Ok(VcpuExit::IoOut(KEYBOARD, [RESET])) | Ok(VcpuExit::Shutdown) => return Ok(()),
            Ok(VcpuExit::IoOut(port, bytes)) if Console::has(port) => {
                bytes.iter().for_each(|byte| console.write(port, *byte));
            }
            Ok(VcpuExit::IoOut(marks::PORT, _)) => marks.take()?,
            Ok(VcpuExit::IoIn(port, bytes)) => {
                for byte in bytes {
                    *byte = match port {
                        CONTROL_B => TIMER_OUTPUT,
                        CMOS => 0,
                        _ if Console::has(port) => console.read(port),
                        _ => 0xff,
                    };
                }
            }
            Ok(VcpuExit::MmioRead(_, bytes)) => bytes.fill(0xff),
            Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..) | VcpuExit::Hlt) => {}
            Ok(other) => bail!("unexpected exit: {other:?}"),
            Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {}
            Err(error) => bail!("KVM_RUN: {error}"),
        }
    }
    Ok(())
}
