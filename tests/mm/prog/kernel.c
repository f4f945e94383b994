// SPDX-License-Identifier: GPL-2.0
/* The kernel's own pages, and what else it does with those of user space. */
#define _GNU_SOURCE
#include "lib.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* fails if anything that is not on the positive list is said to be known, or to be no page table */
static void kinds(void)
{
	static const struct { const char *what; enum kind kind; enum reason reason; } own[] = {
		{ "slab", KERNEL_ONLY, R_NONE },
		{ "big", UNKNOWN, R_OTHER },
		{ "vmalloc", UNKNOWN, R_OTHER },
		{ "page", UNKNOWN, R_OTHER },
		{ "stack", UNKNOWN, R_OTHER },
		{ "text", ANYWHERE, R_RESERVED },
		{ "free", UNKNOWN, R_FREE },
		{ "second", UNKNOWN, R_FREE },
		{ "offline", UNKNOWN, R_OTHER },
		{ "block", ANYWHERE, R_FREE },
	};
	unsigned long pfn;
	int tries;
	size_t i;

	for (i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		pfn = number("alloc %s", own[i].what);
		/* others may have taken it, and in a kernel that looks for bugs do so */
		for (tries = 0; own[i].reason == R_FREE && tries < 10 && !found(pfn, own[i].kind, R_FREE); tries++)
			pfn = number("alloc %s", own[i].what);
		expect(pfn, own[i].kind, own[i].reason);
	}
	expect(number("pages") + 1000, UNKNOWN, R_OFFLINE);
	/* real mode's trampoline, and a page table in it */
	expect(1, UNKNOWN, R_RESERVED);
}

/* fails if a reference is taken, if only for a moment, to a page whose owner may set their number */
static void uncounted(void)
{
	char *p = anon(PAGE, PAGE);

	*p = 1;
	must(number("taken %lx", pfn_of(p)), "a walk that takes one is not seen");
	must(!number("taken %lx", number("alloc offline")));
}

/* fails if the shared page of zeroes is said to be known: it has no rmap */
static void zero(void)
{
	char *p = anon(PAGE, PAGE);

	must(!*(volatile char *)p);
	expect(pfn_of(p), ANYWHERE, R_RESERVED);
}

/* fails if a page of slab is not told of when it is freed */
static void slab_freed(void)
{
	unsigned long pfn = number("alloc slabs");

	expect(pfn, KERNEL_ONLY, R_NONE);
	watch(pfn, 1);
	command("release");
	told(pfn, 1);
}

/* fails if page tables are not known as such, or not told of when they are freed */
static void page_tables(void)
{
	char *p = map_at(some_address(), PAGE, -1, MAP_PRIVATE | MAP_ANONYMOUS);
	unsigned long ptes, pmds;

	*p = 1;
	ptes = number("table %lx 1", (unsigned long)p);
	pmds = number("table %lx 2", (unsigned long)p);
	must(ptes && pmds);
	expect(ptes, PAGE_TABLE, R_NONE);
	expect(pmds, PAGE_TABLE, R_NONE);
	watch(ptes, 1);
	watch(pmds, 1);
	must(!munmap(p, PAGE));
	/* they are freed when no CPU can be walking them any more */
	for (int tries = 0; number("left %lx 1", ptes) || number("left %lx 1", pmds); tries++) {
		must(tries < 1000, "not told");
		usleep(1000);
	}
}

static unsigned long symbol(const char *name)
{
	FILE *f = fopen("/proc/kallsyms", "r");
	char line[256], found[64];
	unsigned long address;

	must(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx %*c %63s", &address, found) == 2 && !strcmp(found, name)) {
			fclose(f);
			return address;
		}
	}
	must(0, "no %s", name);
	return 0;
}

/* fails if one of the kernel's first page tables, which nobody marks, is taken for none */
static void kernel_tables(void)
{
	/* the direct map, vmemmap, the kernel's image */
	static const unsigned long addresses[] = { 0xffff888000000000, 0xffffea0000000000, 0xffffffff81000000 };
	unsigned long text = number("alloc text"), offset = symbol("init_top_pgt") - symbol("_printk");
	unsigned long level, pfn;
	size_t i;

	for (i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		for (level = 2; level <= 3; level++) {
			pfn = number("table %lx %lx", addresses[i], level);
			must(pfn, "%lx %lx", addresses[i], level);
			expect(pfn, PAGE_TABLE, R_NONE);
		}
	}
	pfn = text + (symbol("_printk") % PAGE + offset) / PAGE;
	expect(pfn, PAGE_TABLE, R_NONE);
	expect(pfn - 1, ANYWHERE, R_RESERVED);
}

/* fails if what may become a page table is not told of, or what can't be is, or stays none only until it is freed */
static void allocated(void)
{
	char *p = map_at(some_address(), PAGE, -1, MAP_PRIVATE | MAP_ANONYMOUS);
	unsigned long pfn;

	command("watch 0 %lx", number("pages"));
	pfn = number("alloc page");
	must(!number("data %lx 1", pfn), "the kernel's own");
	pfn = number("alloc movable");
	must(number("data %lx 1", pfn), "movable");
	silent(pfn, 1);
	*p = 1;
	pfn = number("table %lx 1", (unsigned long)p);
	must(!number("data %lx 1", pfn), "a page table");
	pfn = pfn_of(p);
	must(!munmap(p, PAGE));
	must(!number("left %lx 1", pfn) && number("data %lx 1", pfn), "freed");
}

/* fails if a page that waits in a CPU's list can't be made known as free; others may take it from there */
static void drained(void)
{
	unsigned long pfn;
	int tries;

	for (tries = 0; tries < 100; tries++) {
		pfn = number("alloc free");
		if (!found(pfn, UNKNOWN, R_FREE))
			continue;
		command("drain");
		if (found(pfn, ANYWHERE, R_FREE))
			return;
	}
	must(tries < 100, "pfn %lx", pfn);
}

/* fails if a page that somebody holds is said to be known: he may reach it anyhow */
static void held(void)
{
	char *p = anon(PAGE, PAGE);
	unsigned long pfn;

	*p = 1;
	pfn = pfn_of(p);
	command("hold get %lx", pfn);
	expect(pfn, ANYWHERE, R_REFS);
	command("release");
	expect_mapped(pfn, 0, { p, 0 });
}

/* the same for a page in a pipe */
static void piped(void)
{
	char *p = anon(PAGE, PAGE), byte;
	struct iovec iov = { p, 1 };
	unsigned long pfn;
	int fds[2];

	*p = 1;
	pfn = pfn_of(p);
	must(!pipe(fds));
	must(vmsplice(fds[1], &iov, 1, 0) == 1);
	expect(pfn, ANYWHERE, R_REFS);
	must(read(fds[0], &byte, 1) == 1);
	expect_mapped(pfn, 0, { p, 0 });
}

/* fails if mlock() makes a page unknown */
static void mlocked(void)
{
	char *p = anon(PAGE, PAGE);

	*p = 1;
	must(!mlock(p, PAGE));
	expect_mapped(pfn_of(p), 0, { p, 0 });
}

/* fails if a page that the kernel maps elsewhere is not told of, or is said to be known */
static void mapped_by_kernel(const char *how)
{
	char *p = anon(PAGE, PAGE);
	unsigned long pfn;

	*p = 1;
	pfn = pfn_of(p);
	watch(pfn, 1);
	command("hold %s %lx", how, pfn);
	told(pfn, 1);
	expect(pfn, ANYWHERE, R_REFS);
	command("release");
	expect_mapped(pfn, 0, { p, 0 });
}

static void vmapped(void)
{
	mapped_by_kernel("vmap");
}

static void vm_mapped_ram(void)
{
	mapped_by_kernel("ram");
}

/* fails if a page that a driver maps by pfn is not told of */
static void pfn_mapped(void)
{
	int fd = open("/sys/kernel/debug/gvahint_mm", O_RDWR);
	char *p = anon(PAGE, PAGE), *q;
	unsigned long pfn;

	*p = 1;
	pfn = pfn_of(p);
	command("hold get %lx", pfn);
	watch(pfn, 1);
	must(fd >= 0);
	q = map_at(NULL, PAGE, fd, MAP_SHARED);
	must(*(volatile char *)q == 1);
	told(pfn, 1);
	expect(pfn, ANYWHERE, R_REFS);
	must(!munmap(q, PAGE));
}

/* fails if a mapping that the page's own file doesn't know of goes unnoticed */
static void driver_mapped(void)
{
	int fd = open("/sys/kernel/debug/gvahint_mm", O_RDWR);
	char *p = map_at(NULL, PAGE, file_of("ramfs", PAGE), MAP_SHARED), *q;
	unsigned long pfn;

	*p = 1;
	pfn = pfn_of(p);
	command("hold get %lx", pfn);
	watch(pfn, 1);
	must(fd >= 0);
	q = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE);
	must(q != MAP_FAILED);
	must(*(volatile char *)q == 1);
	told(pfn, 1);
	command("release");
	expect(pfn, ANYWHERE, R_MAPCOUNT);
	must(!munmap(q, PAGE));
	expect_mapped(pfn, 0, { p, 0 });
}

/* fails if a walk waits for the lock of a page instead of saying so */
static void busy(void)
{
	char *p = anon(PAGE, PAGE);
	unsigned long pfn;

	*p = 1;
	pfn = pfn_of(p);
	command("hold lock %lx", pfn);
	expect(pfn, BUSY, R_NONE);
	command("release");
	expect_mapped(pfn, 0, { p, 0 });
}

/* fails if two can register, or if one who has unregistered is told something */
static void registered(void)
{
	char *p = anon(PAGE, PAGE);
	unsigned long pfn;
	int i;

	must(try_command("register") == -EBUSY);
	for (i = 0; i < 20; i++) {
		*p = 1;
		pfn = pfn_of(p);
		command("unregister");
		watch(pfn, 1);
		must(!madvise(p, PAGE, MADV_DONTNEED));
		silent(pfn, 1);
		must(!*command("events"));
		command("register");
	}
}

/*
 * fails if a page that perf allocated, and whose ->mapping it sets, is taken for page cache: the references
 * of one that is in a pipe, too, add up as if it were
 */
static void perf_mapped(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_DUMMY,
		.size = sizeof(attr),
	};
	int fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0), ends[2];
	struct iovec iov = { .iov_len = PAGE };

	must(fd >= 0);
	iov.iov_base = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(iov.iov_base != MAP_FAILED);
	must(*(volatile char *)iov.iov_base || true);
	expect(pfn_of(iov.iov_base), UNKNOWN, R_OTHER);
	must(!pipe(ends));
	must(vmsplice(ends[1], &iov, 1, 0) == (ssize_t)PAGE);
	expect(pfn_of(iov.iov_base), UNKNOWN, R_OTHER);
}

const struct test kernel_tests[] = {
	{ "kinds", kinds },
	{ "uncounted", uncounted },
	{ "zero_page", zero },
	{ "slab_freed", slab_freed },
	{ "page_tables", page_tables },
	{ "kernel_tables", kernel_tables },
	{ "allocated", allocated },
	{ "drained", drained },
	{ "held", held },
	{ "piped", piped },
	{ "mlocked", mlocked },
	{ "vmap", vmapped },
	{ "vm_map_ram", vm_mapped_ram },
	{ "pfn_mapped", pfn_mapped },
	{ "driver_mapped", driver_mapped },
	{ "perf_mapped", perf_mapped },
	{ "busy", busy },
	{ "registered", registered },
	{ }
};
