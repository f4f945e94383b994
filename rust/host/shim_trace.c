// SPDX-License-Identifier: GPL-2.0
/*
 * Trace events, which 6.12's kernel crate cannot define.  Each looks at its own
 * static key once more, so that the Rust side's look at it decides nothing.
 */
#include "shim.h"

#ifndef CONFIG_TRACEPOINTS
#error "gvahint.ko needs a kernel with CONFIG_TRACEPOINTS: switch on CONFIG_FTRACE or CONFIG_PERF_EVENTS"
#endif

#define CREATE_TRACE_POINTS
#include "trace.h"

void gvahint_trace_aged(const struct gvahint_ev_aged *event)
{
	trace_aged(event);
}

void gvahint_trace_plan(const struct gvahint_ev_plan *event)
{
	trace_plan(event);
}

void gvahint_trace_flush(const struct gvahint_ev_flush *event)
{
	trace_flush(event);
}

void gvahint_trace_report(const struct gvahint_ev_report *event)
{
	trace_report(event);
}

void gvahint_trace_canary(const struct gvahint_ev_canary *event)
{
	trace_canary(event);
}
