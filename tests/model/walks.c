// SPDX-License-Identifier: GPL-2.0
/*
 * What a walk leaves behind: guest-physical mappings, accessed bits of EPT,
 * counts, and what has to make room. This is where the profiles differ.
 */
#include <linux/bits.h>
#include <linux/kernel.h>
#include <asm/vmx.h>
#include "model.h"

static const struct ctx a = { .vpid = 1, .ept = 0, .pcid = 1 };
static const struct ctx b = { .vpid = 1, .ept = 1, .pcid = 1 };

/* One step of each kind that may or may not drop guest-physical mappings. */
static void step_none(void) { }
static void step_invvpid_addr(void) { invvpid(0, 1, GVA_A); }
static void step_invvpid_context(void) { invvpid(1, 1, 0); }
static void step_invvpid_all(void) { invvpid(2, 0, 0); }
static void step_invvpid_nonglobal(void) { invvpid(3, 1, 0); }
static void step_invept_single(void) { invept(1, vmx_eptp(0), 0); }
static void step_invept_all(void) { invept(2, 0, 0); }

static void guest_step(const struct ctx *ctx, enum guest_op op, u64 rdi, u64 rsi)
{
	struct guest_regs regs = { .rdi = rdi, .rsi = rsi };

	guest_run(ctx, op, &regs);
}

static void step_invlpg(void) { guest_step(&a, OP_INVLPG, GVA_A, 0); }
static void step_cr3(void) { guest_step(&a, OP_CR3, tables_cr3() | 1, 0); }
static void step_violation(void) { guest_step(&a, OP_EXEC, GVA_A, 0); }

static void step_invpcid(void)
{
	tables_data(0, 0);
	guest_step(&a, OP_INVPCID, 2, GVA_DATA);
}

static void step_vpid_off(void)
{
	static const struct ctx off = { .vpid = 0, .ept = 0, .pcid = 1 };

	guest_step(&off, OP_NOP, 0, 0);
}

enum { OWN = 1, OTHER_GPA = 2, OTHER_EPT = 4, ALL = 7 };

static const struct {
	const char *name;
	void (*run)(void);
	unsigned int gone;
} steps[] = {
	{ "vm-entry-and-exit-with-vpid", step_none, 0 },
	{ "vm-entry-and-exit-without-vpid", step_vpid_off, 0 },
	{ "invvpid-address", step_invvpid_addr, 0 },
	{ "invvpid-single-context", step_invvpid_context, 0 },
	{ "invvpid-all-context", step_invvpid_all, 0 },
	{ "invvpid-retaining-globals", step_invvpid_nonglobal, 0 },
	{ "invept-single-context", step_invept_single, OWN | OTHER_GPA },
	{ "invept-all-context", step_invept_all, ALL },
	{ "guest-invlpg", step_invlpg, 0 },
	{ "guest-invpcid-all", step_invpcid, 0 },
	{ "guest-mov-cr3", step_cr3, 0 },
	{ "ept-violation", step_violation, OWN },
};

/*
 * EPT changes under three guest-physical addresses. A single-context INVVPID
 * sees to it that the combined mappings are gone: what is read then comes from
 * a walk, and is old only if the walk's last step was cached.
 */
void test_guest_physical(void)
{
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(steps); n++) {
		unsigned int gone = 0, expected = steps[n].gone;
		bool sane;

		if (device_profile() != LEAF_CACHED)
			expected = ALL;
		tables_reset();
		tables_map(GVA_B, GPA_OTHER);
		flush_everything();
		sane = guest_read(&a, GVA_A) == VALUE_OLD && guest_read(&a, GVA_B) == VALUE_OTHER &&
		       guest_read(&b, GVA_A) == VALUE_OLD;
		ept_use_alt(0, GPA_OLD);
		ept_use_alt(0, GPA_OTHER);
		ept_use_alt(1, GPA_OLD);
		steps[n].run();
		invvpid(1, 1, 0);
		gone |= guest_read(&a, GVA_A) == VALUE_ALT ? OWN : 0;
		gone |= guest_read(&a, GVA_B) == VALUE_ALT ? OTHER_GPA : 0;
		gone |= guest_read(&b, GVA_A) == VALUE_ALT ? OTHER_EPT : 0;
		result(sane && gone == expected, "guest-physical-%s", steps[n].name);
		if (gone != expected)
			note("gone %x, expected %x (1 own, 2 other address, 4 other EPTP)", gone, expected);
	}
}

/* Does the A-bit of @gpa come back after @flush and a read of @gva? */
static bool comes_back(u64 gpa, void (*flush)(void))
{
	tables_reset();
	flush_everything();
	guest_read(&a, GVA_A);
	if (!ept_accessed(0, gpa))
		note("the first read did not set the accessed bit");
	ept_clear_accessed(0, gpa);
	flush();
	guest_read(&a, GVA_A);
	return ept_accessed(0, gpa);
}

void test_accessed_bits(void)
{
	const bool off = device_profile() == OFF, leaf = device_profile() == LEAF_CACHED;
	static const struct {
		const char *name;
		void (*flush)(void);
	} flushes[] = {
		{ "no-flush", step_none }, { "invvpid-address", step_invvpid_addr },
		{ "invvpid-single-context", step_invvpid_context },
		{ "invept-single-context", step_invept_single }, { "invept-all-context", step_invept_all },
	};
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(flushes); n++) {
		const bool invept = n >= 3, masked = n == 1 && !(vmx_ept_vpid_cap() & BIT_ULL(40));
		const bool data = off || invept || (n > 0 && !leaf);
		const bool table = off || invept;

		if (!(vmx_ept_vpid_cap() & VMX_EPT_AD_BIT) || masked) {
			skip("the capability is masked", "a-bit-of-data-after-%s", flushes[n].name);
			skip("the capability is masked", "a-bit-of-page-table-after-%s", flushes[n].name);
			continue;
		}
		result(comes_back(tables_gpa(GPA_OLD), flushes[n].flush) == data,
		       "a-bit-of-data-%s-after-%s", data ? "comes-back" : "stays-clear", flushes[n].name);
		/* no linear address leads to what a walk reads */
		result(comes_back(tables_gpa_of_table(), flushes[n].flush) == table,
		       "a-bit-of-page-table-%s-after-%s", table ? "comes-back" : "stays-clear",
		       flushes[n].name);
	}
}

/* A mapping serves the context whose tags it has, and a global one every PCID. */
void test_tags(void)
{
	static const struct {
		const char *name;
		struct ctx ctx;
		u64 gva;
		bool served;
	} uses[] = {
		{ "same-context", { 1, 0, 1 }, GVA_A, true },
		{ "other-pcid", { 1, 0, 2 }, GVA_A, false },
		{ "other-vpid", { 2, 0, 1 }, GVA_A, false },
		{ "other-eptp", { 1, 1, 1 }, GVA_A, false },
		{ "without-vpid", { 0, 0, 1 }, GVA_A, false },
		{ "global-other-pcid", { 1, 0, 2 }, GVA_GLOBAL, true },
		{ "global-other-vpid", { 2, 0, 2 }, GVA_GLOBAL, false },
		{ "global-other-eptp", { 1, 1, 2 }, GVA_GLOBAL, false },
	};
	const bool off = device_profile() == OFF;
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(uses); n++) {
		const bool served = uses[n].served && !off;
		u64 before, after;

		tables_reset();
		flush_everything();
		before = guest_read(&a, uses[n].gva);
		tables_map(uses[n].gva, GPA_NEW);
		after = guest_read(&uses[n].ctx, uses[n].gva);
		result(before == VALUE_OLD && after == (served ? VALUE_OLD : VALUE_NEW),
		       "mapping-%s-%s", served ? "serves" : "does-not-serve", uses[n].name);
	}
}

/* A change of the tables that the guest itself makes, without an exit between. */
void test_within_entry(void)
{
	struct guest_regs regs = {
		.rdi = GVA_A, .rsi = GVA_TABLE + (GVA_A >> 12) * 8, .rdx = tables_value(GPA_NEW),
	};
	int reason;

	tables_reset();
	flush_everything();
	reason = guest_run(&a, OP_CHANGE, &regs);
	result(reason == EXIT_VMCALL && regs.rax == VALUE_OLD && *tables_pte_of(GVA_A) >> 12 == tables_gpa(GPA_NEW) >> 12,
	       "stale-within-one-entry");
	note("exit %d, read %llu", reason, regs.rax);
}

/* @count of a counter that @run adds */
#define added(section, name, run) ({					\
	u64 before__ = device_counter(section, name);			\
	run;								\
	device_counter(section, name) - before__; })

void test_counters(void)
{
	const bool off = device_profile() == OFF, leaf = device_profile() == LEAF_CACHED;
	const bool address = vmx_ept_vpid_cap() & BIT_ULL(40);
	struct guest_regs regs = { .rdi = GVA_A };
	u64 instructions;

	tables_reset();
	flush_everything();
	result(added("invvpid", "single", (invvpid(1, 1, 0), invvpid(1, 2, 0))) == 2, "counts-invvpid-single");
	result(added("invvpid", "all", invvpid(2, 0, 0)) == 1, "counts-invvpid-all");
	result(added("invvpid", "nonglobal", invvpid(3, 1, 0)) == 1, "counts-invvpid-nonglobal");
	result(added("invvpid", "addr", invvpid(0, 1, GVA_A)) == address, "counts-invvpid-address");
	result(added("invvpid", "failed", invvpid(1, 0, 0)) == 1, "counts-invvpid-failed");
	result(added("invept", "single", invept(1, vmx_eptp(0), 0)) == 1, "counts-invept-single");
	result(added("invept", "all", invept(2, 0, 0)) == 1, "counts-invept-all");
	result(added("invept", "failed", invept(9, 0, 0)) == 1, "counts-invept-failed");
	result(added("", "entries", guest_read(&a, GVA_A)) == 1, "counts-entries");
	result(added("", "exits", guest_read(&a, GVA_A)) == 1, "counts-exits");
	result(added("exit_reasons", "18", guest_read(&a, GVA_A)) == 1, "counts-exits-by-reason");

	instructions = added("{\"vpid\":1", "instructions", guest_run(&a, OP_READ, &regs));
	result(instructions >= 2 && instructions <= 3, "counts-instructions-of-the-guest");
	note("%llu instructions", instructions);

	device_reset();
	result(device_counter("invvpid", "failed") == 0 && device_counter("", "entries") == 0 &&
	       device_counter("{\"vpid\":1", "instructions") == 0, "counters-are-reset");

	if (off || !address) {
		skip("needs INVVPID type 0 and mappings that outlive an entry", "one-walk-per-dropped-address");
		return;
	}
	/*
	 * One dropped address: one miss, the four entries of the guest's walk,
	 * and of EPT's walks only the last (the tables' addresses are cached,
	 * the data's with leaf-cached).
	 */
	guest_read(&a, GVA_A);
	invvpid(0, 1, GVA_A);
	result(added("{\"vpid\":1", "tlb_misses", guest_read(&a, GVA_A)) == 1, "one-miss-per-dropped-address");
	invvpid(0, 1, GVA_A);
	result(added("{\"vpid\":1", "walk_refs_guest", guest_read(&a, GVA_A)) == 4, "four-guest-references-per-walk");
	invvpid(0, 1, GVA_A);
	result(added("{\"vpid\":1", "walk_refs_ept", guest_read(&a, GVA_A)) == (leaf ? 0 : 4),
	       "ept-references-per-walk");
	result(added("{\"vpid\":1", "tlb_misses", guest_read(&a, GVA_A)) == 0, "no-miss-without-a-drop");
}

/* More pages than the small TLB holds, fewer than the large one does. */
void test_capacity(void)
{
	const bool small = device_small_tlb(), off = device_profile() == OFF;
	struct guest_regs regs = { .rdi = GVA_SWEEP, .rsi = SWEEP_PAGES };
	u64 value;

	tables_reset();
	flush_everything();
	if (guest_run(&a, OP_SWEEP, &regs) != EXIT_VMCALL)
		note("the sweep failed");
	*tables_pte_of(GVA_SWEEP) = tables_value(GPA_NEW);
	value = guest_read(&a, GVA_SWEEP);
	result(value == (small || off ? VALUE_NEW : VALUE_OLD), "capacity-%s", small ? "small" : "large");
	note("read %llu", value);
}
