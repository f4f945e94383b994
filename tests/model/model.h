/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of the machine's TLB model: a VMX guest of a few instructions whose
 * tables the host changes under it, without telling the CPU.
 *
 *   enter.S    the guest's code and the switch between the worlds
 *   vmx.c      VMX operation, the VMCS, the instructions under test
 *   tables.c   guest page tables, EPT, and the pages behind them
 *   scopes.c   what of the linear and combined mappings each event drops
 *   walks.c    tags, guest-physical mappings, accessed bits, counters, capacity
 *   operands.c wrong operands
 *   main.c     runs them, one TAP line each
 */
#ifndef GVAHINT_MODEL_H
#define GVAHINT_MODEL_H

#include <linux/types.h>

#define EXIT_EXCEPTION		0
#define EXIT_VMCALL		18
#define EXIT_EPT_VIOLATION	48

/* Where the guest runs: the tags of what it caches. */
struct ctx {
	u16 vpid;		/* 0: "enable VPID" off */
	u8 ept;			/* 0 or 1 */
	u16 pcid;
};

struct guest_regs {
	u64 rax, rdi, rsi, rdx;
};

/* The guest's instructions, each followed by VMCALL. */
enum guest_op {
	OP_NOP, OP_READ, OP_CHANGE, OP_EXEC, OP_INVLPG, OP_INVPCID, OP_CR3, OP_CR4, OP_SWEEP,
	OP_READ2,
};

int vmx_start(void);
void vmx_stop(void);
/* VMXOFF and VMXON in between, with the mappings that survive them */
int vmx_restart(void);
u64 vmx_ept_vpid_cap(void);
u64 vmx_eptp(unsigned int ept);
u32 vmx_instruction_error(void);
/* basic exit reason, or -EIO */
int guest_run(const struct ctx *ctx, enum guest_op op, struct guest_regs *regs);
/* The value that the guest reads at @gva, or ~0. */
u64 guest_read(const struct ctx *ctx, u64 gva);

/* 0, or the flags of the failure: 1 VMfailInvalid, 2 VMfailValid */
int invvpid(u64 type, u64 lo, u64 hi);
int invept(u64 type, u64 lo, u64 hi);
void host_invpcid(u64 type, u64 pcid, u64 addr);

/* Guest-virtual layout. Each test page is a page of its own in one table. */
#define GVA_CODE	0x001000ull
#define GVA_DATA	0x002000ull	/* INVPCID descriptors */
#define GVA_TABLE	0x003000ull	/* the page table of the first 2 MiB */
#define GVA_A		0x100000ull
#define GVA_B		0x101000ull
#define GVA_GLOBAL	0x102000ull
#define GVA_LARGE	0x200000ull	/* a page of 2 MiB */
#define GVA_SWEEP	0x400000ull	/* SWEEP_PAGES, all of them one page */
#define SWEEP_PAGES	2048

/* Guest-physical pages for data; each is backed by a page with its value. */
enum gpa_page { GPA_OLD, GPA_NEW, GPA_OTHER, GPA_PAGES };
/* What is read at them. ALT: what EPT can be changed to. */
enum { VALUE_OLD = 1, VALUE_NEW = 2, VALUE_OTHER = 4, VALUE_ALT = 8 };

int tables_init(void);
void tables_exit(void);
void tables_reset(void);		/* as at the start; nothing is flushed */
u64 tables_cr3(void);
u64 tables_ept_root(unsigned int ept);
u64 tables_pte(u64 gva);		/* present value of the guest's entry */
u64 *tables_pte_of(u64 gva);
u64 tables_value(enum gpa_page page);	/* a guest PTE that maps @page */
void tables_map(u64 gva, enum gpa_page page);
void tables_map_large(bool new);
void ept_use_alt(unsigned int ept, enum gpa_page page);
bool ept_accessed(unsigned int ept, u64 gpa);
void ept_clear_accessed(unsigned int ept, u64 gpa);
u64 tables_gpa(enum gpa_page page);
u64 tables_gpa_of_table(void);		/* the page table of the first 2 MiB */
void tables_data(u64 first, u64 second);	/* write to GVA_DATA */
void *tables_code(void);

/* A page of the host that is mapped twice over: VPID 0's linear mappings. */
int host_page_init(void);
void host_page_exit(void);
void host_page_map(bool new);
u64 host_page_read(void);
void host_page_flush(void);

/* The machine's device. */
enum profile { COMBINED_ONLY, LEAF_CACHED, FRAGMENTS, OFF };
bool device_present(void);
enum profile device_profile(void);
bool device_small_tlb(void);
void device_reset(void);
/* the counter after "@section" ... "@name": of CPU 0; 0 if it has not counted */
u64 device_counter(const char *section, const char *name);

/* Results. */
__printf(2, 3) void result(bool ok, const char *fmt, ...);
__printf(2, 3) void skip(const char *why, const char *fmt, ...);
__printf(1, 2) void note(const char *fmt, ...);

void flush_everything(void);
void test_scopes(void);
void test_tags(void);
void test_guest_physical(void);
void test_accessed_bits(void);
void test_counters(void);
void test_capacity(void);
void test_within_entry(void);
void test_operands(void);

#endif
