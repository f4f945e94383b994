/* SPDX-License-Identifier: GPL-2.0 */
#ifndef GVAHINT_MM_H
#define GVAHINT_MM_H

#include <linux/types.h>

struct file;
struct vm_area_struct;

/* Pages of the kernel's own and what it does with others, for commands in main.c. */
long pages_alloc(const char *what, unsigned long *pfn);
long pages_hold(const char *how, unsigned long pfn);
long pages_migrate(unsigned long pfn);
long pages_release(void);
int pages_mmap(struct file *file, struct vm_area_struct *vma);
unsigned long pages_table_of(unsigned long address, unsigned long level);

#endif
