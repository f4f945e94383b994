// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the kernel's gva_hint_walk() and of each point that tells when its
 * answer stops being true.  The module gvahint_mm stands in for the reporter,
 * /proc/self/pagemap is the ground truth.   usage: mm-test [NAME...]
 */
#define _GNU_SOURCE
#include "lib.h"
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIPPED 4

static const struct test *const groups[] = { anon_tests, shared_tests, move_tests, kernel_tests };

static bool chosen(const char *name, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++) {
		if (!strncmp(name, *names, strlen(*names)))
			return true;
	}
	return false;
}

/* what the kernel said since the last time must not be a complaint */
static bool complained(void)
{
	static const char *const bad[] = { "WARNING:", "BUG:", "Oops", "general protection", "INFO: " };
	static char log[256 * 1024];
	int n = klogctl(4, log, sizeof(log) - 1);
	bool found = false;
	size_t i;

	if (n < 0) {
		printf("# the kernel's log can't be read\n");
		return true;
	}
	log[n] = 0;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *at = strstr(log, bad[i]);

		if (at) {
			printf("# kernel: %.*s\n", (int)strcspn(at, "\n"), at);
			found = true;
		}
	}
	return found;
}

int main(int argc, char **argv)
{
	const struct test *test;
	int number = 0, failed = 0, skipped = 0, status;
	cpu_set_t cpu;
	size_t i;
	pid_t pid;

	(void)argc;
	/* pages wait in a batch of the CPU that made them, and are freed when it is emptied */
	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	if (sched_setaffinity(0, sizeof(cpu), &cpu))
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n");
	complained();
	for (i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		for (test = groups[i]; test->name; test++) {
			if (!chosen(test->name, argv + 1))
				continue;
			fflush(stdout);
			pid = fork();
			if (!pid) {
				/* children of the test end with it */
				setpgid(0, 0);
				test->run();
				fflush(stdout);
				_exit(0);
			}
			if (waitpid(pid, &status, 0) != pid)
				return 1;
			kill(-pid, 9);
			try_command("release");
			number++;
			if (complained() || !WIFEXITED(status) ||
			    (WEXITSTATUS(status) && WEXITSTATUS(status) != SKIPPED)) {
				failed++;
				printf("not ok %d - %s\n", number, test->name);
			} else if (WEXITSTATUS(status)) {
				skipped++;
				printf("ok %d - %s # SKIP see above\n", number, test->name);
			} else {
				printf("ok %d - %s\n", number, test->name);
			}
		}
	}
	printf("1..%d\n# Totals: pass:%d fail:%d skip:%d\n", number, number - failed - skipped, failed, skipped);
	return failed ? 1 : 0;
}
