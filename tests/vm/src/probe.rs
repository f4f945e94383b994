// SPDX-License-Identifier: GPL-2.0
//! A guest that does what it is told and nothing else: it waits for an order, without leaving the guest,
//! exits as often as it says, touches the gVAs in it, and answers with the cycles that took.

use crate::layout::{PROBE, PROBE_CODE, PROBE_END};
use crate::memory::Memory;
use crate::vcpu::Vcpu;
use crate::vm::Vm;
use crate::{layout, PAGE};
use anyhow::{bail, ensure, Result};
use kvm_bindings::kvm_regs;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One order.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Exits that KVM handles by itself (a hypercall that does nothing), before anything else.
    pub exits: u64,
    /// How often all gVAs are read, one after the other.
    pub rounds: u64,
    /// Whether the guest drops a gVA (INVLPG) before each read, so that the read walks.
    pub walk: bool,
    /// What is read: a word at each.
    pub gvas: &'a [u64],
}

/// Words of an order from [`PROBE`] on: its number, the answer (the number, cycles), then its fields.
const NUMBER: u64 = PROBE;
const DONE: u64 = PROBE + 8;
const CYCLES: u64 = PROBE + 16;
const EXITS: u64 = PROBE + 24;
const GVAS: u64 = PROBE + 64;
/// gVAs that an order has room for.
pub const MAX_GVAS: usize = ((PROBE_END - GVAS) / 8) as usize;

const PATIENCE: Duration = Duration::from_secs(10);
/// Looks before the host's CPU is given to others.
const SPINS: u32 = 100_000;

core::arch::global_asm!(
    ".pushsection .rodata",
    ".globl gvahint_vm_probe, gvahint_vm_probe_end",
    "gvahint_vm_probe:",
    "xor %ebx, %ebx", // the last order's number
    // Without PAUSE, which would exit.
    "10: mov (%r15), %rax",
    "cmp %rax, %rbx",
    "jne 12f",
    "testb $1, (%r14)",
    "jz 10b",
    "11: out %al, $0x84",
    "jmp 11b",
    "12: mov %rax, %rbx",
    "mov 24(%r15), %r8",  // exits
    "mov 32(%r15), %r9",  // rounds
    "mov 40(%r15), %r10", // walk
    "mov 48(%r15), %r11", // gVAs
    "lfence",
    "rdtsc",
    "lfence",
    "shl $32, %rdx",
    "lea (%rdx, %rax), %r13",
    "13: test %r8, %r8",
    "jz 14f",
    "mov $1, %eax", // KVM_HC_VAPIC_POLL_IRQ
    "vmcall",
    "dec %r8",
    "jmp 13b",
    "14: test %r9, %r9",
    "jz 18f",
    "xor %ecx, %ecx",
    "15: cmp %rcx, %r11",
    "je 17f",
    "mov 64(%r15, %rcx, 8), %rsi",
    "test %r10, %r10",
    "jz 16f",
    "invlpg (%rsi)",
    "16: mov (%rsi), %rdi",
    "inc %rcx",
    "jmp 15b",
    "17: dec %r9",
    "jmp 14b",
    "18: lfence",
    "rdtsc",
    "lfence",
    "shl $32, %rdx",
    "or %rdx, %rax",
    "sub %r13, %rax",
    "mov %rax, 16(%r15)",
    "mov %rbx, 8(%r15)",
    "jmp 10b",
    "gvahint_vm_probe_end:",
    ".popsection",
    options(att_syntax)
);

extern "C" {
    static gvahint_vm_probe: u8;
    static gvahint_vm_probe_end: u8;
}

/// The guest's code, to be copied to [`PROBE_CODE`].
pub(crate) fn image() -> &'static [u8] {
    let (start, end) = (&raw const gvahint_vm_probe, &raw const gvahint_vm_probe_end);
    // SAFETY: Both symbols bound the code above, in this order, in one read-only section.
    unsafe { std::slice::from_raw_parts(start, end as usize - start as usize) }
}

/// A vCPU at its orders; there is one a VM.
pub struct Probe {
    vcpu: Vcpu,
    memory: Arc<Memory>,
}

impl Probe {
    /// Starts it on host CPU `cpu` only.
    pub fn start(vm: &mut Vm, cpu: usize) -> Result<Self> {
        let regs = kvm_regs {
            rip: PROBE_CODE,
            rflags: 2,
            r14: layout::CONTROL,
            r15: PROBE,
            ..Default::default()
        };
        let vcpu = vm.start_at(&regs, Some(cpu))?;
        let memory = vm.shared_memory();
        Ok(Self { vcpu, memory })
    }

    /// Number of the vCPU's thread.
    pub fn tid(&self) -> i32 {
        self.vcpu.tid()
    }

    /// Gives an order, waits until it is done, and returns the cycles of the guest's TSC that it took.
    pub fn run(&self, order: &Order<'_>) -> Result<u64> {
        ensure!(order.gvas.len() <= MAX_GVAS, "too many gVAs for an order");
        self.memory.write_words(GVAS, order.gvas);
        let count = order.gvas.len() as u64;
        let fields = [order.exits, order.rounds, u64::from(order.walk), count];
        self.memory.write_words(EXITS, &fields);
        let number = self.memory.read(NUMBER) + 1;
        self.memory.write(NUMBER, number);
        self.wait(number)?;
        Ok(self.memory.read(CYCLES))
    }

    fn wait(&self, number: u64) -> Result<()> {
        let start = Instant::now();
        loop {
            for _ in 0..SPINS {
                if self.memory.read(DONE) == number {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
            if self.vcpu.is_over() {
                bail!("the vCPU ended");
            }
            if start.elapsed() > PATIENCE {
                bail!("the vCPU does not get on");
            }
            std::thread::yield_now();
        }
    }
}

const _: () = assert!(PROBE_END & (PAGE - 1) == 0 && PROBE_END < layout::TABLES);
