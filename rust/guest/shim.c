// SPDX-License-Identifier: GPL-2.0
/*
 * C for what the kernel crate of 6.12 has no abstraction for: see shim.h,
 * which holds the contracts.
 */
#include <linux/cc_platform.h>
#include <linux/completion.h>
#include <linux/freezer.h>
#include <linux/io.h>
#include <linux/irq_work.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/kvm_para.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/notifier.h>
#include <linux/pgtable.h>
#include <linux/preempt.h>
#include <linux/reboot.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/timekeeping.h>
#include <linux/vmalloc.h>
#include <linux/vmstat.h>
#include <linux/wait.h>

#include "shim.h"

int gvahint_platform(void)
{
	if (!kvm_para_available())
		return -ENODEV;
	return cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT) ? -EOPNOTSUPP : 0;
}

s64 gvahint_call(u64 op, u64 a1, u64 *buf, u32 len)
{
	return kvm_hypercall4(KVM_HC_GVA_HINT, op, a1, buf ? virt_to_phys(buf) : 0, len);
}

/*
 * Under its address in the direct map the page is never touched: that is mapped by
 * a large page, whose other parts everybody uses.
 */
bool gvahint_canary(const u64 *at, u64 a1_clear, u64 a1_test, u64 *buf, s64 *clear, s64 *test)
{
	struct gvahint_canary *canary = (struct gvahint_canary *)buf;
	bool both;

	canary->gfn = vmalloc_to_pfn(at);
	canary->gva = (u64)at;
	canary->step = 0;

	preempt_disable();
	/* the CPU walks now and keeps what it keeps: what isn't cached can't be stale */
	asm volatile("invlpg (%0)" : : "r" (at) : "memory");
	READ_ONCE(*at);
	*clear = gvahint_call(GVAHINT_OP_CANARY, a1_clear, buf, sizeof(*canary));
	both = *clear == GVAHINT_CANARY_OK;
	if (both) {
		READ_ONCE(*at);
		canary->step = 1;
		*test = gvahint_call(GVAHINT_OP_CANARY, a1_test, buf, sizeof(*canary));
	}
	preempt_enable();
	return both;
}

u64 gvahint_now_ms(void)
{
	return ktime_to_ms(ktime_get_coarse_boottime());
}

void gvahint_cond_resched(void)
{
	cond_resched();
}

void gvahint_area(enum gvahint_area area, u64 *start, u64 *end)
{
	if (area == GVAHINT_AREA_DIRECT_MAP) {
		*start = PAGE_OFFSET;
		*end = (u64)high_memory;
	} else {
		/* _text and _end are not for modules; what is around them isn't mapped */
		*start = __START_KERNEL_map;
		*end = __START_KERNEL_map + KERNEL_IMAGE_SIZE;
	}
}

u64 gvahint_nr_pfns(void)
{
	return PFN_UP(__pa((u64)high_memory - 1) + 1);
}

static DECLARE_RWSEM(gvahint_memory);
static bool gvahint_memory_flag;

/*
 * Tables of the direct map and struct pages are freed when memory is removed, which
 * has to be offline before.  By the time of this call the sections are marked
 * offline: who reads after it leaves them alone, and it waits for who reads now.
 */
static int gvahint_memory_notify(struct notifier_block *nb, unsigned long action, void *arg)
{
	switch (action) {
	case MEM_OFFLINE:
		down_write(&gvahint_memory);
		up_write(&gvahint_memory);
		fallthrough;
	case MEM_ONLINE:
		WRITE_ONCE(gvahint_memory_flag, true);
		break;
	}
	return NOTIFY_OK;
}

static struct notifier_block gvahint_memory_nb = { .notifier_call = gvahint_memory_notify };

void gvahint_memory_lock(void)
{
	down_read(&gvahint_memory);
}

void gvahint_memory_unlock(void)
{
	up_read(&gvahint_memory);
}

bool gvahint_memory_changed(void)
{
	return READ_ONCE(gvahint_memory_flag) && xchg(&gvahint_memory_flag, false);
}

/* nothing is mapped there, or nothing that stays; *size: how far at least */
static bool gvahint_hole(u64 gva, u64 *size)
{
	unsigned long pfn = PHYS_PFN(__pa(gva));

	if (gva >= __START_KERNEL_map || pfn_to_online_page(pfn))
		return false;
	*size = online_section_nr(pfn_to_section_nr(pfn)) ? PMD_SIZE : BIT_ULL(SECTION_SIZE_BITS);
	return true;
}

bool gvahint_mapping(u64 gva, u64 *gpa, u64 *size)
{
	unsigned int level;
	pte_t *entry;

	if (gvahint_hole(gva, size))
		return false;
	entry = lookup_address(gva, &level);
	*size = page_level_size(level);
	if (!entry)
		return false;
	/* both areas are linear; an entry that is read now may lead to what it was split into */
	*gpa = __pa(gva & ~(*size - 1));
	switch (level) {
	case PG_LEVEL_4K:
		/* KFENCE and the like take single pages away and put them back where they were */
		return gva < __START_KERNEL_map || pte_present(*entry);
	case PG_LEVEL_2M:
		return pmd_present(*(pmd_t *)entry);
	case PG_LEVEL_1G:
		return pud_present(*(pud_t *)entry);
	default:
		return false;
	}
}

u64 gvahint_scanned(void)
{
	static unsigned long events[NR_VM_EVENT_ITEMS];

	all_vm_events(events);
	/* reclaim of all memory, not that of a cgroup that is at its limit */
	return events[PGSCAN_KSWAPD] + events[PGSCAN_DIRECT];
}

u64 gvahint_direct_map_splits(void)
{
	u64 splits = 0;
#ifdef CONFIG_VM_EVENT_COUNTERS
	int cpu;

	for_each_possible_cpu(cpu) {
		const struct vm_event_state *state = &per_cpu(vm_event_states, cpu);

		splits += READ_ONCE(state->event[DIRECT_MAP_LEVEL2_SPLIT]) +
			  READ_ONCE(state->event[DIRECT_MAP_LEVEL3_SPLIT]);
	}
#endif
	return splits;
}

static void *gvahint_stale_data;
static gvahint_stale_fn gvahint_stale_call;

static void gvahint_watch_stale(unsigned long pfn, unsigned long nr)
{
	gvahint_stale_call(gvahint_stale_data, pfn, nr);
}

static struct gva_hint_ops gvahint_watch_ops = { .stale = gvahint_watch_stale };

int gvahint_watch_start(u64 *hinted, u64 *no_table, u64 nr, void *data, gvahint_stale_fn fn)
{
	gvahint_stale_data = data;
	gvahint_stale_call = fn;
	gvahint_watch_ops.map = (unsigned long *)hinted;
	gvahint_watch_ops.data = (unsigned long *)no_table;
	gvahint_watch_ops.nr_pfns = nr;
	/* holds no lock of ours, unlike who looks at a page */
	gva_hint_prepare();
	return gva_hint_register(&gvahint_watch_ops);
}

void gvahint_watch_stop(void)
{
	gva_hint_unregister();
}

static struct task_struct *gvahint_task;
static gvahint_thread_fn gvahint_thread_call;
static DECLARE_WAIT_QUEUE_HEAD(gvahint_queue);
static bool gvahint_kicked;
static bool gvahint_leaving;
static DECLARE_COMPLETION(gvahint_left);

static void gvahint_wake(struct irq_work *work)
{
	WRITE_ONCE(gvahint_kicked, true);
	wake_up(&gvahint_queue);
}

/* who kicks may hold locks that waking up somebody takes as well */
static DEFINE_IRQ_WORK(gvahint_waker, gvahint_wake);

void gvahint_kick(void)
{
	irq_work_queue(&gvahint_waker);
}

static int gvahint_thread(void *data)
{
	set_freezable();
	gvahint_thread_call(data);
	complete_all(&gvahint_left);
	/* kthread_stop() needs us */
	wait_event_freezable(gvahint_queue, kthread_should_stop());
	return 0;
}

/*
 * Reboot, halt, kexec: the host must not take what this kernel said for true of the
 * next one.  It forgets by itself what a kernel said that is in no state to.
 */
static int gvahint_reboot(struct notifier_block *nb, unsigned long action, void *arg)
{
	WRITE_ONCE(gvahint_leaving, true);
	wake_up(&gvahint_queue);
	wait_for_completion_timeout(&gvahint_left, HZ);
	return NOTIFY_DONE;
}

static struct notifier_block gvahint_reboot_nb = { .notifier_call = gvahint_reboot };

int gvahint_thread_start(void *data, gvahint_thread_fn fn)
{
	struct task_struct *task;
	int ret;

	ret = register_memory_notifier(&gvahint_memory_nb);
	if (ret)
		return ret;
	ret = register_reboot_notifier(&gvahint_reboot_nb);
	if (ret)
		goto no_reboot;
	gvahint_thread_call = fn;
	task = kthread_run(gvahint_thread, data, "gvahint_guest");
	if (IS_ERR(task)) {
		ret = PTR_ERR(task);
		goto no_thread;
	}
	gvahint_task = task;
	return 0;

no_thread:
	unregister_reboot_notifier(&gvahint_reboot_nb);
no_reboot:
	unregister_memory_notifier(&gvahint_memory_nb);
	return ret;
}

void gvahint_thread_stop(void)
{
	unregister_reboot_notifier(&gvahint_reboot_nb);
	kthread_stop(gvahint_task);
	unregister_memory_notifier(&gvahint_memory_nb);
	irq_work_sync(&gvahint_waker);
}

/* at least a jiffy: this is also where others get the CPU */
static unsigned long gvahint_jiffies(u64 ms)
{
	return max(msecs_to_jiffies(min_t(u64, ms, INT_MAX)), 1UL);
}

bool gvahint_should_stop(void)
{
	return READ_ONCE(gvahint_leaving) || kthread_should_stop();
}

void gvahint_pause(u64 ms)
{
	wait_event_freezable_timeout(gvahint_queue, gvahint_should_stop(), gvahint_jiffies(ms));
}

void gvahint_wait(u64 ms)
{
	wait_event_freezable_timeout(gvahint_queue,
				     READ_ONCE(gvahint_kicked) || gvahint_should_stop(),
				     gvahint_jiffies(ms));
	WRITE_ONCE(gvahint_kicked, false);
}
