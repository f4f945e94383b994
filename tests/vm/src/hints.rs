// SPDX-License-Identifier: GPL-2.0
//! The hypercall of `include/uapi/gvahint.h`, well-formed and not.

use crate::code::{self, PORT_DONE};
use crate::layout;
use crate::memory::Memory;
use crate::PAGE;
use anyhow::{bail, ensure, Result};
use kvm_bindings::{kvm_regs, kvm_sregs};
use kvm_ioctls::{VcpuExit, VcpuFd};

/// Number of the hypercall.
pub const HYPERCALL: u64 = 100;
/// Version of the ABI spoken here.
pub const VERSION: u64 = 1;
/// LINEAR's answer if what was reported before still holds.
pub const LINEAR_KEPT: i64 = 1;
/// Operations (a0).
pub mod op {
    #![allow(missing_docs)]
    pub const LINEAR: u64 = 1;
    pub const REPORT: u64 = 2;
    pub const CANARY: u64 = 3;
    pub const BYE: u64 = 4;
    pub const HELLO: u64 = 64;
    pub const WANTED: u64 = 65;
}
/// Kinds of sets.
pub mod kind {
    #![allow(missing_docs)]
    pub const MAPPED: u64 = 1;
    pub const KERNEL_ONLY: u64 = 2;
    pub const PAGE_TABLE: u64 = 3;
    pub const TOO_MANY: u64 = 4;
    pub const REVOKED: u64 = 5;
    pub const ANYWHERE: u64 = 6;
}
/// What CANARY answers.
pub mod canary {
    #![allow(missing_docs)]
    pub const OK: i64 = 0;
    pub const LOST: i64 = 1;
    pub const INCONCLUSIVE: i64 = 2;
}
/// Errors as the guest sees them, negated in rax.
pub mod errno {
    #![allow(missing_docs)]
    pub const EPERM: i64 = -1;
    pub const E2BIG: i64 = -7;
    pub const EFAULT: i64 = -14;
    pub const EINVAL: i64 = -22;
    pub const EOPNOTSUPP: i64 = -95;
    pub const ESTALE: i64 = -116;
    pub const ENOSYS: i64 = -1000;
}

/// Size of `struct gvahint_hello` in bytes.
pub const HELLO_LEN: u64 = 32;
/// Words that fit in one buffer.
pub const BUFFER_WORDS: usize = (PAGE / 8) as usize;

/// From where a hypercall is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 64-bit code at CPL 0: the only legal one.
    Kernel,
    /// 64-bit code at CPL 3.
    User,
    /// A 32-bit code segment at CPL 0 (compatibility mode).
    Compat,
}

/// A vCPU that issues hypercalls from the thread that calls.
pub struct Caller {
    fd: VcpuFd,
    sregs: kvm_sregs,
}

impl Caller {
    pub(crate) fn new(fd: VcpuFd, sregs: kvm_sregs) -> Self {
        Self { fd, sregs }
    }

    /// Issues one hypercall and returns rax.
    pub fn call(&mut self, mode: Mode, args: [u64; 4]) -> Result<i64> {
        let mut sregs = self.sregs;
        let mut rflags = 2;
        match mode {
            Mode::Kernel => {}
            Mode::User => {
                (sregs.cs.dpl, sregs.cs.selector) = (3, 0x33);
                (sregs.ss.dpl, sregs.ss.selector) = (3, 0x2b);
                rflags |= 3 << 12; // IOPL: the port write that ends the call
            }
            Mode::Compat => (sregs.cs.l, sregs.cs.db) = (0, 1),
        }
        self.fd.set_sregs(&sregs)?;
        self.fd.set_regs(&kvm_regs {
            rip: code::call_entry(),
            rflags,
            rax: HYPERCALL,
            rbx: args[0],
            rcx: args[1],
            rdx: args[2],
            rsi: args[3],
            ..Default::default()
        })?;
        loop {
            match self.fd.run() {
                Ok(VcpuExit::IoOut(PORT_DONE, _)) => break,
                Ok(other) => bail!("unexpected exit in a hypercall: {other:?}"),
                Err(error) if error.errno() == libc::EINTR => {}
                Err(error) => bail!("KVM_RUN: {error}"),
            }
        }
        let rax = self.fd.get_regs()?.rax;
        Ok(match mode {
            Mode::Compat => i64::from(rax as i32),
            _ => rax as i64,
        })
    }

    /// The vCPU below, for tests that bend it.
    pub fn fd(&mut self) -> &mut VcpuFd {
        &mut self.fd
    }
}

/// One set of a REPORT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Header word.
    pub header: u64,
    /// gVA words.
    pub gvas: Vec<u64>,
}

impl Set {
    /// Any set, well-formed or not.
    pub fn new(gfn: u64, order: u64, kind: u64, count: u64, gvas: &[u64]) -> Self {
        let header = gfn | order << 40 | kind << 46 | count << 50;
        Self {
            header,
            gvas: gvas.to_vec(),
        }
    }

    /// One page that is reached under `gvas` and the linear ranges only.
    pub fn mapped(gfn: u64, gvas: &[u64]) -> Self {
        Self::new(gfn, 0, kind::MAPPED, gvas.len() as u64, gvas)
    }

    /// One page of a kind without gVAs.
    pub fn of_kind(gfn: u64, kind: u64) -> Self {
        Self::new(gfn, 0, kind, 0, &[])
    }

    fn words(&self) -> impl Iterator<Item = u64> + '_ {
        std::iter::once(self.header).chain(self.gvas.iter().copied())
    }
}

/// One linear range.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// Guest-physical start.
    pub gpa: u64,
    /// Where the guest maps it.
    pub gva: u64,
    /// Bytes.
    pub len: u64,
    /// Size of the guest's pages there.
    pub page_size: u64,
}

/// What HELLO returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// ABI version of the host.
    pub version: u32,
    /// See the uapi header.
    pub lease_ms: u32,
    /// See the uapi header.
    pub poll_ms: u32,
    /// See the uapi header.
    pub max_linear: u32,
    /// See the uapi header.
    pub max_gvas: u32,
    /// See the uapi header.
    pub max_order: u32,
    /// See the uapi header.
    pub max_gfn: u64,
}

/// The guest's side of a session.
pub struct Reporter {
    /// Issues the calls.
    pub caller: Caller,
    /// Session number, 0 before HELLO.
    pub session: u64,
    /// Sequence number of the last call.
    pub seq: u64,
}

impl Reporter {
    /// Nothing said yet.
    pub fn new(caller: Caller) -> Self {
        Self {
            caller,
            session: 0,
            seq: 0,
        }
    }

    /// An operation with the session's next sequence number, whatever comes back.
    pub fn raw(&mut self, op: u64, gpa: u64, len: u64) -> Result<i64> {
        self.seq += 1;
        let a1 = self.session << 32 | self.seq;
        self.caller.call(Mode::Kernel, [op, a1, gpa, len])
    }

    /// The session's number.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// HELLO; `Err` holds what went wrong with the call itself, the value what the host answered.
    pub fn hello(&mut self, memory: &Memory) -> Result<std::result::Result<Hello, i64>> {
        let args = [op::HELLO, VERSION, layout::BUFFER, HELLO_LEN];
        let answer = self.caller.call(Mode::Kernel, args)?;
        if answer <= 0 {
            return Ok(Err(answer));
        }
        (self.session, self.seq) = (answer as u64, 0);
        let word = |i: u64| memory.read(layout::BUFFER + 8 * i);
        let (low, high) = (|w: u64| w as u32, |w: u64| (w >> 32) as u32);
        Ok(Ok(Hello {
            version: low(word(0)),
            lease_ms: high(word(0)),
            poll_ms: low(word(1)),
            max_linear: high(word(1)),
            max_gvas: low(word(2)),
            max_order: high(word(2)),
            max_gfn: word(3),
        }))
    }

    /// LINEAR with the complete list. 0, or [`LINEAR_KEPT`].
    pub fn linear(&mut self, memory: &Memory, ranges: &[Linear]) -> Result<i64> {
        for (i, range) in ranges.iter().enumerate() {
            let words = [range.gpa, range.gva, range.len, range.page_size];
            memory.write_words(layout::BUFFER + 32 * i as u64, &words);
        }
        match ranges.len() as u64 {
            0 => self.raw(op::LINEAR, 0, 0),
            n => self.raw(op::LINEAR, layout::BUFFER, 32 * n),
        }
    }

    /// REPORT of one buffer full of sets, whatever comes back.
    pub fn report(&mut self, memory: &Memory, sets: &[Set]) -> Result<i64> {
        let words: Vec<u64> = sets.iter().flat_map(Set::words).collect();
        ensure!(words.len() <= BUFFER_WORDS, "sets don't fit one buffer");
        memory.write_words(layout::BUFFER, &words);
        self.raw(op::REPORT, layout::BUFFER, 8 * words.len() as u64)
    }

    /// REPORT of any number of sets, which must all be applied.
    pub fn report_all(&mut self, memory: &Memory, sets: &[Set]) -> Result<()> {
        let mut rest = sets;
        while !rest.is_empty() {
            let mut words = 0;
            let fits = rest.iter().take_while(|set| {
                words += 1 + set.gvas.len();
                words <= BUFFER_WORDS
            });
            let count = fits.count();
            let applied = self.report(memory, &rest[..count])?;
            ensure!(applied > 0, "REPORT answered {applied} to {:x?}", rest[0]);
            rest = rest.get(applied as usize..).unwrap_or_default();
        }
        Ok(())
    }

    /// WANTED into a buffer of so many words: what the host named, or its error.
    pub fn wanted(
        &mut self,
        memory: &Memory,
        words: usize,
    ) -> Result<std::result::Result<Vec<u64>, i64>> {
        let answer = self.raw(op::WANTED, layout::BUFFER, 8 * words as u64)?;
        if answer < 0 {
            return Ok(Err(answer));
        }
        ensure!(answer as usize <= words, "WANTED named {answer}");
        let named = (0..answer as u64).map(|i| memory.read(layout::BUFFER + 8 * i));
        Ok(Ok(named.collect()))
    }

    /// One step of CANARY, whatever comes back.
    pub fn canary(&mut self, memory: &Memory, gfn: u64, gva: u64, step: u64) -> Result<i64> {
        memory.write_words(layout::BUFFER, &[gfn, gva, step]);
        self.raw(op::CANARY, layout::BUFFER, 24)
    }

    /// BYE.
    pub fn bye(&mut self) -> Result<i64> {
        self.raw(op::BYE, 0, 0)
    }
}
