// SPDX-License-Identifier: GPL-2.0
/*
 * VMX operation on one CPU, one VMCS whose tags change from entry to entry,
 * and the instructions under test. Runs with interrupts off.
 */
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <asm/cpu_entry_area.h>
#include <asm/cpufeature.h>
#include <asm/desc.h>
#include <asm/msr.h>
#include <asm/tlbflush.h>
#include <asm/vmx.h>
#include "model.h"

extern const u8 model_guest[], model_guest_end[], model_ops[];
int model_enter(struct guest_regs *regs, bool launched);

#define MODEL_CR4	(X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_VMXE)
#define MODEL_CR0	(X86_CR0_PE | X86_CR0_PG | X86_CR0_WP | X86_CR0_NE | X86_CR0_ET)

static void *vmxon_region, *vmcs;
static bool launched, running;

static void vmwrite(unsigned long field, u64 value)
{
	asm volatile("vmwrite %1, %0" :: "r"(field), "r"(value) : "cc");
}

static u64 vmread(unsigned long field)
{
	u64 value;

	asm volatile("vmread %1, %0" : "=r"(value) : "r"(field) : "cc");
	return value;
}

u32 vmx_instruction_error(void)
{
	return vmread(VM_INSTRUCTION_ERROR);
}

u64 vmx_ept_vpid_cap(void)
{
	u64 cap;

	rdmsrl(MSR_IA32_VMX_EPT_VPID_CAP, cap);
	return cap;
}

u64 vmx_eptp(unsigned int ept)
{
	return tables_ept_root(ept) | VMX_EPTP_MT_WB | VMX_EPTP_PWL_4 |
	       ((vmx_ept_vpid_cap() & VMX_EPT_AD_BIT) ? VMX_EPTP_AD_ENABLE_BIT : 0);
}

/* Both take a type of 64 bits, and say how the instruction ended. */
int invvpid(u64 type, u64 lo, u64 hi)
{
	struct { u64 lo, hi; } desc = { lo, hi };
	bool cf, zf;

	asm volatile("invvpid %3, %2" : "=@ccc"(cf), "=@ccz"(zf) : "r"(type), "m"(desc) : "memory");
	return cf | zf << 1;
}

int invept(u64 type, u64 lo, u64 hi)
{
	struct { u64 lo, hi; } desc = { lo, hi };
	bool cf, zf;

	asm volatile("invept %3, %2" : "=@ccc"(cf), "=@ccz"(zf) : "r"(type), "m"(desc) : "memory");
	return cf | zf << 1;
}

void host_invpcid(u64 type, u64 pcid, u64 addr)
{
	struct { u64 pcid, addr; } desc = { pcid, addr };

	asm volatile("invpcid %1, %0" :: "r"(type), "m"(desc) : "memory");
}

/* @want, as far as the capability MSR allows; what it demands as well. */
static u32 controls(u32 msr, u32 want)
{
	u32 must, may;

	rdmsr(msr, must, may);
	return (want | must) & may;
}

static void write_host_state(void)
{
	struct desc_ptr gdt, idt;
	unsigned int cpu = raw_smp_processor_id();
	u64 base;
	u32 lo, hi;

	native_store_gdt(&gdt);
	store_idt(&idt);
	vmwrite(HOST_CR0, read_cr0());
	vmwrite(HOST_CR3, __read_cr3());
	vmwrite(HOST_CR4, __read_cr4());
	vmwrite(HOST_CS_SELECTOR, __KERNEL_CS);
	vmwrite(HOST_SS_SELECTOR, __KERNEL_DS);
	vmwrite(HOST_DS_SELECTOR, 0);
	vmwrite(HOST_ES_SELECTOR, 0);
	vmwrite(HOST_FS_SELECTOR, 0);
	vmwrite(HOST_GS_SELECTOR, 0);
	vmwrite(HOST_TR_SELECTOR, GDT_ENTRY_TSS * 8);
	rdmsrl(MSR_FS_BASE, base);
	vmwrite(HOST_FS_BASE, base);
	rdmsrl(MSR_GS_BASE, base);
	vmwrite(HOST_GS_BASE, base);
	vmwrite(HOST_TR_BASE, (u64)&get_cpu_entry_area(cpu)->tss.x86_tss);
	vmwrite(HOST_GDTR_BASE, gdt.address);
	vmwrite(HOST_IDTR_BASE, idt.address);
	rdmsr(MSR_IA32_SYSENTER_CS, lo, hi);
	vmwrite(HOST_IA32_SYSENTER_CS, lo);
	rdmsrl(MSR_IA32_SYSENTER_ESP, base);
	vmwrite(HOST_IA32_SYSENTER_ESP, base);
	rdmsrl(MSR_IA32_SYSENTER_EIP, base);
	vmwrite(HOST_IA32_SYSENTER_EIP, base);
}

static void write_segment(unsigned int n, u16 selector, u32 limit, u32 rights)
{
	/* the fields of the eight registers are two apart */
	vmwrite(GUEST_ES_SELECTOR + 2 * n, selector);
	vmwrite(GUEST_ES_LIMIT + 2 * n, limit);
	vmwrite(GUEST_ES_AR_BYTES + 2 * n, rights);
	vmwrite(GUEST_ES_BASE + 2 * n, 0);
}

static void write_guest_state(void)
{
	unsigned int n;

	for (n = 0; n < 6; n++)
		write_segment(n, 16, ~0u, 0xc093);	/* data, writable */
	write_segment(1, 8, ~0u, 0xa09b);		/* CS, 64-bit */
	write_segment(6, 0, 0, 0x10000);		/* LDTR, unusable */
	write_segment(7, 24, 0x67, 0x8b);		/* TR, busy */
	vmwrite(GUEST_GDTR_BASE, 0);
	vmwrite(GUEST_GDTR_LIMIT, 0);
	vmwrite(GUEST_IDTR_BASE, 0);
	vmwrite(GUEST_IDTR_LIMIT, 0);
	vmwrite(GUEST_DR7, 0x400);
	vmwrite(GUEST_RFLAGS, 2);
	vmwrite(GUEST_RSP, 0);
	vmwrite(GUEST_SYSENTER_CS, 0);
	vmwrite(GUEST_SYSENTER_ESP, 0);
	vmwrite(GUEST_SYSENTER_EIP, 0);
	vmwrite(GUEST_IA32_DEBUGCTL, 0);
	vmwrite(GUEST_INTERRUPTIBILITY_INFO, 0);
	vmwrite(GUEST_ACTIVITY_STATE, 0);
	vmwrite(GUEST_PENDING_DBG_EXCEPTIONS, 0);
	vmwrite(VMCS_LINK_POINTER, ~0ull);
	vmwrite(GUEST_CR0, MODEL_CR0);
}

static void write_controls(void)
{
	/* the TRUE registers let go of CR3 exiting */
	vmwrite(PIN_BASED_VM_EXEC_CONTROL, controls(MSR_IA32_VMX_TRUE_PINBASED_CTLS, 0));
	vmwrite(CPU_BASED_VM_EXEC_CONTROL,
		controls(MSR_IA32_VMX_TRUE_PROCBASED_CTLS, CPU_BASED_ACTIVATE_SECONDARY_CONTROLS));
	vmwrite(VM_EXIT_CONTROLS, controls(MSR_IA32_VMX_TRUE_EXIT_CTLS, VM_EXIT_HOST_ADDR_SPACE_SIZE));
	vmwrite(VM_ENTRY_CONTROLS, controls(MSR_IA32_VMX_TRUE_ENTRY_CTLS, VM_ENTRY_IA32E_MODE));
	vmwrite(EXCEPTION_BITMAP, ~0u);
	vmwrite(PAGE_FAULT_ERROR_CODE_MASK, 0);
	vmwrite(PAGE_FAULT_ERROR_CODE_MATCH, 0);
	vmwrite(CR3_TARGET_COUNT, 0);
	vmwrite(VM_EXIT_MSR_STORE_COUNT, 0);
	vmwrite(VM_EXIT_MSR_LOAD_COUNT, 0);
	vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 0);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, 0);
	vmwrite(CR0_GUEST_HOST_MASK, 0);
	vmwrite(CR4_GUEST_HOST_MASK, 0);
}

static void write_context(const struct ctx *ctx)
{
	u32 secondary = SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_ENABLE_INVPCID;

	if (ctx->vpid)
		secondary |= SECONDARY_EXEC_ENABLE_VPID;
	vmwrite(SECONDARY_VM_EXEC_CONTROL, controls(MSR_IA32_VMX_PROCBASED_CTLS2, secondary));
	vmwrite(VIRTUAL_PROCESSOR_ID, ctx->vpid);
	vmwrite(EPT_POINTER, vmx_eptp(ctx->ept));
	vmwrite(GUEST_CR3, tables_cr3() | ctx->pcid);
	vmwrite(GUEST_CR4, MODEL_CR4);
}

int guest_run(const struct ctx *ctx, enum guest_op op, struct guest_regs *regs)
{
	struct desc_ptr gdt, idt;
	int failed;
	u32 reason;

	native_store_gdt(&gdt);
	store_idt(&idt);
	write_host_state();
	write_guest_state();
	write_context(ctx);
	vmwrite(GUEST_RIP, GVA_CODE + model_ops[op]);
	failed = model_enter(regs, launched);
	/* a VM exit sets both limits to the largest */
	native_load_gdt(&gdt);
	native_load_idt(&idt);
	if (failed) {
		note("VM entry failed, error %u", vmx_instruction_error());
		return -EIO;
	}
	reason = vmread(VM_EXIT_REASON);
	if (reason & VMX_EXIT_REASONS_FAILED_VMENTRY) {
		note("VM entry failed, exit reason %x", reason);
		return -EIO;
	}
	launched = true;
	return reason & 0xffff;
}

u64 guest_read(const struct ctx *ctx, u64 gva)
{
	struct guest_regs regs = { .rdi = gva };
	int reason = guest_run(ctx, OP_READ, &regs);

	if (reason != EXIT_VMCALL) {
		note("reading %llx ended in exit %d, qualification %llx", gva, reason,
		     vmread(EXIT_QUALIFICATION));
		return ~0ull;
	}
	return regs.rax;
}

static int vmxon(void)
{
	u64 pa = __pa(vmxon_region);
	bool failed;

	asm volatile("vmxon %1" : "=@ccbe"(failed) : "m"(pa) : "memory");
	return failed ? -EIO : 0;
}

static int load_vmcs(void)
{
	u64 pa = __pa(vmcs);
	bool failed;

	asm volatile("vmclear %1" : "=@ccbe"(failed) : "m"(pa) : "memory");
	if (failed)
		return -EIO;
	asm volatile("vmptrld %1" : "=@ccbe"(failed) : "m"(pa) : "memory");
	if (failed)
		return -EIO;
	launched = false;
	write_controls();
	return 0;
}

int vmx_restart(void)
{
	asm volatile("vmclear %0" :: "m"((u64){ __pa(vmcs) }) : "cc", "memory");
	asm volatile("vmxoff" ::: "cc", "memory");
	return vmxon() ?: load_vmcs();
}

int vmx_start(void)
{
	u64 basic;
	int err;

	vmxon_region = (void *)get_zeroed_page(GFP_ATOMIC);
	vmcs = (void *)get_zeroed_page(GFP_ATOMIC);
	if (!vmxon_region || !vmcs)
		return -ENOMEM;
	rdmsrl(MSR_IA32_VMX_BASIC, basic);
	*(u32 *)vmxon_region = *(u32 *)vmcs = (u32)basic & 0x7fffffff;
	memcpy(tables_code(), model_guest, model_guest_end - model_guest);

	cr4_set_bits_irqsoff(X86_CR4_VMXE);
	err = vmxon();
	if (err)
		return err;
	running = true;
	return load_vmcs();
}

void vmx_stop(void)
{
	if (running)
		asm volatile("vmxoff" ::: "cc", "memory");
	running = false;
	cr4_clear_bits_irqsoff(X86_CR4_VMXE);
	free_page((unsigned long)vmxon_region);
	free_page((unsigned long)vmcs);
}
