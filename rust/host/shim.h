/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the Rust side needs and 6.12's kernel crate has no abstraction for:
 * RCU, delayed work, kobjects, trace events, fields of struct kvm.  No policy.
 */
#ifndef _GVAHINT_SHIM_H
#define _GVAHINT_SHIM_H

#include <linux/kvm_age.h>
#include <linux/tracepoint-defs.h>
#include <linux/types.h>
#include <uapi/linux/kvm_para.h>
#include "gvahint.h"

/* ---- shim.c: KVM's fields */

/* valid as long as the VM */
struct kvm_age *gvahint_kvm_age(struct kvm *kvm);
/* valid as long as the vCPU */
struct kvm *gvahint_vcpu_kvm(struct kvm_vcpu *vcpu);
/* written by the vCPU's own thread only */
u64 *gvahint_vcpu_cursor(struct kvm_vcpu *vcpu);
/*
 * In hypercall(): can KVM write where the guest wants its answer?  Its buffer (a2)
 * is in rdx still, and within a page.
 */
bool gvahint_vcpu_takes_answer(struct kvm_vcpu *vcpu);
/* what userspace numbered it; callable anywhere */
u32 gvahint_vcpu_id(struct kvm_vcpu *vcpu);

/* ---- shim.c: time, CPU, chance and RCU */

/* coarse, monotonic, callable anywhere */
u64 gvahint_now_ms(void);
/* the CPU we run on, or ran on a moment ago; callable anywhere */
u32 gvahint_cpu(void);
/* callable anywhere */
u32 gvahint_random(void);
/* may sleep */
void gvahint_cond_resched(void);
void gvahint_rcu_read_lock(void);
void gvahint_rcu_read_unlock(void);
/* sleeps; not inside a read-side section */
void gvahint_synchronize_rcu(void);

/* ---- shim.c: one delayed kick per VM */

struct gvahint_kicker;
typedef void (*gvahint_vm_fn)(void *vm);

/* sleeps; NULL: no memory.  fn(vm) runs in task context. */
struct gvahint_kicker *gvahint_kicker_new(void *vm, gvahint_vm_fn fn);
/* callable anywhere; keeps the earlier time if one is pending */
void gvahint_kicker_arm(struct gvahint_kicker *kicker, u32 ms);
/* sleeps; no arm may run or follow; fn has returned and will not run again */
void gvahint_kicker_free(struct gvahint_kicker *kicker);

/* ---- shim_trace.c: trace events; docs/abi/tracing-gvahint says what they mean */

/* somebody listens while key.enabled is not 0; that may change at any time */
DECLARE_TRACEPOINT(aged);
DECLARE_TRACEPOINT(plan);
DECLARE_TRACEPOINT(flush);
DECLARE_TRACEPOINT(report);
DECLARE_TRACEPOINT(canary);

/* in place of a number: there is none */
#define GVAHINT_NONE	255

enum gvahint_coverage {
	GVAHINT_UNCOVERED,
	GVAHINT_COVERED,
	GVAHINT_UNASKED,
};

enum gvahint_mark {
	GVAHINT_MARK_NONE,
	GVAHINT_MARK_CONTEXT,
	GVAHINT_MARK_FULL,
};

enum gvahint_kick {
	GVAHINT_KICK_NO,
	GVAHINT_KICK_NOW,
	GVAHINT_KICK_WITHIN,
};

enum gvahint_flush {
	GVAHINT_FLUSH_NOTHING,
	GVAHINT_FLUSH_GVA,
	GVAHINT_FLUSH_CONTEXT,
	GVAHINT_FLUSH_FULL,
	GVAHINT_FLUSH_SUPERSEDED,
};

enum gvahint_why {
	GVAHINT_WHY_LAGGED,
	GVAHINT_WHY_TOO_MANY,
	GVAHINT_WHY_OVERWRITTEN,
	GVAHINT_WHY_REFUSED,
};

/* vm: its directory in sysfs; pid: its owner */
struct gvahint_ev_aged {
	u64 vm;
	u64 gfn;
	s32 pid;
	u32 level;
	u32 which;	/* enum kvm_age_which */
	u32 coverage;	/* enum gvahint_coverage */
	u32 reason;	/* core's Reason */
};

struct gvahint_ev_plan {
	u64 vm;
	u64 head;
	s32 pid;
	u32 aged;
	u32 covered;
	u32 uncovered;
	u32 other;
	u32 gvas;
	u32 which;	/* enum kvm_age_which */
	u32 flush;	/* core's Flush */
	u32 timing;	/* core's Timing */
	u32 mark;	/* enum gvahint_mark */
	u32 verdict;	/* enum kvm_age_verdict */
	u32 kick;	/* enum gvahint_kick */
};

struct gvahint_ev_flush {
	u64 vm;
	u64 from;
	u64 to;
	s32 pid;
	u32 vcpu;
	u32 gvas;
	u32 kind;	/* enum gvahint_flush */
	u32 why;	/* enum gvahint_why */
};

struct gvahint_ev_report {
	u64 vm;
	u64 op;
	s64 answer;
	u64 hints;
	s32 pid;
	u32 session;
	u32 words;
};

struct gvahint_ev_canary {
	u64 vm;
	u64 gfn;
	u64 gva;
	s64 answer;
	s32 pid;
	u32 step;
};

/* callable anywhere */
void gvahint_trace_aged(const struct gvahint_ev_aged *event);
void gvahint_trace_plan(const struct gvahint_ev_plan *event);
void gvahint_trace_flush(const struct gvahint_ev_flush *event);
void gvahint_trace_report(const struct gvahint_ev_report *event);
void gvahint_trace_canary(const struct gvahint_ev_canary *event);

/* ---- shim_sysfs.c: /sys/kernel/gvahint */

enum gvahint_attr_id {
	GVAHINT_ATTR_VERSION,
	/* two notifiers by three knobs, in this order; overrides in a VM's directory */
	GVAHINT_ATTR_CLEAR_FLUSH_YOUNG_FLUSH,
	GVAHINT_ATTR_CLEAR_FLUSH_YOUNG_UNCOVERED,
	GVAHINT_ATTR_CLEAR_FLUSH_YOUNG_TIMING,
	GVAHINT_ATTR_CLEAR_YOUNG_FLUSH,
	GVAHINT_ATTR_CLEAR_YOUNG_UNCOVERED,
	GVAHINT_ATTR_CLEAR_YOUNG_TIMING,
	GVAHINT_ATTR_BATCH_PAGES,
	GVAHINT_ATTR_MAX_DELAY_MS,
	GVAHINT_ATTR_LINEAR_ALIAS,
	GVAHINT_ATTR_CALIBRATION,
	GVAHINT_ATTR_HINT_MAX_AGE_MS,
	GVAHINT_ATTR_LEASE_MS,
	GVAHINT_ATTR_MAX_GVAS_PER_ENTRY,
	GVAHINT_ATTR_LOG_ENTRIES,
	GVAHINT_ATTR_MAX_BYTES_PER_VM,
	/* a VM's directory only */
	GVAHINT_ATTR_PID,
	GVAHINT_ATTR_STATE,
	GVAHINT_ATTR_COVERAGE,
	/* stats/: this plus the counter's index */
	GVAHINT_ATTR_STATS,
};

#define GVAHINT_MAX_STATS	64
#define GVAHINT_STAT_NAME_LEN	32

/*
 * Both may sleep.  One store at a time, any number of shows.  vm is NULL for the
 * global files, else what gvahint_dir_new() was given.  show fills at most len
 * bytes of buf and returns how many.
 */
struct gvahint_sysfs_ops {
	ssize_t (*show)(void *vm, u32 id, char *buf, size_t len);
	ssize_t (*store)(void *vm, u32 id, const char *buf, size_t len);
};

struct gvahint_dir;

/* before gvahint_sysfs_init(): adds a file to stats/; not NUL-terminated.  -ENOSPC, -EINVAL */
int gvahint_sysfs_add_stat(const char *name, size_t len);
int gvahint_sysfs_init(const struct gvahint_sysfs_ops *ops);
/* waits for every reader and writer; all VMs' directories are gone before */
void gvahint_sysfs_exit(void);
/* sleeps; NULL: no directory could be made */
struct gvahint_dir *gvahint_dir_new(void *vm, u64 id);
/* sleeps; waits for every reader and writer of the directory */
void gvahint_dir_free(struct gvahint_dir *dir);
/* sleeps; fn(vm) for each directory of a VM, which stays until fn returns; fn takes no directory away */
void gvahint_dir_each(gvahint_vm_fn fn);

#endif /* _GVAHINT_SHIM_H */
