// SPDX-License-Identifier: GPL-2.0
/*
 * Stands in for the reporter: /sys/kernel/debug/gvahint_mm takes one command and
 * then reads as its result.
 *
 *   register, unregister    (registered when loaded)
 *   pages                   how many bits there are
 *   watch PFN NR            set the bits, in both bitmaps
 *   left PFN NR             how many of them are still set in that of the addresses
 *   data PFN NR             and in that of what is no page table
 *   walk PFN                "KIND REASON ORDER GVA:ORDER ..." with numbers of the enums
 *   taken PFN               the most references to it that are seen to be taken while another CPU walks it
 *   events                  "PFN:NR ..." since the last time, then "lost N" if some were
 *   alloc WHAT              a page of the kernel's own: "PFN"; see pages.c
 *   hold HOW PFN            do something with a page that lasts until release
 *   migrate PFN             move what is in these 2 MiB elsewhere
 *   drain                   gva_hint_drain()
 *   table ADDRESS LEVEL     PFN of the caller's page table at that level (1 = of PTEs)
 *   release                 undo alloc and hold
 *
 * mmap() of it maps the page that is held, see pages.c.
 */
#include <linux/bitmap.h>
#include <linux/debugfs.h>
#include <linux/gva_hint.h>
#include <linux/kthread.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nodemask.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include "gvahint_mm.h"

#define EVENTS 1024
#define WALKS 2000

static DEFINE_MUTEX(lock);
static struct dentry *file;
static char result[32 * EVENTS];
static struct gva_hint_ops ops;

static DEFINE_RAW_SPINLOCK(events_lock);
static struct { unsigned long pfn, nr; } events[EVENTS];
static unsigned int nr_events, lost;

static void stale(unsigned long pfn, unsigned long nr)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&events_lock, flags);
	if (nr_events < EVENTS) {
		events[nr_events].pfn = pfn;
		events[nr_events++].nr = nr;
	} else {
		lost++;
	}
	raw_spin_unlock_irqrestore(&events_lock, flags);
}

static int show_walk(char *to, size_t size, unsigned long pfn)
{
	struct gva_hint_set set;
	unsigned int i;
	int n;

	gva_hint_walk(pfn, &set);
	n = scnprintf(to, size, "%d %d %u", set.kind, set.reason, set.order);
	for (i = 0; i < set.nr; i++)
		n += scnprintf(to + n, size - n, " %lx:%u", set.map[i].gva, set.map[i].order);
	return n;
}

struct walks {
	unsigned long pfn;
	bool done;
};

static int walk_often(void *data)
{
	struct walks *walks = data;
	struct gva_hint_set set;
	int i;

	for (i = 0; i < WALKS; i++)
		gva_hint_walk(walks->pfn, &set);
	smp_store_release(&walks->done, true);
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

static long show_taken(char *to, unsigned long pfn)
{
	unsigned int cpu = cpumask_any_but(cpu_online_mask, raw_smp_processor_id());
	struct page *page = pfn_to_online_page(pfn);
	struct walks walks = { .pfn = pfn };
	struct task_struct *task;
	int before, most = 0;

	if (!page || cpu >= nr_cpu_ids)
		return -EINVAL;
	before = page_count(page);
	task = kthread_run_on_cpu(walk_often, &walks, cpu, "gvahint_mm/%u");
	if (IS_ERR(task))
		return PTR_ERR(task);
	while (!smp_load_acquire(&walks.done)) {
		most = max(most, page_count(page) - before);
		cond_resched();
	}
	kthread_stop(task);
	sprintf(to, "%x", most);
	return 0;
}

static int show_events(char *to, size_t size)
{
	unsigned long flags;
	unsigned int i;
	int n = 0;

	raw_spin_lock_irqsave(&events_lock, flags);
	for (i = 0; i < nr_events; i++)
		n += scnprintf(to + n, size - n, "%lx:%lx ", events[i].pfn, events[i].nr);
	if (lost)
		n += scnprintf(to + n, size - n, "lost %u", lost);
	nr_events = 0;
	lost = 0;
	raw_spin_unlock_irqrestore(&events_lock, flags);
	return n;
}

static bool within(unsigned long pfn, unsigned long nr)
{
	return pfn < ops.nr_pfns && nr <= ops.nr_pfns - pfn;
}

static long command(const char *line)
{
	unsigned long a = 0, b = 0, i, n = 0;
	char word[16], how[16];
	long err = 0;

	result[0] = 0;
	if (sscanf(line, "watch %lx %lx", &a, &b) == 2 && within(a, b)) {
		for (i = a; i < a + b; i++) {
			set_bit(i, ops.map);
			set_bit(i, ops.data);
		}
	} else if (sscanf(line, "left %lx %lx", &a, &b) == 2 && within(a, b)) {
		for (i = a; i < a + b; i++)
			n += test_bit(i, ops.map);
		sprintf(result, "%lx", n);
	} else if (sscanf(line, "data %lx %lx", &a, &b) == 2 && within(a, b)) {
		for (i = a; i < a + b; i++)
			n += test_bit(i, ops.data);
		sprintf(result, "%lx", n);
	} else if (sscanf(line, "walk %lx", &a) == 1) {
		show_walk(result, sizeof(result), a);
	} else if (sscanf(line, "taken %lx", &a) == 1) {
		err = show_taken(result, a);
	} else if (sscanf(line, "alloc %15s", how) == 1) {
		err = pages_alloc(how, &a);
		sprintf(result, "%lx", a);
	} else if (sscanf(line, "hold %15s %lx", how, &a) == 2) {
		err = pages_hold(how, a);
	} else if (sscanf(line, "migrate %lx", &a) == 1) {
		err = pages_migrate(a);
	} else if (sscanf(line, "table %lx %lx", &a, &b) == 2) {
		sprintf(result, "%lx", pages_table_of(a, b));
	} else if (sscanf(line, "%15s", word) != 1) {
		err = -EINVAL;
	} else if (!strcmp(word, "register")) {
		err = gva_hint_register(&ops);
	} else if (!strcmp(word, "unregister")) {
		gva_hint_unregister();
	} else if (!strcmp(word, "drain")) {
		gva_hint_drain();
	} else if (!strcmp(word, "events")) {
		show_events(result, sizeof(result));
	} else if (!strcmp(word, "pages")) {
		sprintf(result, "%lx", ops.nr_pfns);
	} else if (!strcmp(word, "release")) {
		err = pages_release();
	} else {
		err = -EINVAL;
	}
	return err;
}

static ssize_t command_write(struct file *f, const char __user *buf, size_t len, loff_t *pos)
{
	char line[64];
	long err;

	if (len >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, buf, len))
		return -EFAULT;
	line[len] = 0;
	mutex_lock(&lock);
	err = command(line);
	mutex_unlock(&lock);
	return err ?: len;
}

static ssize_t command_read(struct file *f, char __user *buf, size_t len, loff_t *pos)
{
	return simple_read_from_buffer(buf, len, pos, result, strlen(result));
}

static const struct file_operations command_ops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = command_read,
	.write = command_write,
	.mmap = pages_mmap,
	.llseek = default_llseek,
};

static int __init mm_init(void)
{
	int node, err;

	for_each_online_node(node)
		ops.nr_pfns = max(ops.nr_pfns, node_end_pfn(node));
	ops.stale = stale;
	ops.map = vzalloc(BITS_TO_LONGS(ops.nr_pfns) * sizeof(long));
	ops.data = vzalloc(BITS_TO_LONGS(ops.nr_pfns) * sizeof(long));
	gva_hint_prepare();
	err = ops.map && ops.data ? gva_hint_register(&ops) : -ENOMEM;
	if (err) {
		vfree(ops.data);
		vfree(ops.map);
		return err;
	}
	file = debugfs_create_file_unsafe("gvahint_mm", 0600, NULL, NULL, &command_ops);
	return 0;
}

static void __exit mm_exit(void)
{
	debugfs_remove(file);
	pages_release();
	gva_hint_unregister();
	vfree(ops.data);
	vfree(ops.map);
}

module_init(mm_init);
module_exit(mm_exit);
MODULE_DESCRIPTION("Test of the enumeration of virtual addresses and of its notifications");
MODULE_LICENSE("GPL");
