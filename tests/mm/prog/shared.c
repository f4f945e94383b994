// SPDX-License-Identifier: GPL-2.0
/* File-backed memory: page cache, shmem, hugetlb with and without shared tables. */
#define _GNU_SOURCE
#include "lib.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct mapping {
	int fd;
	char *at;
	size_t size;
	size_t touch;
};

static void map_there(void *arg)
{
	const struct mapping *m = arg;

	map_at(m->at, m->size, m->fd, MAP_SHARED)[m->touch] = 1;
}

/* fails if a mapping at another address, of this or of another process, is not told or found */
static void two_processes(const char *kind)
{
	struct mapping other = { .fd = file_of(kind, PAGE), .at = some_address(), .size = PAGE };
	char *p = map_at(NULL, PAGE, other.fd, MAP_SHARED), *q;
	unsigned long pfn;
	pid_t pid;

	*p = 1;
	pfn = pfn_of(p);
	expect_mapped(pfn, 0, { p, 0 });
	watch(pfn, 1);
	pid = child(map_there, &other);
	told(pfn, 1);
	expect_mapped(pfn, 0, { p, 0 }, { other.at, 0 });
	q = some_address();
	watch(pfn, 1);
	*map_at(q, PAGE, other.fd, MAP_SHARED) = 1;
	told(pfn, 1);
	expect_mapped(pfn, 0, { p, 0 }, { other.at, 0 }, { q, 0 });
	/* fewer addresses are no news */
	watch(pfn, 1);
	wait_for(pid);
	silent(pfn, 1);
	expect_mapped(pfn, 0, { p, 0 }, { q, 0 });
	must(!munmap(q, PAGE) && !munmap(p, PAGE));
	silent(pfn, 1);
	expect(pfn, KERNEL_ONLY, R_NONE);
	*map_at(p, PAGE, other.fd, MAP_SHARED) = 1;
	told(pfn, 1);
	/* the file shrinks: unmapped and freed */
	watch(pfn, 1);
	must(!ftruncate(other.fd, 0));
	told(pfn, 1);
}

static void file(void)
{
	two_processes("ramfs");
}

static void shmem(void)
{
	two_processes("shmem");
}

/* fails if the pages that a fault maps around its own are not told of */
static void fault_around(void)
{
	char *p = map_at(NULL, 16 * PAGE, file_of("ramfs", 16 * PAGE), MAP_SHARED);
	unsigned long pfn;

	memset(p, 1, 16 * PAGE);
	pfn = pfn_of(p + PAGE);
	must(!madvise(p, 16 * PAGE, MADV_DONTNEED));
	expect(pfn, KERNEL_ONLY, R_NONE);
	watch(pfn, 1);
	must(*(volatile char *)p == 1);
	if (!present(p + PAGE))
		skip("no fault-around");
	told(pfn, 1);
	expect_mapped(pfn, 0, { p + PAGE, 0 });
}

/* fails if a huge page of a file is not told of when it is mapped, by PMD and by PTEs */
static void shmem_huge(void)
{
	int fd = file_of("shmem", HUGE);
	char *p = place(HUGE, HUGE), *q = some_address();
	unsigned long pfn;

	put("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "advise");
	map_at(p, HUGE, fd, MAP_SHARED);
	must(!madvise(p, HUGE, MADV_HUGEPAGE));
	memset(p, 1, HUGE);
	pfn = pfn_of(p);
	if (pfn % 512 || pfn_of(p + HUGE - PAGE) != pfn + 511)
		skip("no transparent huge page was to be had");
	expect_mapped(pfn + 3, 9, { p, 9 });
	watch(pfn, 512);
	map_at(q, HUGE, fd, MAP_SHARED);
	must(!madvise(q, HUGE, MADV_HUGEPAGE));
	*q = 1;
	told(pfn, 512);
	expect_mapped(pfn, 9, { p, 9 }, { q, 9 });
	must(!munmap(q, HUGE));
	/* one page of it */
	watch(pfn, 512);
	must(mmap(q, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 4 * PAGE) == q);
	*q = 1;
	told(pfn + 4, 1);
	expect_mapped(pfn + 4, 0, { p + 4 * PAGE, 9 }, { q, 0 });
	expect_mapped(pfn + 5, 0, { p + 5 * PAGE, 9 });
	must(!munmap(q, PAGE) && !munmap(p, HUGE));
	expect(pfn + 8, KERNEL_ONLY, R_NONE);
}

static void hugetlb_pages(const char *nr)
{
	put("/proc/sys/vm/nr_hugepages", nr);
	if (get("/proc/sys/vm/nr_hugepages") < 2)
		skip("no huge pages were to be had");
}

/* fails if a mapping of a hugetlb page, or its end, is not told or found */
static void hugetlb(void)
{
	struct mapping other = { .at = some_address(), .size = HUGE };
	unsigned long pfn;
	char *p;
	pid_t pid;

	hugetlb_pages("2");
	other.fd = file_of("hugetlb", HUGE);
	p = map_at(NULL, HUGE, other.fd, MAP_SHARED);
	*p = 1;
	pfn = pfn_of(p);
	expect_mapped(pfn + 5, 9, { p, 9 });
	watch(pfn, 512);
	pid = child(map_there, &other);
	told(pfn, 512);
	expect_mapped(pfn, 9, { p, 9 }, { other.at, 9 });
	wait_for(pid);
	must(!munmap(p, HUGE));
	expect(pfn, KERNEL_ONLY, R_NONE);
	watch(pfn, 512);
	must(!ftruncate(other.fd, 0));
	told(pfn, 512);
	expect(pfn, UNKNOWN, R_FREE);
	hugetlb_pages("2");
}

/* fails if private pages of hugetlb are not found, or not told of when they are freed */
static void hugetlb_private(void)
{
	char *p = place(HUGE, HUGE);
	unsigned long pfn;
	pid_t pid;

	hugetlb_pages("2");
	map_at(p, HUGE, -1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
	*p = 1;
	pfn = pfn_of(p);
	expect_mapped(pfn, 9, { p, 9 });
	watch(pfn, 512);
	pid = child(NULL, NULL);
	silent(pfn, 512);
	expect_mapped(pfn, 9, { p, 9 });
	wait_for(pid);
	must(!munmap(p, HUGE));
	told(pfn, 512);
}

/* fails if a private page of hugetlb is not told of when its entry comes back after migration */
static void hugetlb_migrated(void)
{
	char *p = place(HUGE, HUGE);
	unsigned long old, pfn;

	hugetlb_pages("2");
	map_at(p, HUGE, -1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
	*p = 1;
	old = pfn_of(p);
	command("watch 0 %lx", number("pages"));
	command("migrate %lx", old);
	pfn = pfn_of(p);
	must(pfn != old, "the page stays");
	must(!number("left %lx 200", pfn));
	expect_mapped(pfn, 9, { p, 9 });
}

/* only what is touched has to be there */
static char *giant(int fd, char *at)
{
	char *p = mmap(at, GIANT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
		       fd, 0);

	must(p == at);
	return p;
}

static void giant_there(void *arg)
{
	const struct mapping *m = arg;

	giant(m->fd, m->at)[m->touch] = 1;
}

/*
 * fails if pages whose table becomes another process's as well are not told of:
 * they gain an address each, and no mapcount changes
 */
static void hugetlb_shared_table(void)
{
	struct mapping other = { .at = some_address(), .size = GIANT, .touch = HUGE };
	char *p = some_address();
	unsigned long pfn;
	pid_t pid;

	hugetlb_pages("2");
	other.fd = file_of("hugetlb", GIANT);
	giant(other.fd, p);
	*p = 1;
	pfn = pfn_of(p);
	expect_mapped(pfn, 9, { p, 9 });
	watch(pfn, 512);
	pid = child(giant_there, &other);
	told(pfn, 512);
	expect_mapped(pfn, 9, { p, 9 }, { other.at, 9 });
	/* and a page that one of them adds to the table is everybody's */
	must(p[HUGE] == 1);
	expect_mapped(pfn_of(p + HUGE), 9, { p + HUGE, 9 }, { other.at + HUGE, 9 });
	wait_for(pid);
	expect_mapped(pfn, 9, { p, 9 });
}

/* fails if more addresses, or more VMAs, than there is room for are not said to be too many */
static void too_many(void)
{
	int fd = file_of("shmem", PAGE), i;
	char *p[70];

	for (i = 0; i < 70; i++) {
		p[i] = map_at(NULL, PAGE, fd, MAP_SHARED);
		*p[i] = 1;
		if (i == 16 || i == 69)
			expect(pfn_of(p[0]), TOO_MANY, R_NONE);
	}
	/* visited, though nothing is mapped there */
	for (i = 1; i < 70; i++)
		must(!madvise(p[i], PAGE, MADV_DONTNEED));
	expect(pfn_of(p[0]), TOO_MANY, R_NONE);
	for (i = 1; i < 40; i++)
		must(!munmap(p[i], PAGE));
	expect_mapped(pfn_of(p[0]), 0, { p[0], 0 });
}

const struct test shared_tests[] = {
	{ "file", file },
	{ "file_fault_around", fault_around },
	{ "shmem", shmem },
	{ "shmem_huge", shmem_huge },
	{ "hugetlb", hugetlb },
	{ "hugetlb_private", hugetlb_private },
	{ "hugetlb_migrated", hugetlb_migrated },
	{ "hugetlb_shared_table", hugetlb_shared_table },
	{ "too_many", too_many },
	{ }
};
