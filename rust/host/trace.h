/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The trace events of gvahint.ko.  Fields and words are an interface:
 * docs/abi/tracing-gvahint.  Words are those of sysfs, where it has them.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM gvahint

#if !defined(_GVAHINT_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _GVAHINT_TRACE_H

#include <linux/tracepoint.h>

#include "shim.h"

TRACE_DEFINE_ENUM(KVM_AGE_CLEAR_FLUSH_YOUNG);
TRACE_DEFINE_ENUM(KVM_AGE_CLEAR_YOUNG);
TRACE_DEFINE_ENUM(GVAHINT_UNCOVERED);
TRACE_DEFINE_ENUM(GVAHINT_COVERED);
TRACE_DEFINE_ENUM(GVAHINT_UNASKED);
TRACE_DEFINE_ENUM(GVAHINT_MARK_NONE);
TRACE_DEFINE_ENUM(GVAHINT_MARK_CONTEXT);
TRACE_DEFINE_ENUM(GVAHINT_MARK_FULL);
TRACE_DEFINE_ENUM(KVM_AGE_DEFAULT);
TRACE_DEFINE_ENUM(KVM_AGE_HANDLED);
TRACE_DEFINE_ENUM(GVAHINT_KICK_NO);
TRACE_DEFINE_ENUM(GVAHINT_KICK_NOW);
TRACE_DEFINE_ENUM(GVAHINT_KICK_WITHIN);
TRACE_DEFINE_ENUM(GVAHINT_FLUSH_NOTHING);
TRACE_DEFINE_ENUM(GVAHINT_FLUSH_GVA);
TRACE_DEFINE_ENUM(GVAHINT_FLUSH_CONTEXT);
TRACE_DEFINE_ENUM(GVAHINT_FLUSH_FULL);
TRACE_DEFINE_ENUM(GVAHINT_FLUSH_SUPERSEDED);
TRACE_DEFINE_ENUM(GVAHINT_WHY_LAGGED);
TRACE_DEFINE_ENUM(GVAHINT_WHY_TOO_MANY);
TRACE_DEFINE_ENUM(GVAHINT_WHY_OVERWRITTEN);
TRACE_DEFINE_ENUM(GVAHINT_WHY_REFUSED);

#define gvahint_show_level(level)					\
	__print_symbolic(level, { 1, "4K" }, { 2, "2M" }, { 3, "1G" })

#define gvahint_show_which(which)					\
	__print_symbolic(which,						\
		{ KVM_AGE_CLEAR_FLUSH_YOUNG,	"clear_flush_young" },	\
		{ KVM_AGE_CLEAR_YOUNG,		"clear_young" })

#define gvahint_show_coverage(coverage)					\
	__print_symbolic(coverage,					\
		{ GVAHINT_UNCOVERED,		"uncovered" },		\
		{ GVAHINT_COVERED,		"covered" },		\
		{ GVAHINT_UNASKED,		"unasked" })

/* The numbers of the three that follow are the core's; one of its tests compares them. */
#define gvahint_show_reason(reason)					\
	__print_symbolic(reason,					\
		{ 0,	"no_hint" },					\
		{ 1,	"aged" },					\
		{ 2,	"kernel_only" },				\
		{ 3,	"page_table" },					\
		{ 4,	"large_leaf" },					\
		{ 5,	"no_session" },					\
		{ 6,	"no_linear" },					\
		{ 7,	"no_gva_flush" },				\
		{ 8,	"no_room" },					\
		{ 9,	"race" },					\
		{ 10,	"degraded" },					\
		{ 11,	"calibration" },				\
		{ 255,	"-" })

#define gvahint_show_policy(flush)					\
	__print_symbolic(flush,						\
		{ 0,	"default" },					\
		{ 1,	"none" },					\
		{ 2,	"hint" },					\
		{ 3,	"context" },					\
		{ 4,	"invept" })

#define gvahint_show_timing(timing)					\
	__print_symbolic(timing,					\
		{ 0,	"now" },					\
		{ 1,	"batched" },					\
		{ 2,	"deferred" })

#define gvahint_show_mark(mark)						\
	__print_symbolic(mark,						\
		{ GVAHINT_MARK_NONE,		"none" },		\
		{ GVAHINT_MARK_CONTEXT,		"context" },		\
		{ GVAHINT_MARK_FULL,		"full" })

#define gvahint_show_verdict(verdict)					\
	__print_symbolic(verdict,					\
		{ KVM_AGE_DEFAULT,		"default" },		\
		{ KVM_AGE_HANDLED,		"handled" })

#define gvahint_show_kick(kick)						\
	__print_symbolic(kick,						\
		{ GVAHINT_KICK_NO,		"no" },			\
		{ GVAHINT_KICK_NOW,		"now" },		\
		{ GVAHINT_KICK_WITHIN,		"within" })

#define gvahint_show_kind(kind)						\
	__print_symbolic(kind,						\
		{ GVAHINT_FLUSH_NOTHING,	"nothing" },		\
		{ GVAHINT_FLUSH_GVA,		"gva" },		\
		{ GVAHINT_FLUSH_CONTEXT,	"context" },		\
		{ GVAHINT_FLUSH_FULL,		"full" },		\
		{ GVAHINT_FLUSH_SUPERSEDED,	"superseded" })

#define gvahint_show_why(why)						\
	__print_symbolic(why,						\
		{ GVAHINT_WHY_LAGGED,		"lagged" },		\
		{ GVAHINT_WHY_TOO_MANY,		"too_many" },		\
		{ GVAHINT_WHY_OVERWRITTEN,	"overwritten" },	\
		{ GVAHINT_WHY_REFUSED,		"refused" },		\
		{ 255,				"-" })

#define gvahint_show_op(op)						\
	__print_symbolic(op,						\
		{ 1,	"linear" },					\
		{ 2,	"report" },					\
		{ 3,	"canary" },					\
		{ 4,	"bye" },					\
		{ 64,	"hello" },					\
		{ 65,	"wanted" })

#define gvahint_show_step(step)						\
	__print_symbolic(step, { 0, "clear" }, { 1, "test" })

/* What a guest gets to see: KVM_E* of linux/kvm_para.h. */
#define gvahint_show_error(answer)					\
	__print_symbolic(answer < 0 ? -answer : 0,			\
		{ 0,	"-" },						\
		{ 1,	"EPERM" },					\
		{ 7,	"E2BIG" },					\
		{ 14,	"EFAULT" },					\
		{ 22,	"EINVAL" },					\
		{ 95,	"EOPNOTSUPP" },					\
		{ 116,	"ESTALE" },					\
		{ 1000,	"ENOSYS" })

/* A leaf SPTE lost its accessed bit.  Under mmu_lock. */
TRACE_EVENT(aged,
	TP_PROTO(const struct gvahint_ev_aged *event),
	TP_ARGS(event),
	TP_STRUCT__entry(
		__field(u64, vm)
		__field(u64, gfn)
		__field(s32, pid)
		__field(u8, level)
		__field(u8, which)
		__field(u8, coverage)
		__field(u8, reason)
	),
	TP_fast_assign(
		__entry->vm = event->vm;
		__entry->gfn = event->gfn;
		__entry->pid = event->pid;
		__entry->level = event->level;
		__entry->which = event->which;
		__entry->coverage = event->coverage;
		__entry->reason = event->reason;
	),
	TP_printk("vm=%llu pid=%d gfn=0x%llx level=%s which=%s coverage=%s reason=%s",
		  __entry->vm, __entry->pid, __entry->gfn,
		  gvahint_show_level(__entry->level),
		  gvahint_show_which(__entry->which),
		  gvahint_show_coverage(__entry->coverage),
		  gvahint_show_reason(__entry->reason))
);

/* A notifier call that found something young ends.  Under mmu_lock. */
TRACE_EVENT(plan,
	TP_PROTO(const struct gvahint_ev_plan *event),
	TP_ARGS(event),
	TP_STRUCT__entry(
		__field(u64, vm)
		__field(u64, head)
		__field(s32, pid)
		__field(u32, aged)
		__field(u32, covered)
		__field(u32, uncovered)
		__field(u32, other)
		__field(u32, gvas)
		__field(u8, which)
		__field(u8, flush)
		__field(u8, timing)
		__field(u8, mark)
		__field(u8, verdict)
		__field(u8, kick)
	),
	TP_fast_assign(
		__entry->vm = event->vm;
		__entry->head = event->head;
		__entry->pid = event->pid;
		__entry->aged = event->aged;
		__entry->covered = event->covered;
		__entry->uncovered = event->uncovered;
		__entry->other = event->other;
		__entry->gvas = event->gvas;
		__entry->which = event->which;
		__entry->flush = event->flush;
		__entry->timing = event->timing;
		__entry->mark = event->mark;
		__entry->verdict = event->verdict;
		__entry->kick = event->kick;
	),
	TP_printk("vm=%llu pid=%d which=%s flush=%s timing=%s aged=%u covered=%u uncovered=%u other=%u gvas=%u mark=%s verdict=%s kick=%s head=%llu",
		  __entry->vm, __entry->pid,
		  gvahint_show_which(__entry->which),
		  gvahint_show_policy(__entry->flush),
		  gvahint_show_timing(__entry->timing),
		  __entry->aged, __entry->covered, __entry->uncovered,
		  __entry->other, __entry->gvas,
		  gvahint_show_mark(__entry->mark),
		  gvahint_show_verdict(__entry->verdict),
		  gvahint_show_kick(__entry->kick), __entry->head)
);

/* A vCPU got on in the VM's log.  IRQs may be off. */
TRACE_EVENT(flush,
	TP_PROTO(const struct gvahint_ev_flush *event),
	TP_ARGS(event),
	TP_STRUCT__entry(
		__field(u64, vm)
		__field(u64, from)
		__field(u64, to)
		__field(s32, pid)
		__field(u32, vcpu)
		__field(u32, gvas)
		__field(u8, kind)
		__field(u8, why)
	),
	TP_fast_assign(
		__entry->vm = event->vm;
		__entry->from = event->from;
		__entry->to = event->to;
		__entry->pid = event->pid;
		__entry->vcpu = event->vcpu;
		__entry->gvas = event->gvas;
		__entry->kind = event->kind;
		__entry->why = event->why;
	),
	TP_printk("vm=%llu pid=%d vcpu=%u kind=%s gvas=%u why=%s from=%llu to=%llu",
		  __entry->vm, __entry->pid, __entry->vcpu,
		  gvahint_show_kind(__entry->kind), __entry->gvas,
		  gvahint_show_why(__entry->why), __entry->from, __entry->to)
);

/* A guest's hypercall was answered. */
TRACE_EVENT(report,
	TP_PROTO(const struct gvahint_ev_report *event),
	TP_ARGS(event),
	TP_STRUCT__entry(
		__field(u64, vm)
		__field(u64, op)
		__field(s64, answer)
		__field(u64, hints)
		__field(s32, pid)
		__field(u32, session)
		__field(u32, words)
	),
	TP_fast_assign(
		__entry->vm = event->vm;
		__entry->op = event->op;
		__entry->answer = event->answer;
		__entry->hints = event->hints;
		__entry->pid = event->pid;
		__entry->session = event->session;
		__entry->words = event->words;
	),
	TP_printk("vm=%llu pid=%d op=%s session=%u words=%u answer=%lld error=%s hints=%llu",
		  __entry->vm, __entry->pid, gvahint_show_op(__entry->op),
		  __entry->session, __entry->words, __entry->answer,
		  gvahint_show_error(__entry->answer), __entry->hints)
);

/* A step of a canary was answered. */
TRACE_EVENT(canary,
	TP_PROTO(const struct gvahint_ev_canary *event),
	TP_ARGS(event),
	TP_STRUCT__entry(
		__field(u64, vm)
		__field(u64, gfn)
		__field(u64, gva)
		__field(s64, answer)
		__field(s32, pid)
		__field(u8, step)
	),
	TP_fast_assign(
		__entry->vm = event->vm;
		__entry->gfn = event->gfn;
		__entry->gva = event->gva;
		__entry->answer = event->answer;
		__entry->pid = event->pid;
		__entry->step = event->step;
	),
	TP_printk("vm=%llu pid=%d gfn=0x%llx gva=0x%llx step=%s answer=%s error=%s",
		  __entry->vm, __entry->pid, __entry->gfn, __entry->gva,
		  gvahint_show_step(__entry->step),
		  __print_symbolic(__entry->answer < 0 ? 3 : __entry->answer,
				   { 0, "ok" }, { 1, "lost" },
				   { 2, "inconclusive" }, { 3, "-" }),
		  gvahint_show_error(__entry->answer))
);

#endif /* _GVAHINT_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
