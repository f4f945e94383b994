// SPDX-License-Identifier: GPL-2.0
/*
 * Linear and combined mappings: what each event drops, and what it leaves.
 *
 * Every probe reads an address in a context, so that the CPU caches where it
 * leads. Then the tables lead elsewhere, and the event happens. What a probe
 * reads now tells whether its mapping is gone (the new value) or still there
 * (the old one).
 */
#include <linux/bits.h>
#include <linux/kernel.h>
#include <asm/page.h>
#include <asm/processor-flags.h>
#include "model.h"

enum probe {
	P_OWN, P_ADDRESS, P_PCID, P_GLOBAL, P_VPID, P_EPT, P_LARGE, P_HOST, PROBES
};

#define OWN		BIT(P_OWN)
#define ADDRESS		BIT(P_ADDRESS)
#define PCID		BIT(P_PCID)
#define GLOBAL		BIT(P_GLOBAL)
#define VPID		BIT(P_VPID)
#define EPT		BIT(P_EPT)
#define LARGE		BIT(P_LARGE)
#define HOST		BIT(P_HOST)
/* everything of VPID 1 and PCID 1 that is not global */
#define CONTEXT		(OWN | ADDRESS | EPT | LARGE)

/* the context in which the guest's own instructions run */
static const struct ctx here = { .vpid = 1, .ept = 0, .pcid = 1 };

static const struct {
	const char *name;
	struct ctx ctx;
	u64 gva;
} probes[PROBES] = {
	[P_OWN]     = { "own",           { 1, 0, 1 }, GVA_A },
	[P_ADDRESS] = { "other-address", { 1, 0, 1 }, GVA_B },
	[P_PCID]    = { "other-pcid",    { 1, 0, 2 }, GVA_A },
	[P_GLOBAL]  = { "global",        { 1, 0, 1 }, GVA_GLOBAL },
	[P_VPID]    = { "other-vpid",    { 2, 0, 1 }, GVA_A },
	[P_EPT]     = { "other-eptp",    { 1, 1, 1 }, GVA_A },
	[P_LARGE]   = { "large-page",    { 1, 0, 1 }, GVA_LARGE },
	[P_HOST]    = { "host",          { 0, 0, 0 }, 0 },
};

static u64 read_probe(enum probe p)
{
	return p == P_HOST ? host_page_read() : guest_read(&probes[p].ctx, probes[p].gva);
}

static bool in_guest(enum guest_op op, u64 rdi, u64 rsi)
{
	struct guest_regs regs = { .rdi = rdi, .rsi = rsi };

	return guest_run(&here, op, &regs) == EXIT_VMCALL;
}

static bool guest_invpcid(u64 type, u64 pcid, u64 addr)
{
	tables_data(pcid, addr);
	return in_guest(OP_INVPCID, type, GVA_DATA);
}

static bool guest_cr4(u64 change)
{
	return in_guest(OP_CR4, (X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_VMXE) ^ change, 0);
}

#define NO_FLUSH BIT_ULL(63)

/* The events. Each says whether it took place. */
static bool nothing(void) { return in_guest(OP_NOP, 0, 0); }
static bool invvpid_a(void) { return !invvpid(0, 1, GVA_A); }
static bool invvpid_global(void) { return !invvpid(0, 1, GVA_GLOBAL); }
static bool invvpid_large(void) { return !invvpid(0, 1, GVA_LARGE + 0x5000); }
static bool invvpid_context(void) { return !invvpid(1, 1, 0); }
static bool invvpid_all(void) { return !invvpid(2, 0, 0); }
static bool invvpid_nonglobal(void) { return !invvpid(3, 1, 0); }
static bool invvpid_refused(void) { return invvpid(0, 0, GVA_A) && invvpid(7, 1, 0); }
static bool invept_single(void) { return !invept(1, vmx_eptp(0), 0); }
static bool invept_all(void) { return !invept(2, 0, 0); }
static bool invept_refused(void) { return invept(1, vmx_eptp(0) | 1, 0) && invept(3, 0, 0); }
static bool g_invlpg(void) { return in_guest(OP_INVLPG, GVA_A, 0); }
static bool g_invlpg_large(void) { return in_guest(OP_INVLPG, GVA_LARGE + 0x5000, 0); }
static bool g_invpcid_addr(void) { return guest_invpcid(0, 2, GVA_A); }
static bool g_invpcid_addr_global(void) { return guest_invpcid(0, 1, GVA_GLOBAL); }
static bool g_invpcid_one(void) { return guest_invpcid(1, 1, 0); }
static bool g_invpcid_other(void) { return guest_invpcid(1, 2, 0); }
static bool g_invpcid_all(void) { return guest_invpcid(2, 0, 0); }
static bool g_invpcid_nonglobal(void) { return guest_invpcid(3, 0, 0); }
static bool g_cr3(void) { return in_guest(OP_CR3, tables_cr3() | 1, 0); }
static bool g_cr3_other(void) { return in_guest(OP_CR3, tables_cr3() | 2, 0); }
static bool g_cr3_keep(void) { return in_guest(OP_CR3, tables_cr3() | 1 | NO_FLUSH, 0); }
static bool g_cr4_pge(void) { return guest_cr4(X86_CR4_PGE); }
static bool g_cr4_tsd(void) { return guest_cr4(X86_CR4_TSD); }
static bool g_cr4_smep(void) { return guest_cr4(X86_CR4_SMEP); }
static bool restart(void) { return !vmx_restart(); }

static bool g_invlpg_global(void)
{
	static const struct ctx other = { .vpid = 1, .ept = 0, .pcid = 2 };
	struct guest_regs regs = { .rdi = GVA_GLOBAL };

	return guest_run(&other, OP_INVLPG, &regs) == EXIT_VMCALL;
}

/* PCIDE can be cleared while CR3 has PCID 0 only */
static bool g_cr4_pcide(void)
{
	static const struct ctx zero = { .vpid = 1, .ept = 0, .pcid = 0 };
	struct guest_regs regs = { .rdi = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_VMXE };

	return guest_run(&zero, OP_CR4, &regs) == EXIT_VMCALL;
}

static bool vpid_off(void)
{
	static const struct ctx off = { .vpid = 0, .ept = 1, .pcid = 1 };
	struct guest_regs regs = { };

	return guest_run(&off, OP_NOP, &regs) == EXIT_VMCALL;
}

/* an instruction fetch from a page that EPT makes data */
static bool violation(void)
{
	struct guest_regs regs = { .rdi = GVA_A };

	return guest_run(&here, OP_EXEC, &regs) == EXIT_EPT_VIOLATION;
}

/* an instruction fetch from a page that the guest's table makes data */
static bool page_fault(void)
{
	struct guest_regs regs = { .rdi = GVA_A };

	*tables_pte_of(GVA_A) |= BIT_ULL(63);
	return guest_run(&here, OP_EXEC, &regs) == EXIT_EXCEPTION;
}

static bool h_invlpg(void)
{
	asm volatile("invlpg (%0)" :: "r"(GVA_A) : "memory");
	return true;
}

static bool h_invpcid(void)
{
	host_invpcid(2, 0, 0);
	return true;
}

static bool h_cr3(void)
{
	unsigned long cr3;

	asm volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(cr3) :: "memory");
	return true;
}

static const struct event {
	const char *name;
	bool (*run)(void);
	unsigned long gone;
	unsigned long either;		/* the SDM can be read both ways */
} events[] = {
	{ "vm-entry-and-exit-with-vpid", nothing, 0 },
	{ "vm-entry-and-exit-without-vpid", vpid_off, HOST },
	{ "invvpid-address", invvpid_a, OWN | PCID | EPT },
	{ "invvpid-address-global", invvpid_global, GLOBAL },
	{ "invvpid-address-large-page", invvpid_large, LARGE },
	{ "invvpid-single-context", invvpid_context, CONTEXT | PCID | GLOBAL },
	{ "invvpid-all-context", invvpid_all, CONTEXT | PCID | GLOBAL | VPID },
	{ "invvpid-retaining-globals", invvpid_nonglobal, CONTEXT | PCID },
	{ "invvpid-refused", invvpid_refused, 0 },
	{ "invept-single-context", invept_single, OWN | ADDRESS | PCID | GLOBAL | VPID | LARGE },
	{ "invept-all-context", invept_all, CONTEXT | PCID | GLOBAL | VPID },
	{ "invept-refused", invept_refused, 0 },
	{ "guest-invlpg", g_invlpg, OWN | EPT },
	{ "guest-invlpg-global-from-other-pcid", g_invlpg_global, GLOBAL },
	{ "guest-invlpg-large-page", g_invlpg_large, LARGE },
	{ "guest-invpcid-address", g_invpcid_addr, PCID },
	{ "guest-invpcid-address-global", g_invpcid_addr_global, 0 },
	{ "guest-invpcid-one-pcid", g_invpcid_one, CONTEXT },
	{ "guest-invpcid-one-other-pcid", g_invpcid_other, PCID },
	{ "guest-invpcid-all", g_invpcid_all, CONTEXT | PCID | GLOBAL },
	{ "guest-invpcid-all-but-globals", g_invpcid_nonglobal, CONTEXT | PCID },
	{ "guest-mov-cr3", g_cr3, CONTEXT },
	{ "guest-mov-cr3-other-pcid", g_cr3_other, PCID },
	{ "guest-mov-cr3-bit-63", g_cr3_keep, 0 },
	{ "guest-mov-cr4-pge", g_cr4_pge, CONTEXT | PCID | GLOBAL },
	{ "guest-mov-cr4-clear-pcide", g_cr4_pcide, CONTEXT | PCID | GLOBAL },
	{ "guest-mov-cr4-set-smep", g_cr4_smep, CONTEXT, GLOBAL },
	{ "guest-mov-cr4-tsd", g_cr4_tsd, 0 },
	{ "page-fault", page_fault, OWN | EPT },
	{ "ept-violation", violation, OWN },
	{ "host-invlpg", h_invlpg, 0 },
	{ "host-invpcid-all", h_invpcid, HOST },
	{ "host-mov-cr3", h_cr3, 0 },
	{ "vmxoff-vmxon", restart, 0 },
};

static void name_probes(char *out, size_t size, unsigned long set)
{
	size_t len = 0;
	int p;

	out[0] = 0;
	for (p = 0; p < PROBES; p++)
		if (set & BIT(p))
			len += scnprintf(out + len, size - len, " %s", probes[p].name);
}

static void change_tables(bool new)
{
	enum gpa_page page = new ? GPA_NEW : GPA_OLD;

	tables_map(GVA_A, page);
	tables_map(GVA_B, page);
	tables_map(GVA_GLOBAL, page);
	tables_map_large(new);
	host_page_map(new);
}

static void test_event(const struct event *event, unsigned long expected)
{
	unsigned long gone = 0, strange = 0;
	char names[128];
	bool happened;
	int p;

	tables_reset();
	flush_everything();
	for (p = 0; p < PROBES; p++)
		if (read_probe(p) != VALUE_OLD)
			strange |= BIT(p);
	change_tables(true);
	happened = event->run();
	for (p = 0; p < PROBES; p++) {
		switch (read_probe(p)) {
		case VALUE_OLD: break;
		case VALUE_NEW: gone |= BIT(p); break;
		default: strange |= BIT(p);
		}
	}

	result(happened && !strange && !((gone ^ expected) & ~event->either), "scope-%s", event->name);
	if (!happened)
		note("the event did not take place");
	if (strange) {
		name_probes(names, sizeof(names), strange);
		note("neither old nor new value:%s", names);
	}
	if ((expected & ~gone) & ~event->either) {
		name_probes(names, sizeof(names), expected & ~gone);
		note("stayed, must go:%s", names);
	}
	if ((gone & ~expected) & ~event->either) {
		name_probes(names, sizeof(names), gone & ~expected);
		note("went, must stay:%s", names);
	}
}

void test_scopes(void)
{
	/* with profile off no mapping outlives the entry that a probe takes */
	unsigned long always = device_profile() == OFF ? BIT(PROBES) - 1 : 0;
	bool address = vmx_ept_vpid_cap() & BIT_ULL(40);
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(events); n++) {
		bool (*run)(void) = events[n].run;

		if (!address && (run == invvpid_a || run == invvpid_global || run == invvpid_large))
			skip("INVVPID type 0 is masked", "scope-%s", events[n].name);
		else if (run == invvpid_large && device_profile() == FRAGMENTS)
			test_event(&events[n], 0); /* the probe reads another fragment */
		else
			test_event(&events[n], events[n].gone | always);
	}
}
