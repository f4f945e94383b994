/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The hypercall by which a guest tells its host under which guest virtual
 * addresses (gVAs) a guest page can be reached, so that the host can drop
 * exactly these translations when it ages the page.
 *
 * Calling convention: that of KVM's hypercalls.  rax = KVM_HC_GVA_HINT,
 * rbx = a0 = operation, rcx = a1 = session << 32 | sequence number,
 * rdx = a2 = gpa of the buffer, rsi = a3 = its length in bytes.  The buffer
 * lies within one guest page and is 8-byte aligned, its length is a multiple
 * of 8.  Operations below GVAHINT_OP_OUT hand a buffer in; from there on the
 * host fills it.  An operation without a buffer passes a2 = a3 = 0.
 *
 * Sequence numbers of a session increase strictly, whichever vCPU calls.
 * Every call that is answered with a value >= 0 renews the VM's lease.
 *
 * Errors, by operation ("any" first), as negative values in rax:
 *
 *   any      KVM_ENOSYS      no module, or a kernel without the hook
 *            KVM_EPERM       not at CPL 0
 *            KVM_EOPNOTSUPP  32-bit caller, SMM, or protected guest
 *            KVM_EINVAL      unknown operation; buffer misaligned, crossing a
 *                            page, or of a wrong length
 *            KVM_EFAULT      buffer outside the memslots, or where the host is to
 *                            write, in one that is read-only; nothing was done
 *            KVM_E2BIG       KVM has no memory to copy the buffer to; nothing was
 *                            done, which for a revocation means: say HELLO
 *            GVAHINT_ESTALE  stale session or sequence number: say HELLO
 *   HELLO    KVM_EINVAL      unknown ABI version
 *            KVM_E2BIG       not even the log fits into the VM's memory limit
 *   LINEAR   KVM_EINVAL      misaligned range or page size that is none
 *            KVM_EINVAL      an end or a sum overflows or is not canonical
 *            KVM_E2BIG       more ranges than gvahint_hello.max_linear
 *   REPORT   KVM_EINVAL      before LINEAR; malformed set (see below)
 *            KVM_EFAULT      a gfn outside the memslots
 *            KVM_E2BIG       a set over a limit, or no room for it
 *   WANTED   KVM_E2BIG       more than 100 calls in this second
 *   CANARY   KVM_EINVAL      before LINEAR; gva misaligned or not canonical; an
 *                            unknown step; step 1 of another gfn or gva than
 *                            step 0, or without one
 *            KVM_EFAULT      a gfn outside the memslots (step 0)
 *            KVM_E2BIG       a second step 0 in this second
 *            KVM_EOPNOTSUPP  this host's CPUs can't drop single gVAs
 *   BYE      (none of its own)
 */
#ifndef _UAPI_GVAHINT_H
#define _UAPI_GVAHINT_H

#include <linux/types.h>

#ifndef KVM_HC_GVA_HINT
#define KVM_HC_GVA_HINT		100
#endif

#define GVAHINT_ABI_VERSION	1

/* "say HELLO": the value of ESTALE, spelled out because KVM has no name for it */
#define GVAHINT_ESTALE		116

/* Operations (a0) */
#define GVAHINT_OP_LINEAR	1	/* in: the complete list of linear ranges */
#define GVAHINT_OP_REPORT	2	/* in: sets */
#define GVAHINT_OP_CANARY	3	/* in: struct gvahint_canary */
#define GVAHINT_OP_BYE		4	/* no buffer: forget everything of this VM */
#define GVAHINT_OP_OUT		64	/* from here on the host fills the buffer */
#define GVAHINT_OP_HELLO	64	/* out: struct gvahint_hello; a1 = ABI version */
#define GVAHINT_OP_WANTED	65	/* out: what was aged lately without a hint */

/**
 * struct gvahint_hello - what the host expects; filled by HELLO
 * @version:		ABI version that the host speaks
 * @lease_ms:		without a valid call for so long the VM counts as silent
 * @poll_ms:		how often to call at least
 * @max_linear:		ranges in one LINEAR call
 * @max_gvas:		gVAs in one set; say TOO_MANY for a page with more
 * @max_order:		order of a set's range, log2 of 4 KiB pages
 * @max_gfn:		first gfn that the table does not reach
 *
 * HELLO returns the session's number, > 0, and drops all hints of the VM.
 */
struct gvahint_hello {
	__u32 version;
	__u32 lease_ms;
	__u32 poll_ms;
	__u32 max_linear;
	__u32 max_gvas;
	__u32 max_order;
	__u64 max_gfn;
};

/* LINEAR's answer: what was reported still holds */
#define GVAHINT_LINEAR_KEPT	1

/**
 * struct gvahint_linear - guest-physical memory mapped by arithmetic
 * @gpa:	start, aligned to 4 KiB
 * @gva:	where the guest maps it, aligned to 4 KiB
 * @len:	bytes, a multiple of 4 KiB, > 0
 * @page_size:	with which pages the guest maps it: 4 KiB, 2 MiB or 1 GiB;
 *		gpa, gva and len are aligned to it
 *
 * LINEAR passes the complete list (an empty one without a buffer); it opens
 * REPORT.  LINEAR returns 0, or GVAHINT_LINEAR_KEPT if the session had a list: what
 * was reported still holds, also under another one.
 */
struct gvahint_linear {
	__u64 gpa;
	__u64 gva;
	__u64 len;
	__u64 page_size;
};

/*
 * REPORT passes sets: a header word and @count gVA words each.  A set replaces
 * what was known of its range [gfn, gfn + 2^order) and is the complete list of
 * the gVAs, linear ranges apart, under which the range can be reached; the
 * range is contiguous under each of them.  gfn is aligned to the order.
 *
 * A gVA word is a canonical address whose low 12 bits hold the order of the
 * guest's mapping (0, 9 or 18); it is aligned to the smaller of both orders.
 *
 * REPORT returns the number of sets applied; the guest resends from there.
 * If not even the first is good, it returns the error of that one.
 */
#define GVAHINT_SET_GFN_BITS	40
#define GVAHINT_SET_ORDER_SHIFT	40
#define GVAHINT_SET_ORDER_BITS	6
#define GVAHINT_SET_KIND_SHIFT	46
#define GVAHINT_SET_KIND_BITS	4
#define GVAHINT_SET_COUNT_SHIFT	50
#define GVAHINT_SET_COUNT_BITS	14
#define GVAHINT_GVA_ORDER_BITS	12

/*
 * WANTED fills the buffer, of at least one word, with what the host aged lately
 * and had no hint for, or no gVAs, though a report could have helped: the latest first, each
 * once, gfn and order as in a set's header (order 9 or 18: the host ages that
 * range as one page and needs a hint for all of it).  The rest of the buffer is
 * 0.  It returns their number and forgets them.  100 calls a second are answered.
 */

/**
 * struct gvahint_canary - does an accessed bit come back once one gVA was dropped?
 * @gfn:	a page that the guest maps at @gva and can touch
 * @gva:	aligned to 4 KiB
 * @step:	0: the host clears the page's accessed bit and drops @gva on every
 *		vCPU before that runs the guest again; 1: it looks at the bit
 *
 * Between the steps the guest touches @gva, with preemption off, on the vCPU that
 * makes both calls.  The accessed bit that the host cleared is handed back with
 * step 1, the next step 0, HELLO or BYE.
 *
 * Step 0 returns GVAHINT_CANARY_OK, or INCONCLUSIVE if the host does not map the
 * page by itself: then there is no step 1.  Step 1 returns OK: the bit came back;
 * LOST: it did not, and the host stops to use this VM's hints (it flushes all of the
 * VM instead) until the next HELLO; INCONCLUSIVE: somebody else aged the page
 * meanwhile, its memory changed, or @gva was not dropped yet.  One step 0 a second.
 */
struct gvahint_canary {
	__u64 gfn;
	__u64 gva;
	__u64 step;
};

#define GVAHINT_CANARY_OK		0
#define GVAHINT_CANARY_LOST		1
#define GVAHINT_CANARY_INCONCLUSIVE	2

/* Kinds of sets; all but MAPPED have count == 0 */
#define GVAHINT_KIND_MAPPED	1	/* reached under the listed gVAs, count > 0 */
#define GVAHINT_KIND_KERNEL_ONLY 2	/* reached through the linear ranges only */
/*
 * The CPU's own walks touch it: no hint helps.  The host leaves such pages young
 * while it ages by hints, but for no more than 1/256 of the VM's memory; the first
 * that are reported (singly, or in a range of less than 2 MiB) get the places, and
 * keep them until something else is reported of them.  Where the host backs the VM
 * by huge pages it leaves those with a page table in them young, for no more than
 * 1/256 of the memory, or 16 MiB if that is less than 1/32.
 */
#define GVAHINT_KIND_PAGE_TABLE	3
/*
 * More gVAs than a set holds.  As for ANYWHERE below the host drops all that is
 * cached of any gVA, which is less than all that is cached of the VM.
 */
#define GVAHINT_KIND_TOO_MANY	4
#define GVAHINT_KIND_REVOKED	5	/* what was reported is no longer the whole truth */
/*
 * Reached under gVAs that the guest can't tell, now or later, but not by the CPU's
 * own walks.  The guest revokes it when it becomes a page table.  A page that was
 * reported as data, of whatever kind, and became a page table has to be reported as
 * REVOKED or PAGE_TABLE before it is reported as data again.
 */
#define GVAHINT_KIND_ANYWHERE	6

#endif /* _UAPI_GVAHINT_H */
