// SPDX-License-Identifier: GPL-2.0
/*
 * Runs the tests when it is loaded, on CPU 0, and leaves their TAP in
 * /sys/kernel/debug/gvahint_model. Not with KVM: it wants VMX for itself.
 */
#include <linux/debugfs.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <asm/cpufeature.h>
#include <asm/tlbflush.h>
#include "model.h"

#define REPORT_SIZE	(64 * 1024)

static struct debugfs_blob_wrapper report;
static struct dentry *file;
static unsigned int tests;

static __printf(1, 0) void append(const char *fmt, va_list args)
{
	report.size += vscnprintf(report.data + report.size, REPORT_SIZE - report.size, fmt, args);
}

static __printf(1, 2) void print(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	append(fmt, args);
	va_end(args);
}

void result(bool ok, const char *fmt, ...)
{
	va_list args;

	print("%sok %u - ", ok ? "" : "not ", ++tests);
	va_start(args, fmt);
	append(fmt, args);
	va_end(args);
	print("\n");
}

void skip(const char *why, const char *fmt, ...)
{
	va_list args;

	print("ok %u - ", ++tests);
	va_start(args, fmt);
	append(fmt, args);
	va_end(args);
	print(" # SKIP %s\n", why);
}

void note(const char *fmt, ...)
{
	va_list args;

	print("# ");
	va_start(args, fmt);
	append(fmt, args);
	va_end(args);
	print("\n");
}

/* The host's mappings go as well: in the small TLB they would take the room. */
void flush_everything(void)
{
	invept(2, 0, 0);
	invvpid(2, 0, 0);
	host_invpcid(2, 0, 0);
}

static long run(void *unused)
{
	static void (*const groups[])(void) = {
		test_operands, test_scopes, test_tags, test_guest_physical,
		test_accessed_bits, test_within_entry, test_counters, test_capacity,
	};
	unsigned long flags;
	unsigned int n;
	int err;

	/*
	 * A group at a time with interrupts off: nobody else takes room in the
	 * TLB, and no other task finds VMX on.
	 */
	for (n = 0; n < ARRAY_SIZE(groups); n++) {
		local_irq_save(flags);
		err = vmx_start();
		if (!err)
			groups[n]();
		vmx_stop();
		local_irq_restore(flags);
		if (err) {
			print("Bail out! VMX operation: error %d\n", err);
			return err;
		}
	}
	print("1..%u\n", tests);
	return 0;
}

static int __init model_init(void)
{
	int err = -ENODEV;

	if (!boot_cpu_has(X86_FEATURE_VMX) || !boot_cpu_has(X86_FEATURE_INVPCID) || !device_present()) {
		pr_err("gvahint_model: this is not the test machine\n");
		return -ENODEV;
	}
	if (cr4_read_shadow() & X86_CR4_VMXE) {
		pr_err("gvahint_model: VMX is in use, unload KVM\n");
		return -EBUSY;
	}
	report.data = vzalloc(REPORT_SIZE);
	if (!report.data)
		return -ENOMEM;
	print("TAP version 13\n");
	err = tables_init() ?: host_page_init();
	if (!err)
		err = work_on_cpu(0, run, NULL);
	host_page_exit();
	tables_exit();
	if (err == -ENOMEM) {
		vfree(report.data);
		return err;
	}
	file = debugfs_create_blob("gvahint_model", 0400, NULL, &report);
	return 0;
}

static void __exit model_exit(void)
{
	debugfs_remove(file);
	vfree(report.data);
}

module_init(model_init);
module_exit(model_exit);
MODULE_DESCRIPTION("Tests of the TLB model of the gvahint test machine");
MODULE_LICENSE("GPL");
