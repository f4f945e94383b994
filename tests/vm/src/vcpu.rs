// SPDX-License-Identifier: GPL-2.0
//! vCPU threads.

use crate::code::{PORT_DONE, PORT_SWEEP};
use crate::layout;
use crate::memory::Memory;
use crate::sys;
use anyhow::{anyhow, bail, Result};
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::sync::{mpsc, Arc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running vCPU. Dropping it stops the guest and waits for the thread.
pub struct Vcpu {
    index: usize,
    tid: i32,
    memory: Arc<Memory>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Vcpu {
    /// Runs `fd` in a thread of its own, on host CPU `cpu` only if one is given.
    pub(crate) fn spawn(
        fd: VcpuFd,
        memory: Arc<Memory>,
        index: usize,
        cpu: Option<usize>,
    ) -> Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let shared = Arc::clone(&memory);
        let thread = std::thread::Builder::new()
            .name(format!("vcpu{index}"))
            .spawn(move || {
                let pinned = match cpu {
                    Some(cpu) => sys::pin(0, cpu),
                    None => sys::unpin(0),
                };
                // The receiver waits below.
                let _ = sender.send(sys::gettid());
                pinned?;
                run(fd, &shared)
            })?;
        let tid = receiver.recv()?;
        Ok(Self {
            index,
            tid,
            memory,
            thread: Some(thread),
        })
    }

    /// Complete sweeps so far: the guest's work and the ground truth of what it touched.
    pub fn sweeps(&self) -> u64 {
        self.memory
            .read(layout::CONTROL + layout::counter(self.index))
    }

    /// Waits until `more` further sweeps were completed. One more than asked for is awaited, because
    /// the first may have begun earlier.
    pub fn await_sweeps(&self, more: u64, limit: Duration) -> Result<()> {
        let (goal, start) = (self.sweeps() + more + 1, Instant::now());
        while self.sweeps() < goal {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                bail!("vCPU {} ended", self.index);
            }
            if start.elapsed() > limit {
                bail!("vCPU {} does not get on", self.index);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Moves the thread to another host CPU.
    pub fn pin(&self, cpu: usize) -> Result<()> {
        sys::pin(self.tid, cpu)
    }

    /// Waits for the end; whoever calls has stopped the guest.
    pub fn join(mut self) -> Result<()> {
        self.wait()
    }

    fn wait(&mut self) -> Result<()> {
        match self.thread.take() {
            Some(thread) => thread
                .join()
                .map_err(|_| anyhow!("vCPU {} panicked", self.index))?,
            None => Ok(()),
        }
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        self.memory.write(layout::CONTROL, 1);
        if let Err(error) = self.wait() {
            eprintln!("# {error:#}");
        }
    }
}

fn run(mut fd: VcpuFd, memory: &Memory) -> Result<()> {
    loop {
        match fd.run() {
            Ok(VcpuExit::IoOut(PORT_SWEEP, _)) => {}
            Ok(VcpuExit::IoOut(PORT_DONE, _)) => return Ok(()),
            Ok(VcpuExit::Hlt) => {
                if memory.read(layout::CONTROL) != 0 {
                    return Ok(());
                }
            }
            Ok(other) => bail!("unexpected exit: {other:?}"),
            Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {}
            Err(error) => bail!("KVM_RUN: {error}"),
        }
    }
}
