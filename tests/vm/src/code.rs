// SPDX-License-Identifier: GPL-2.0
//! The guest's machine code: position-independent, one call deep, without interrupts.

use kvm_bindings::kvm_regs;

use crate::layout;

/// How the guest touches a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Reads a word.
    Read,
    /// Increments a word.
    Write,
}

/// What the guest does after each sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing: it never exits by itself.
    Nothing,
    /// A port write: a full exit, up to this process.
    Out,
    /// Disarms the TSC deadline: KVM re-enters on its fast path. Needs the in-kernel irqchip.
    FastReentry,
    /// Reloads CR3 and drops one gVA: flushes that KVM doesn't see. No exit.
    OwnFlush,
    /// Halts: an exit to this process without the in-kernel irqchip.
    Halt,
}

/// A run of pages under consecutive gVAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// gVA of the first page.
    pub gva: u64,
    /// Number of pages; 0 for none.
    pub pages: u64,
}

impl Region {
    /// No pages.
    pub const EMPTY: Self = Self { gva: 0, pages: 0 };
}

/// What a vCPU does until it is stopped: touch each page of both regions, count the sweep, and then `after`.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// Touched first.
    pub first: Region,
    /// Touched second.
    pub second: Region,
    /// How pages are touched.
    pub touch: Touch,
    /// What follows a sweep.
    pub after: After,
}

/// Port of [`After::Out`].
pub const PORT_SWEEP: u16 = 0x80;
/// Port written when the guest stopped, or when a hypercall returned.
pub const PORT_DONE: u16 = 0x84;

core::arch::global_asm!(
    ".pushsection .rodata",
    ".globl gvahint_vm_sweep, gvahint_vm_call, gvahint_vm_end",
    "gvahint_vm_sweep:",
    "mov %rdi, %r9",
    "mov %rsi, %r10",
    "call 20f",
    "mov %r11, %r9",
    "mov %r12, %r10",
    "call 20f",
    "incq (%r14, %r15)",
    "cmp $1, %r13",
    "jb 9f",
    "je 6f",
    "cmp $2, %r13",
    "je 7f",
    "cmp $3, %r13",
    "je 8f",
    "hlt",
    "jmp 9f",
    "6: out %al, $0x80",
    "jmp 9f",
    "7: mov $0x6e0, %ecx", // IA32_TSC_DEADLINE
    "xor %eax, %eax",
    "xor %edx, %edx",
    "wrmsr",
    "jmp 9f",
    "8: mov %cr3, %rax",
    "mov %rax, %cr3",
    "invlpg (%rdi)",
    // Asked to leave once? (The vCPU's thread clears the word.)
    "9: cmpq $0, 8(%r14, %r15)",
    "je 31f",
    "out %al, $0x80",
    "31: testb $1, (%r14)",
    "jz gvahint_vm_sweep",
    "30: out %al, $0x84",
    "jmp 30b",
    // Touches r10 pages from r9 on.
    "20: test %r10, %r10",
    "jz 25f",
    "test %r8, %r8",
    "jnz 22f",
    "21: mov (%r9), %rax",
    "add $4096, %r9",
    "dec %r10",
    "jnz 21b",
    "ret",
    "22: incq (%r9)",
    "add $4096, %r9",
    "dec %r10",
    "jnz 22b",
    "25: ret",
    ".balign 16",
    // The same bytes in 64-bit and in 32-bit code segments.
    "gvahint_vm_call:",
    "vmcall",
    "1: out %al, $0x84",
    "jmp 1b",
    "gvahint_vm_end:",
    ".popsection",
    options(att_syntax)
);

extern "C" {
    static gvahint_vm_sweep: u8;
    static gvahint_vm_call: u8;
    static gvahint_vm_end: u8;
}

/// The guest's code, to be copied to [`layout::CODE`].
pub fn image() -> &'static [u8] {
    let (start, end) = (&raw const gvahint_vm_sweep, &raw const gvahint_vm_end);
    // SAFETY: Both symbols bound the code above, in this order, in one read-only section.
    unsafe { std::slice::from_raw_parts(start, end as usize - start as usize) }
}

/// Guest address of the routine that issues one hypercall.
pub fn call_entry() -> u64 {
    let (start, call) = (&raw const gvahint_vm_sweep, &raw const gvahint_vm_call);
    layout::CODE + (call as u64 - start as u64)
}

/// Registers with which vCPU `index` starts to sweep.
pub fn sweep_regs(index: usize, sweep: &Sweep) -> kvm_regs {
    kvm_regs {
        rip: layout::CODE,
        rflags: 2,
        rsp: layout::stack(index),
        rdi: sweep.first.gva,
        rsi: sweep.first.pages,
        r11: sweep.second.gva,
        r12: sweep.second.pages,
        r8: matches!(sweep.touch, Touch::Write).into(),
        r13: match sweep.after {
            After::Nothing => 0,
            After::Out => 1,
            After::FastReentry => 2,
            After::OwnFlush => 3,
            After::Halt => 4,
        },
        r14: layout::CONTROL,
        r15: layout::counter(index),
        ..Default::default()
    }
}
