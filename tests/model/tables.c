// SPDX-License-Identifier: GPL-2.0
/*
 * The tables of the test guest. One set of guest page tables for every PCID,
 * and two sets of EPT tables that map the same. All is a page or an entry that
 * the tests may change; nothing here tells the CPU.
 */
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <asm/pgtable.h>
#include "model.h"

#define PTE_PW		0x003ull
#define PTE_LARGE	0x080ull
#define PTE_GLOBAL	0x100ull
#define EPT_RWX		0x037ull	/* write-back memory */
#define EPT_RW		0x033ull
#define EPT_TABLE	0x007ull
#define EPT_A		0x100ull

/* Guest-physical layout, in pages. Two areas of 2 MiB serve the large page. */
enum {
	GFN_CODE = 1, GFN_DATA, GFN_PML4, GFN_PDPT, GFN_PD, GFN_PT, GFN_SWEEP_PT,
	GFN_VALUES = 0x20, GFN_LARGE_OLD = 0x200, GFN_LARGE_NEW = 0x400, GFNS = 0x600
};

#define SWEEP_TABLES	(SWEEP_PAGES / 512)

static u64 *low[GFN_VALUES];		/* the guest's code, data and tables */
static u64 *value_page[GPA_PAGES], *alt_page;
static u64 *ept_table[2][3 + GFNS / 512]; /* PML4, PDPT, PD, page tables */
static u64 *host_pages[2];
static u64 *host_map;

static const u64 values[GPA_PAGES] = { VALUE_OLD, VALUE_NEW, VALUE_OTHER };

static u64 *new_page(u64 fill)
{
	u64 *page = (u64 *)get_zeroed_page(GFP_KERNEL);
	unsigned int n;

	for (n = 0; page && n < 512; n++)
		page[n] = fill;
	return page;
}

static void *backing(unsigned int gfn)
{
	if (gfn >= GFN_LARGE_NEW)
		return value_page[GPA_NEW];
	if (gfn >= GFN_LARGE_OLD)
		return value_page[GPA_OLD];
	if (gfn >= GFN_VALUES)
		return gfn < GFN_VALUES + GPA_PAGES ? value_page[gfn - GFN_VALUES] : NULL;
	return low[gfn];
}

static u64 *ept_entry(unsigned int ept, unsigned int gfn)
{
	return &ept_table[ept][3 + gfn / 512][gfn % 512];
}

static void reset_ept(unsigned int ept)
{
	u64 **t = ept_table[ept];
	unsigned int gfn;

	t[0][0] = __pa(t[1]) | EPT_TABLE;
	t[1][0] = __pa(t[2]) | EPT_TABLE;
	for (gfn = 0; gfn < GFNS; gfn += 512)
		t[2][gfn / 512] = __pa(t[3 + gfn / 512]) | EPT_TABLE;
	/* data can't be executed: OP_EXEC asks for an EPT violation */
	for (gfn = 0; gfn < GFNS; gfn++)
		*ept_entry(ept, gfn) = backing(gfn) ?
			__pa(backing(gfn)) | (gfn < GFN_VALUES ? EPT_RWX : EPT_RW) : 0;
}

void tables_reset(void)
{
	unsigned int n;
	u64 *pd = low[GFN_PD], *pt = low[GFN_PT];

	reset_ept(0);
	reset_ept(1);
	low[GFN_PML4][0] = (GFN_PDPT << 12) | PTE_PW;
	low[GFN_PDPT][0] = (GFN_PD << 12) | PTE_PW;
	pd[0] = (GFN_PT << 12) | PTE_PW;
	tables_map_large(false);
	for (n = 0; n < SWEEP_TABLES; n++)
		pd[2 + n] = ((GFN_SWEEP_PT + n) << 12) | PTE_PW;
	for (n = 0; n < SWEEP_PAGES; n++)
		low[GFN_SWEEP_PT + n / 512][n % 512] = tables_value(GPA_OLD);
	pt[GVA_CODE >> 12] = (GFN_CODE << 12) | PTE_PW;
	pt[GVA_DATA >> 12] = (GFN_DATA << 12) | PTE_PW;
	pt[GVA_TABLE >> 12] = (GFN_PT << 12) | PTE_PW;
	tables_map(GVA_A, GPA_OLD);
	tables_map(GVA_B, GPA_OLD);
	tables_map(GVA_GLOBAL, GPA_OLD);
	host_page_map(false);
}

u64 tables_value(enum gpa_page page)
{
	return tables_gpa(page) | PTE_PW;
}

u64 *tables_pte_of(u64 gva)
{
	if (gva >= GVA_SWEEP)
		return &low[GFN_SWEEP_PT + (gva - GVA_SWEEP) / 0x200000][gva >> 12 & 511];
	return &low[GFN_PT][gva >> 12];
}

void tables_map(u64 gva, enum gpa_page page)
{
	WRITE_ONCE(*tables_pte_of(gva), tables_value(page) | (gva == GVA_GLOBAL ? PTE_GLOBAL : 0));
}

void tables_map_large(bool new)
{
	WRITE_ONCE(low[GFN_PD][1],
		   (u64)(new ? GFN_LARGE_NEW : GFN_LARGE_OLD) << 12 | PTE_PW | PTE_LARGE);
}

u64 tables_cr3(void)
{
	return GFN_PML4 << 12;
}

u64 tables_ept_root(unsigned int ept)
{
	return __pa(ept_table[ept][0]);
}

u64 tables_gpa(enum gpa_page page)
{
	return (u64)(GFN_VALUES + page) << 12;
}

u64 tables_gpa_of_table(void)
{
	return GFN_PT << 12;
}

void ept_use_alt(unsigned int ept, enum gpa_page page)
{
	WRITE_ONCE(*ept_entry(ept, GFN_VALUES + page), __pa(alt_page) | EPT_RW);
}

bool ept_accessed(unsigned int ept, u64 gpa)
{
	return READ_ONCE(*ept_entry(ept, gpa >> 12)) & EPT_A;
}

void ept_clear_accessed(unsigned int ept, u64 gpa)
{
	u64 *entry = ept_entry(ept, gpa >> 12);

	WRITE_ONCE(*entry, *entry & ~EPT_A);
}

void tables_data(u64 first, u64 second)
{
	low[GFN_DATA][0] = first;
	low[GFN_DATA][1] = second;
}

void *tables_code(void)
{
	return low[GFN_CODE];
}

int tables_init(void)
{
	unsigned int n, ept;

	for (n = 1; n < GFN_SWEEP_PT + SWEEP_TABLES; n++) {
		low[n] = new_page(0);
		if (!low[n])
			return -ENOMEM;
	}
	for (n = 0; n < GPA_PAGES; n++) {
		value_page[n] = new_page(values[n]);
		if (!value_page[n])
			return -ENOMEM;
	}
	alt_page = new_page(VALUE_ALT);
	if (!alt_page)
		return -ENOMEM;
	for (ept = 0; ept < 2; ept++) {
		for (n = 0; n < ARRAY_SIZE(ept_table[ept]); n++) {
			ept_table[ept][n] = new_page(0);
			if (!ept_table[ept][n])
				return -ENOMEM;
		}
	}
	return 0;
}

static void release(u64 **pages, unsigned int n)
{
	while (n--)
		free_page((unsigned long)pages[n]);
}

void tables_exit(void)
{
	release(low, ARRAY_SIZE(low));
	release(value_page, GPA_PAGES);
	release(&alt_page, 1);
	release(&ept_table[0][0], 2 * ARRAY_SIZE(ept_table[0]));
}

/* Two pages and one address: what it maps is written into the host's table. */
int host_page_init(void)
{
	struct page *page;

	host_pages[0] = new_page(VALUE_OLD);
	host_pages[1] = new_page(VALUE_NEW);
	if (!host_pages[0] || !host_pages[1])
		return -ENOMEM;
	page = virt_to_page(host_pages[0]);
	host_map = vmap(&page, 1, VM_MAP, PAGE_KERNEL);
	return host_map ? 0 : -ENOMEM;
}

void host_page_exit(void)
{
	if (host_map) {
		host_page_map(false);
		host_page_flush();
		vunmap(host_map);
	}
	release(host_pages, 2);
}

void host_page_map(bool new)
{
	unsigned int level;
	pte_t *pte = lookup_address((unsigned long)host_map, &level);

	if (pte && level == PG_LEVEL_4K)
		set_pte(pte, pfn_pte(__pa(host_pages[new]) >> PAGE_SHIFT, PAGE_KERNEL));
}

u64 host_page_read(void)
{
	return READ_ONCE(*host_map);
}

void host_page_flush(void)
{
	asm volatile("invlpg (%0)" :: "r"(host_map) : "memory");
}
