// SPDX-License-Identifier: GPL-2.0
/*
 * Operands that INVVPID and INVEPT have to refuse: VMfailValid with error 28,
 * "invalid operand to INVEPT/INVVPID".
 */
#include <linux/bits.h>
#include <linux/kernel.h>
#include <asm/vmx.h>
#include "model.h"

#define VMFAIL_VALID	2
#define ERROR_OPERAND	28

static void check(int flags, bool refused, const char *name)
{
	bool ok = flags == (refused ? VMFAIL_VALID : 0);

	if (ok && refused)
		ok = vmx_instruction_error() == ERROR_OPERAND;
	result(ok, "%s-%s", name, refused ? "is-refused" : "is-accepted");
	if (!ok)
		note("CF and ZF %d, error %u", flags, vmx_instruction_error());
}

void test_operands(void)
{
	const u64 cap = vmx_ept_vpid_cap(), eptp = vmx_eptp(0);
	const bool address = cap & BIT_ULL(40), ad = cap & VMX_EPT_AD_BIT;

	result((cap & (BIT_ULL(41) | BIT_ULL(42) | BIT_ULL(43))) == (BIT_ULL(41) | BIT_ULL(42) | BIT_ULL(43)) &&
	       (cap & BIT(25)) && (cap & BIT(26)), "capabilities");
	note("IA32_VMX_EPT_VPID_CAP %llx", cap);

	check(invvpid(0, 1, GVA_A), !address, "invvpid-address");
	check(invvpid(0, 0, GVA_A), true, "invvpid-address-vpid-0");
	check(invvpid(0, 1, 0x800000000000ull), true, "invvpid-address-not-canonical");
	check(invvpid(0, 1, 0xffff7fffffffffffull), true, "invvpid-address-not-canonical-high");
	check(invvpid(0, 1, 0x7fffffffffffull), !address, "invvpid-address-last-low");
	check(invvpid(0, 1, 0xffff800000000000ull), !address, "invvpid-address-first-high");
	check(invvpid(0, 0x10001, GVA_A), true, "invvpid-address-reserved-bit-16");
	check(invvpid(0, BIT_ULL(63) | 1, GVA_A), true, "invvpid-address-reserved-bit-63");

	check(invvpid(1, 0xffff, 0), false, "invvpid-context-last-vpid");
	check(invvpid(1, 0, 0), true, "invvpid-context-vpid-0");
	check(invvpid(1, 0x10001, 0), true, "invvpid-context-reserved-bit-16");
	check(invvpid(1, 1, 0x800000000000ull), false, "invvpid-context-any-address");
	check(invvpid(2, 0, 0), false, "invvpid-all-vpid-0");
	check(invvpid(2, BIT_ULL(32), 0), true, "invvpid-all-reserved-bit-32");
	check(invvpid(3, 0, 0), true, "invvpid-nonglobal-vpid-0");
	check(invvpid(3, BIT_ULL(47) | 1, 0), true, "invvpid-nonglobal-reserved-bit-47");
	check(invvpid(4, 1, 0), true, "invvpid-type-4");
	check(invvpid(BIT_ULL(32), 1, GVA_A), true, "invvpid-type-bit-32");
	check(invvpid(~0ull, 1, 0), true, "invvpid-type-all-ones");

	check(invept(0, eptp, 0), true, "invept-type-0");
	check(invept(3, eptp, 0), true, "invept-type-3");
	check(invept(BIT_ULL(32) | 1, eptp, 0), true, "invept-type-bit-32");
	check(invept(1, eptp, 0), false, "invept-single");
	check(invept(1, (eptp & ~7ull) | 3, 0), true, "invept-single-memory-type");
	check(invept(1, eptp & ~0x38ull, 0), true, "invept-single-walk-length");
	check(invept(1, eptp | BIT_ULL(11), 0), true, "invept-single-reserved-bit");
	check(invept(1, eptp | BIT_ULL(51), 0), true, "invept-single-address-width");
	check(invept(1, eptp | VMX_EPTP_AD_ENABLE_BIT, 0), !ad, "invept-single-accessed-dirty");
	check(invept(2, ~0ull, 0), false, "invept-all-any-eptp");
}
