/* SPDX-License-Identifier: GPL-2.0 */
/* What the cases share: the module's commands, ground truth, mappings. */
#ifndef LIB_H
#define LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

#define PAGE		4096UL
#define HUGE		(512 * PAGE)
#define GIANT		(512 * HUGE)

/* as in include/linux/gva_hint.h of the kernel */
enum kind { UNKNOWN, BUSY, MAPPED, KERNEL_ONLY, PAGE_TABLE, TOO_MANY, ANYWHERE };
enum reason { R_NONE, R_OFFLINE, R_RESERVED, R_FREE, R_OTHER, R_REFS, R_MAPCOUNT, R_DEVICE };

struct test {
	const char *name;
	void (*run)(void);
};

extern const struct test anon_tests[], shared_tests[], move_tests[], kernel_tests[];

/* Fails the test, which is a process of its own, unless the condition holds. */
#define must(cond, ...) \
	do { \
		if (!(cond)) \
			fail(__FILE__, __LINE__, #cond, "" __VA_ARGS__); \
	} while (0)
_Noreturn void fail(const char *file, int line, const char *cond, const char *fmt, ...);
_Noreturn void skip(const char *why);

/* the module */
const char *command(const char *fmt, ...);
long try_command(const char *fmt, ...);
unsigned long number(const char *fmt, ...);

/* ground truth: the pfn that this process reaches through the address */
unsigned long pfn_of(const void *address);
bool present(const void *address);

/* the answer for a page, which has to be MAPPED with these addresses, in any order */
struct at { const void *gva; int order; };
#define expect_mapped(pfn, order, ...) \
	expect_at(__FILE__, __LINE__, pfn, order, (struct at[]){ __VA_ARGS__, { NULL, 0 } })
void expect_at(const char *file, int line, unsigned long pfn, int order, const struct at *at);
void expect(unsigned long pfn, enum kind kind, enum reason reason);
/* whether it is that */
bool found(unsigned long pfn, enum kind kind, enum reason reason);

/* watch pages and look for the first one's addresses; then either all bits are gone and it was told, or none are */
void watch(unsigned long pfn, unsigned long nr);
#define told(pfn, nr) told_at(__FILE__, __LINE__, pfn, nr)
#define silent(pfn, nr) silent_at(__FILE__, __LINE__, pfn, nr)
void told_at(const char *file, int line, unsigned long pfn, unsigned long nr);
void silent_at(const char *file, int line, unsigned long pfn, unsigned long nr);

/* mappings */
char *place(size_t size, size_t align);
char *map_at(void *at, size_t size, int fd, int flags);
char *anon(size_t size, size_t align);
char *huge_page(void);
char *some_address(void);
void put(const char *path, const char *text);
unsigned long get(const char *path);
int file_of(const char *kind, size_t size);

/* a child that runs @run and then waits; ends with wait_for() */
pid_t child(void (*run)(void *), void *arg);
void wait_for(pid_t pid);

#endif
