// SPDX-License-Identifier: GPL-2.0
/* Entries that change their address without a change in any mapcount. */
#define _GNU_SOURCE
#include "lib.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFDIO_MOVE
/* newer than the headers that this is built with */
struct uffdio_move {
	__u64 dst, src, len, mode;
	__s64 move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#define UFFD_FEATURE_MOVE (1 << 16)
#endif

static void move_to(char *from, size_t size, char *to)
{
	must(mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
}

/* fails if entries that are moved one by one are not told of, or found where they were */
static void entries(void)
{
	char *p = anon(3 * PAGE, HUGE), *q = some_address() + 5 * PAGE;
	unsigned long pfn, third;

	p[0] = p[2 * PAGE] = 1;
	pfn = pfn_of(p);
	third = pfn_of(p + 2 * PAGE);
	watch(pfn, 1);
	watch(third, 1);
	move_to(p, 3 * PAGE, q);
	must(!number("left %lx 1", third));
	told(pfn, 1);
	expect_mapped(pfn, 0, { q, 0 });
	expect_mapped(third, 0, { q + 2 * PAGE, 0 });
}

static void move_away(void *p)
{
	move_to(p, PAGE, some_address());
}

/* fails if a page is not told of when an entry that fork copied after the page was found is moved */
static void entries_forked(void)
{
	char *p = anon(PAGE, HUGE), *q;
	unsigned long pfn;

	*p = 1;
	pfn = pfn_of(p);
	watch(pfn, 1);
	child(move_away, p);
	told(pfn, 1);
	q = some_address();
	expect_mapped(pfn, 0, { p, 0 }, { q, 0 });
}

/* the same for a file, in a process that maps it twice */
static void entries_file(void)
{
	int fd = file_of("ramfs", PAGE);
	char *p = map_at(NULL, PAGE, fd, MAP_SHARED), *r = map_at(NULL, PAGE, fd, MAP_SHARED);
	char *q = some_address();
	unsigned long pfn;

	*p = *r = 1;
	pfn = pfn_of(p);
	watch(pfn, 1);
	move_to(p, PAGE, q);
	told(pfn, 1);
	expect_mapped(pfn, 0, { q, 0 }, { r, 0 });
}

static void no_huge(char *p, size_t size)
{
	must(!madvise(p, size, MADV_NOHUGEPAGE));
}

/* fails if pages are not told of when the table that maps them is moved as a whole */
static void table(void)
{
	char *p = anon(HUGE, HUGE), *q = some_address();
	unsigned long pfn[2], old;

	no_huge(p, HUGE);
	p[0] = p[HUGE - PAGE] = 1;
	pfn[0] = pfn_of(p);
	pfn[1] = pfn_of(p + HUGE - PAGE);
	old = number("table %lx 1", (unsigned long)p);
	must(old);
	watch(pfn[0], 1);
	watch(pfn[1], 1);
	move_to(p, HUGE, q);
	/* else this tests something else */
	must(number("table %lx 1", (unsigned long)q) == old, "the table was not moved");
	must(!number("left %lx 1", pfn[1]));
	told(pfn[0], 1);
	expect_mapped(pfn[0], 0, { q, 0 });
	expect_mapped(pfn[1], 0, { q + HUGE - PAGE, 0 });
}

/* the same, where a table of tables could be moved */
static void table_of_tables(void)
{
	char *p = some_address(), *q = some_address();
	unsigned long pfn[3], old;
	int i;

	must(mmap(p, GIANT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
		  MAP_FIXED_NOREPLACE, -1, 0) == p);
	no_huge(p, GIANT);
	for (i = 0; i < 3; i++) {
		p[i * 200 * HUGE] = 1;
		pfn[i] = pfn_of(p + i * 200 * HUGE);
		watch(pfn[i], 1);
	}
	move_to(p, GIANT, q);
	for (i = 0; i < 3; i++) {
		must(!number("left %lx 1", pfn[i]), "page %d", i);
		expect_mapped(pfn[i], 0, { q + i * 200 * HUGE, 0 });
	}
	/* with nobody to tell it goes the quick way, and what is found stays right */
	command("unregister");
	old = number("table %lx 2", (unsigned long)q);
	move_to(q, GIANT, p);
	command("register");
	must(number("table %lx 2", (unsigned long)p) == old, "the table of tables was not moved");
	expect_mapped(pfn[1], 0, { p + 200 * HUGE, 0 });
}

/* fails if a huge page is not told of when it is moved as one */
static void huge(void)
{
	char *p = huge_page(), *q = some_address();
	unsigned long pfn = pfn_of(p);

	watch(pfn, 512);
	move_to(p, HUGE, q);
	told(pfn, 512);
	expect_mapped(pfn, 9, { q, 9 });
	/* to where it has to be split for */
	watch(pfn, 512);
	p = some_address() + PAGE;
	move_to(q, HUGE, p);
	told(pfn, 512);
	expect_mapped(pfn + 1, 0, { p + PAGE, 0 });
}

/* fails if a page of hugetlb is not told of when it is moved */
static void hugetlb(void)
{
	char *p = place(HUGE, HUGE), *q = some_address();
	unsigned long pfn;

	put("/proc/sys/vm/nr_hugepages", "2");
	if (get("/proc/sys/vm/nr_hugepages") < 2)
		skip("no huge pages were to be had");
	map_at(p, HUGE, -1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
	*p = 1;
	pfn = pfn_of(p);
	watch(pfn, 512);
	move_to(p, HUGE, q);
	told(pfn, 512);
	expect_mapped(pfn, 9, { q, 9 });
}

static int userfault(char *at, size_t size)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MOVE };
	struct uffdio_register reg = { .range = { (unsigned long)at, size }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	must(fd >= 0);
	if (ioctl(fd, UFFDIO_API, &api))
		skip("no UFFDIO_MOVE");
	must(!ioctl(fd, UFFDIO_REGISTER, &reg));
	return fd;
}

static void userfault_move(char *from, size_t size, char *to)
{
	struct uffdio_move move = { .dst = (unsigned long)to, .src = (unsigned long)from, .len = size };
	int fd = userfault(to, size), tries;

	/* the page may be on its way to a list */
	for (tries = 0; ioctl(fd, UFFDIO_MOVE, &move); tries++)
		must(tries < 100 && (errno == EAGAIN || errno == EBUSY));
	must(move.move == (__s64)size);
}

/* fails if a page that UFFDIO_MOVE gives another address is not told of */
static void uffd(void)
{
	char *p = anon(PAGE, HUGE), *q = map_at(some_address(), PAGE, -1, MAP_PRIVATE | MAP_ANONYMOUS);
	unsigned long pfn;

	*p = 1;
	pfn = pfn_of(p);
	watch(pfn, 1);
	userfault_move(p, PAGE, q);
	must(pfn_of(q) == pfn);
	told(pfn, 1);
	expect_mapped(pfn, 0, { q, 0 });
}

/* the same for a huge page in one */
static void uffd_huge(void)
{
	char *p = huge_page(), *q = map_at(some_address(), HUGE, -1, MAP_PRIVATE | MAP_ANONYMOUS);
	unsigned long pfn = pfn_of(p);

	must(!madvise(q, HUGE, MADV_HUGEPAGE));
	watch(pfn, 512);
	userfault_move(p, HUGE, q);
	must(pfn_of(q) == pfn);
	told(pfn, 512);
	expect_mapped(pfn, 9, { q, 9 });
}

const struct test move_tests[] = {
	{ "move_entries", entries },
	{ "move_entries_forked", entries_forked },
	{ "move_entries_file", entries_file },
	{ "move_table", table },
	{ "move_table_of_tables", table_of_tables },
	{ "move_huge", huge },
	{ "move_hugetlb", hugetlb },
	{ "move_uffd", uffd },
	{ "move_uffd_huge", uffd_huge },
	{ }
};
