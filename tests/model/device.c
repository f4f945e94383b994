// SPDX-License-Identifier: GPL-2.0
/* The machine's device: the settings of this machine, and its counters. */
#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/string.h>
#include "model.h"

static char text[16384];

static const char *snapshot(void)
{
	size_t n = 0;
	u8 c;

	outb('S', 0x4e0);
	while (n < sizeof(text) - 1 && (c = inb(0x4e1)) != 0)
		text[n++] = c;
	text[n] = 0;
	return text;
}

bool device_present(void)
{
	return inb(0x4e3) == 'G';
}

enum profile device_profile(void)
{
	const char *s = snapshot();

	if (strstr(s, "\"profile\":\"leaf-cached\""))
		return LEAF_CACHED;
	if (strstr(s, "\"profile\":\"fragments\""))
		return FRAGMENTS;
	return strstr(s, "\"profile\":\"off\"") ? OFF : COMBINED_ONLY;
}

bool device_small_tlb(void)
{
	return strstr(snapshot(), "\"tlb\":\"small\"");
}

void device_reset(void)
{
	outb('R', 0x4e0);
}

u64 device_counter(const char *section, const char *name)
{
	const char *s = strstr(snapshot(), "\"cpu\":0,");
	char key[32];
	u64 value = 0;

	if (!s)
		return ~0ull;
	/* a histogram or a guest leaves out what has not happened yet */
	s = strstr(s, section);
	snprintf(key, sizeof(key), "\"%s\":", name);
	s = s ? strstr(s, key) : NULL;
	if (!s)
		return 0;
	for (s += strlen(key); *s >= '0' && *s <= '9'; s++)
		value = value * 10 + (*s - '0');
	return value;
}
