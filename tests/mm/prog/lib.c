// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include "lib.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODULE "/sys/kernel/debug/gvahint_mm"
#define SKIPPED 4

void fail(const char *file, int line, const char *cond, const char *fmt, ...)
{
	va_list args;

	printf("# %s:%d: %s: ", file, line, cond);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf(" (errno %d)\n", errno);
	fflush(stdout);
	_exit(1);
}

void skip(const char *why)
{
	printf("# skip: %s\n", why);
	fflush(stdout);
	_exit(SKIPPED);
}

static char answer[64 * 1024];

static long vcommand(const char *fmt, va_list args)
{
	char line[64];
	int fd = open(MODULE, O_RDWR), n;

	must(fd >= 0, "no %s", MODULE);
	n = vsnprintf(line, sizeof(line), fmt, args);
	if (write(fd, line, n) != n) {
		close(fd);
		return -errno;
	}
	n = pread(fd, answer, sizeof(answer) - 1, 0);
	must(n >= 0);
	answer[n] = 0;
	close(fd);
	return 0;
}

long try_command(const char *fmt, ...)
{
	va_list args;
	long err;

	va_start(args, fmt);
	err = vcommand(fmt, args);
	va_end(args);
	return err;
}

const char *command(const char *fmt, ...)
{
	va_list args;
	long err;

	va_start(args, fmt);
	err = vcommand(fmt, args);
	va_end(args);
	must(!err, "%s: %s", fmt, strerror(-err));
	return answer;
}

unsigned long number(const char *fmt, ...)
{
	va_list args;
	long err;

	va_start(args, fmt);
	err = vcommand(fmt, args);
	va_end(args);
	must(!err, "%s: %s", fmt, strerror(-err));
	return strtoul(answer, NULL, 16);
}

static uint64_t pagemap(const void *address)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	must(fd >= 0);
	must(pread(fd, &entry, 8, (uintptr_t)address / PAGE * 8) == 8);
	close(fd);
	return entry;
}

bool present(const void *address)
{
	return pagemap(address) >> 63;
}

unsigned long pfn_of(const void *address)
{
	uint64_t entry = pagemap(address);

	must(entry >> 63, "%p is not present", address);
	return entry & ((1ULL << 55) - 1);
}

/* Locks may be taken and pages be on their way for a moment. */
static const char *walk(unsigned long pfn, int kind, int reason)
{
	int got_kind, got_reason, tries;

	for (tries = 0; ; tries++) {
		sscanf(command("walk %lx", pfn), "%d %d", &got_kind, &got_reason);
		if (tries == 100 || (got_kind == kind && got_reason == reason))
			return answer;
		usleep(1000);
	}
}

void expect_at(const char *file, int line, unsigned long pfn, int order, const struct at *at)
{
	int kind, reason, got_order, n, used, i;
	unsigned long gva;
	const char *p = walk(pfn, MAPPED, R_NONE);
	int seen = 0;

	sscanf(p, "%d %d %d%n", &kind, &reason, &got_order, &n);
	if (kind != MAPPED || got_order != order)
		fail(file, line, "mapped", "pfn %lx: %s", pfn, answer);
	for (p += n; sscanf(p, " %lx:%d%n", &gva, &got_order, &used) == 2; p += used, seen++) {
		for (i = 0; at[i].gva; i++) {
			if ((unsigned long)at[i].gva == gva && at[i].order == got_order)
				break;
		}
		if (!at[i].gva)
			fail(file, line, "one of ours", "pfn %lx, %lx:%d: %s", pfn, gva, got_order, answer);
	}
	for (i = 0; at[i].gva; i++)
		;
	if (seen != i)
		fail(file, line, "all of ours", "pfn %lx, %d of %d: %s", pfn, seen, i, answer);
}

bool found(unsigned long pfn, enum kind kind, enum reason reason)
{
	int got_kind = -1, got_reason = -1;

	sscanf(walk(pfn, kind, reason), "%d %d", &got_kind, &got_reason);
	return got_kind == (int)kind && got_reason == (int)reason;
}

void expect(unsigned long pfn, enum kind kind, enum reason reason)
{
	must(found(pfn, kind, reason), "pfn %lx: %s", pfn, answer);
}

void watch(unsigned long pfn, unsigned long nr)
{
	int kind = BUSY, tries;

	command("events");
	command("watch %lx %lx", pfn, nr);
	for (tries = 0; kind == BUSY && tries < 100; tries++)
		sscanf(command("walk %lx", pfn), "%d", &kind);
}

void told_at(const char *file, int line, unsigned long pfn, unsigned long nr)
{
	unsigned long left = number("left %lx %lx", pfn, nr);
	unsigned long at, count, covered = 0;
	const char *p;
	int used;

	if (left)
		fail(file, line, "bits clear", "%lu of %lu are set", left, nr);
	for (p = command("events"); sscanf(p, "%lx:%lx %n", &at, &count, &used) == 2; p += used) {
		unsigned long from = at > pfn ? at : pfn;
		unsigned long to = at + count < pfn + nr ? at + count : pfn + nr;

		if (from < to)
			covered += to - from;
	}
	if (covered < nr)
		fail(file, line, "was told", "of %lu pages of %lu: %s", covered, nr, answer);
}

void silent_at(const char *file, int line, unsigned long pfn, unsigned long nr)
{
	unsigned long left = number("left %lx %lx", pfn, nr);

	if (left != nr)
		fail(file, line, "bits set", "%lu of %lu are set", left, nr);
}

char *place(size_t size, size_t align)
{
	char *p = mmap(NULL, size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *start = (char *)(((uintptr_t)p + align - 1) / align * align);

	must(p != MAP_FAILED);
	must(!munmap(p, size + align));
	return start;
}

char *map_at(void *at, size_t size, int fd, int flags)
{
	char *p = mmap(at, size, PROT_READ | PROT_WRITE, flags | (at ? MAP_FIXED_NOREPLACE : 0), fd, 0);

	must(p != MAP_FAILED, "map %zx bytes at %p", size, at);
	return p;
}

char *anon(size_t size, size_t align)
{
	return map_at(place(size, align), size, -1, MAP_PRIVATE | MAP_ANONYMOUS);
}

char *huge_page(void)
{
	char *p = anon(HUGE, HUGE);

	must(!madvise(p, HUGE, MADV_HUGEPAGE));
	memset(p, 1, HUGE);
	if (pfn_of(p) % 512 || pfn_of(p + HUGE - PAGE) != pfn_of(p) + 511)
		skip("no transparent huge page was to be had");
	return p;
}

/* where no page table is shared with others and nothing else lies near */
char *some_address(void)
{
	static uintptr_t next = 0x200000000000;

	next += 2 * GIANT;
	return (char *)next;
}

void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	must(fd >= 0, "%s", path);
	must(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s to %s", text, path);
	close(fd);
}

unsigned long get(const char *path)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY);

	must(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0, "%s", path);
	close(fd);
	return strtoul(text, NULL, 10);
}

/* ramfs: page cache like that of any other file system, and nothing behind it */
int file_of(const char *kind, size_t size)
{
	int fd;

	if (!strcmp(kind, "ramfs")) {
		mkdir("/ramfs", 0700);
		must(!mount("none", "/ramfs", "ramfs", 0, NULL));
		fd = open("/ramfs/file", O_RDWR | O_CREAT | O_TRUNC, 0600);
	} else {
		fd = memfd_create(kind, strcmp(kind, "hugetlb") ? 0 : MFD_HUGETLB);
	}
	must(fd >= 0, "%s", kind);
	must(!ftruncate(fd, size));
	return fd;
}

pid_t child(void (*run)(void *), void *arg)
{
	int ready[2];
	char byte;
	pid_t pid;

	must(!pipe(ready));
	pid = fork();
	must(pid >= 0);
	if (!pid) {
		if (run)
			run(arg);
		must(write(ready[1], "", 1) == 1);
		pause();
		_exit(0);
	}
	close(ready[1]);
	must(read(ready[0], &byte, 1) == 1, "the child failed");
	close(ready[0]);
	return pid;
}

void wait_for(pid_t pid)
{
	kill(pid, SIGKILL);
	must(waitpid(pid, NULL, 0) == pid);
}
