/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the Rust side needs and 6.12's kernel crate has no abstraction for: the
 * hypercall, page tables of the kernel, a freezable thread, sysfs.  No policy.
 * There is one reporter, so what is here exists once.
 */
#ifndef _GVAHINT_GUEST_SHIM_H
#define _GVAHINT_GUEST_SHIM_H

#include <linux/gva_hint.h>
#include <linux/types.h>
#include "gvahint.h"

/* ---- shim.c: the platform */

/* 0; -ENODEV: no guest of KVM; -EOPNOTSUPP: its memory is encrypted */
int gvahint_platform(void);
/* buf: in the direct map, within a page, 8-byte aligned; or NULL and len 0.  Callable anywhere. */
s64 gvahint_call(u64 op, u64 a1, u64 *buf, u32 len);
/*
 * Both steps of a canary, with a1 of either, on one vCPU.  at: a page of vmalloc()'s
 * that nobody else touches; buf: as above, of a page.  Fills in the answers;
 * returns whether the second step was made.  Callable in task context.
 */
bool gvahint_canary(const u64 *at, u64 a1_clear, u64 a1_test, u64 *buf, s64 *clear, s64 *test);
/* coarse, monotonic, goes on while the guest is suspended; callable anywhere */
u64 gvahint_now_ms(void);
/* may sleep */
void gvahint_cond_resched(void);

/* ---- shim.c: memory that the kernel maps by arithmetic */

enum gvahint_area {
	GVAHINT_AREA_DIRECT_MAP,
	GVAHINT_AREA_KERNEL_IMAGE,
	GVAHINT_NR_AREAS,
};

/* where it starts and ends, aligned to pages; as of now */
void gvahint_area(enum gvahint_area area, u64 *start, u64 *end);
/* first page frame that the kernel has no memory for, as of now */
u64 gvahint_nr_pfns(void);
/* between both, memory that is online stays so; the former may sleep */
void gvahint_memory_lock(void);
void gvahint_memory_unlock(void);
/* has memory gone online or offline since the last call? */
bool gvahint_memory_changed(void);
/*
 * What does the kernel map at gva, within one of the areas?  Returns whether it
 * maps anything; *size is that of the page, or of the hole, and *gpa where the
 * page starts.  Memory that is not online is a hole.  Under gvahint_memory_lock().
 */
bool gvahint_mapping(u64 gva, u64 *gpa, u64 *size);

/* ---- shim.c: memory pressure */

/*
 * How many pages the kernel has looked at to take memory back; 0 from one that does not
 * count (CONFIG_VM_EVENT_COUNTERS).  The thread's alone.  Sleeps.
 */
u64 gvahint_scanned(void);
/* large pages of the direct map that were split since the boot; 0 as above */
u64 gvahint_direct_map_splits(void);

/* ---- shim.c: changes, as in gva_hint.h */

typedef void (*gvahint_stale_fn)(void *data, unsigned long pfn, unsigned long nr);

/* nr bits in each, in use until gvahint_watch_stop() has returned.  Sleeps.  -EBUSY */
int gvahint_watch_start(u64 *hinted, u64 *no_table, u64 nr, void *data, gvahint_stale_fn fn);
/* sleeps; fn is not running any more, nor will it */
void gvahint_watch_stop(void);

/* ---- shim.c: the thread */

typedef void (*gvahint_thread_fn)(void *data);

/*
 * Sleeps; fn(data) returns once gvahint_should_stop() does not say no, at the latest:
 * when the thread is stopped, or the kernel goes down, which waits a second for it.
 */
int gvahint_thread_start(void *data, gvahint_thread_fn fn);
/* sleeps until fn has returned, or was never called; no gvahint_kick() may run or follow */
void gvahint_thread_stop(void);
/* ends a gvahint_wait(), or the next one; callable anywhere, with any lock held */
void gvahint_kick(void);
/* the rest is the thread's alone.  Sleeps for so long, or until it shall stop; freezes if need be */
void gvahint_pause(u64 ms);
/* the same, or until kicked */
void gvahint_wait(u64 ms);
bool gvahint_should_stop(void);

/* ---- shim_sysfs.c: /sys/kernel/gvahint_guest */

#define GVAHINT_MAX_FILES	64
#define GVAHINT_FILE_NAME_LEN	32

/*
 * Both may sleep.  One store at a time, any number of shows.  show fills at most
 * len bytes of buf and returns how many.
 */
struct gvahint_sysfs_ops {
	ssize_t (*show)(void *data, u32 id, char *buf, size_t len);
	ssize_t (*store)(void *data, u32 id, const char *buf, size_t len);
};

/*
 * Before gvahint_sysfs_init(): adds a file, by the name that is not NUL-terminated; in stats/
 * and read-only if stat.  Returns its id, -ENOSPC or -EINVAL.
 */
int gvahint_sysfs_add(const char *name, size_t len, bool writable, bool stat);
int gvahint_sysfs_init(const struct gvahint_sysfs_ops *ops, void *data);
/* waits for every reader and writer */
void gvahint_sysfs_exit(void);

#endif /* _GVAHINT_GUEST_SHIM_H */
