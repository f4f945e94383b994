// SPDX-License-Identifier: GPL-2.0
//! vCPU threads.

use crate::code::{PORT_DONE, PORT_SWEEP};
use crate::layout;
use crate::memory::Memory;
use crate::sys;
use anyhow::{anyhow, bail, Result};
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::sync::{mpsc, Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Offset in `struct kvm_steal_time`, and KVM_VCPU_PREEMPTED | KVM_VCPU_FLUSH_TLB.
const PREEMPTED: u64 = 16;
const PREEMPTED_FLUSH_TLB: u64 = 3;

const STEP_LIMIT: Duration = Duration::from_secs(10);

/// Holds a vCPU back between two sweeps, outside the guest.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    /// Sweeps that may still begin; `None`: any number.
    allowed: Option<u64>,
    parked: bool,
}

impl Gate {
    /// Called by the vCPU's thread at the end of a sweep.
    fn pass(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.allowed == Some(0) {
            state.parked = true;
            self.changed.notify_all();
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.parked = false;
        state.allowed = state.allowed.map(|n| n - 1);
    }

    /// Allows `sweeps` more, and waits until they are done unless there is no limit.
    fn allow(&self, sweeps: Option<u64>, limit: Duration) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.allowed, state.parked) = (sweeps, false);
        self.changed.notify_all();
        if sweeps.is_none() {
            return Ok(());
        }
        let waiting = |state: &mut GateState| !state.parked;
        let (state, timeout) = self
            .changed
            .wait_timeout_while(state, limit, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        if timeout.timed_out() {
            bail!("the vCPU does not come to the end of its sweeps");
        }
        Ok(())
    }
}

/// A running vCPU. Dropping it stops the guest and waits for the thread.
pub struct Vcpu {
    index: usize,
    tid: i32,
    memory: Arc<Memory>,
    gate: Arc<Gate>,
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
        let gate = Arc::new(Gate::default());
        let passed = Arc::clone(&gate);
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
                run(fd, &shared, index, &passed)
            })?;
        let tid = receiver.recv()?;
        Ok(Self {
            index,
            tid,
            memory,
            gate,
            thread: Some(thread),
        })
    }

    /// Number of its thread.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// Whether its thread has ended.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
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
            if self.is_over() {
                bail!("vCPU {} ended", self.index);
            }
            if start.elapsed() > limit {
                bail!("vCPU {} does not get on", self.index);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Stops the vCPU after its current sweep, outside the guest, and waits until it stands. The guest
    /// must exit to this process at every sweep ([`crate::code::After::Out`]).
    pub fn hold(&self) -> Result<()> {
        self.step(0)
    }

    /// Lets a vCPU that stands run exactly `sweeps` sweeps, and waits until it stands again.
    pub fn step(&self, sweeps: u64) -> Result<()> {
        self.gate.allow(Some(sweeps), STEP_LIMIT)
    }

    /// Lets a vCPU that stands run on.
    pub fn release(&self) -> Result<()> {
        self.gate.allow(None, STEP_LIMIT)
    }

    /// Asks the guest to leave once, after its current sweep: an exit and an entry without a kick.
    pub fn leave_once(&self) {
        self.memory
            .write(layout::CONTROL + layout::leave(self.index), 1);
    }

    /// Asks KVM, as the guest's code on another vCPU would, to flush the context of this one, which
    /// stands outside the guest, at its next entry. Needs [`crate::vm::Config::steal_time`].
    pub fn ask_for_flush(&self) {
        let preempted = layout::steal_time(self.index) + PREEMPTED;
        self.memory.write(preempted, PREEMPTED_FLUSH_TLB);
    }

    /// Forces the vCPU out of the guest once, by a signal that does nothing else.
    pub fn interrupt(&self) -> Result<()> {
        sys::nudge(self.tid)
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
        // Without a limit there is nothing to wait for, so that this can't fail.
        self.release().ok();
        if let Err(error) = self.wait() {
            eprintln!("# {error:#}");
        }
    }
}

fn run(mut fd: VcpuFd, memory: &Memory, index: usize, gate: &Gate) -> Result<()> {
    loop {
        match fd.run() {
            Ok(VcpuExit::IoOut(PORT_SWEEP, _)) => {
                memory.write(layout::CONTROL + layout::leave(index), 0);
                gate.pass();
            }
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
