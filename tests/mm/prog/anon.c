// SPDX-License-Identifier: GPL-2.0
/* Anonymous memory: pages, huge pages, fork, KSM, swap. */
#define _GNU_SOURCE
#include "lib.h"
#include <fcntl.h>
#include <string.h>
#include <sys/swap.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* fails if an address or the size of its mapping is wrong */
static void page(void)
{
	char *p = anon(2 * PAGE, PAGE);

	*p = 1;
	expect_mapped(pfn_of(p), 0, { p, 0 });
	/* its neighbour is another page */
	p[PAGE] = 1;
	expect_mapped(pfn_of(p + PAGE), 0, { p + PAGE, 0 });
}

/* fails if freeing a page is not told: the next owner is reached elsewhere */
static void page_freed(void)
{
	char *p = anon(PAGE, PAGE);
	unsigned long pfn;

	*p = 1;
	pfn = pfn_of(p);
	watch(pfn, 1);
	must(!munmap(p, PAGE));
	told(pfn, 1);
}

/* fails if a copy at the same address counts twice, or is told of */
static void forked(void)
{
	char *p = anon(PAGE, PAGE), *thp = huge_page();
	pid_t pid[3];
	int i;

	*p = 1;
	watch(pfn_of(p), 1);
	watch(pfn_of(thp), 512);
	for (i = 0; i < 3; i++)
		pid[i] = child(NULL, NULL);
	expect_mapped(pfn_of(p), 0, { p, 0 });
	expect_mapped(pfn_of(thp), 9, { thp, 9 });
	silent(pfn_of(p), 1);
	silent(pfn_of(thp), 512);
	for (i = 0; i < 3; i++)
		wait_for(pid[i]);
	silent(pfn_of(p), 1);
	expect_mapped(pfn_of(p), 0, { p, 0 });
}

static void copy_on_write(void *p)
{
	*(char *)p = 2;
}

/* fails if the child's own copy is taken for a mapping of the page */
static void copied(void)
{
	char *p = anon(PAGE, PAGE);
	pid_t pid;

	*p = 1;
	pid = child(copy_on_write, p);
	expect_mapped(pfn_of(p), 0, { p, 0 });
	wait_for(pid);
}

/* fails if a huge page is anything but one answer for all of it */
static void huge(void)
{
	char *p = huge_page();
	unsigned long pfn = pfn_of(p);

	expect_mapped(pfn, 9, { p, 9 });
	expect_mapped(pfn + 77, 9, { p, 9 });
	watch(pfn, 512);
	must(!munmap(p, HUGE));
	told(pfn, 512);
}

/* fails if a split is not told: the host would drop one address of 512 */
static void huge_split(void (*split)(char *), int gone)
{
	char *p = huge_page();
	unsigned long pfn = pfn_of(p);

	watch(pfn, 512);
	split(p);
	told(pfn, 512);
	expect_mapped(pfn, 0, { p, 0 });
	expect_mapped(pfn + 100, 0, { p + 100 * PAGE, 0 });
	if (gone)
		expect(pfn + gone, ANYWHERE, R_OTHER);
}

static void protect(char *p)
{
	must(!mprotect(p + 200 * PAGE, PAGE, PROT_READ));
}

static void unmap(char *p)
{
	must(!munmap(p + 200 * PAGE, PAGE));
}

static void huge_split_mprotect(void)
{
	huge_split(protect, 0);
}

static void huge_split_munmap(void)
{
	huge_split(unmap, 200);
}

static void split_here(void *p)
{
	protect(p);
}

/* fails if the smaller of two sizes at one address is not the one that is named */
static void huge_in_one_process(void)
{
	char *p = huge_page();
	unsigned long pfn = pfn_of(p);
	pid_t pid;

	watch(pfn, 512);
	pid = child(split_here, p);
	told(pfn, 512);
	expect_mapped(pfn, 0, { p, 0 });
	expect_mapped(pfn + 9, 0, { p + 9 * PAGE, 0 });
	wait_for(pid);
	expect_mapped(pfn + 9, 9, { p, 9 });
}

/* fails if a page of khugepaged's is not told when it frees what was there, or found */
static void collapsed(void)
{
	char *p = anon(HUGE, HUGE);
	unsigned long pfn;

	memset(p, 1, HUGE);
	pfn = pfn_of(p + 5 * PAGE);
	expect_mapped(pfn, 0, { p + 5 * PAGE, 0 });
	watch(pfn, 1);
	if (madvise(p, HUGE, MADV_COLLAPSE))
		skip("no transparent huge page was to be had");
	told(pfn, 1);
	expect_mapped(pfn_of(p), 9, { p, 9 });
}

/* fails if a page that KSM merges others into is not told of, or misses one of them */
static void ksm(void)
{
	char *p = anon(PAGE, PAGE), *q = anon(PAGE, PAGE);
	unsigned long before, old, tries;
	pid_t pid;

	memset(p, 0x5a, PAGE);
	memset(q, 0x5a, PAGE);
	before = pfn_of(p);
	old = pfn_of(q);
	watch(before, 1);
	watch(old, 1);
	must(!madvise(p, PAGE, MADV_MERGEABLE) && !madvise(q, PAGE, MADV_MERGEABLE));
	put("/sys/kernel/mm/ksm/sleep_millisecs", "1");
	put("/sys/kernel/mm/ksm/run", "1");
	for (tries = 0; pfn_of(p) != pfn_of(q); tries++) {
		must(tries < 2000, "KSM doesn't merge");
		usleep(1000);
	}
	put("/sys/kernel/mm/ksm/run", "0");
	/* one of them is freed, the other gains an address */
	must(!number("left %lx 1", before) && !number("left %lx 1", old));
	expect_mapped(pfn_of(p), 0, { p, 0 }, { q, 0 });
	pid = child(NULL, NULL);
	expect_mapped(pfn_of(p), 0, { p, 0 }, { q, 0 });
	wait_for(pid);
	put("/sys/kernel/mm/ksm/run", "2");
}

static void swap_on(void)
{
	static const char disk[] = "/sys/block/zram0/disksize";
	static char header[PAGE];
	unsigned int *words = (unsigned int *)(header + 1024);
	int fd;

	if (get(disk))
		return;
	put(disk, "16M");
	/* version, last page */
	words[0] = 1;
	words[1] = (16 << 20) / PAGE - 1;
	memcpy(header + PAGE - 10, "SWAPSPACE2", 10);
	fd = open("/dev/zram0", O_RDWR);
	must(fd >= 0 && write(fd, header, PAGE) == (ssize_t)PAGE);
	close(fd);
	must(!swapon("/dev/zram0", 0));
}

/* fails if a page that is mapped out of the swap cache is not told of */
static void swapped(void)
{
	volatile char *go = map_at(NULL, PAGE, -1, MAP_SHARED | MAP_ANONYMOUS);
	char *p = anon(PAGE, PAGE);
	unsigned long pfn;
	int tries;

	swap_on();
	*p = 7;
	for (tries = 0; present(p); tries++) {
		must(tries < 100, "the page stays");
		must(!madvise(p, PAGE, MADV_PAGEOUT));
		usleep(1000);
	}
	/* both have an entry now: what one reads stays in the cache for the other */
	if (!fork()) {
		while (!*go)
			usleep(100);
		go[1] = *p;
		pause();
	}
	must(!madvise(p, PAGE, MADV_WILLNEED));
	command("watch 0 %lx", number("pages"));
	must(*p == 7);
	pfn = pfn_of(p);
	must(!number("left %lx 1", pfn), "a new page of the swap cache");
	expect_mapped(pfn, 0, { p, 0 });
	watch(pfn, 1);
	*go = 1;
	for (tries = 0; !go[1]; tries++) {
		must(tries < 1000, "the child can't read");
		usleep(1000);
	}
	told(pfn, 1);
	expect_mapped(pfn, 0, { p, 0 });
}

const struct test anon_tests[] = {
	{ "anon_page", page },
	{ "anon_freed", page_freed },
	{ "anon_forked", forked },
	{ "anon_copied", copied },
	{ "huge", huge },
	{ "huge_split_mprotect", huge_split_mprotect },
	{ "huge_split_munmap", huge_split_munmap },
	{ "huge_in_one_process", huge_in_one_process },
	{ "huge_collapsed", collapsed },
	{ "ksm", ksm },
	{ "swapped", swapped },
	{ }
};
