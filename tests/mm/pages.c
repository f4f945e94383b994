// SPDX-License-Identifier: GPL-2.0
/* Pages of the kernel's own, and what the kernel does with pages of user space. */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/memory_hotplug.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include "gvahint_mm.h"

static void *slab, *object, *big, *vmalloced, *mapped, *ram;
static struct kmem_cache *cache;
static struct page *plain, *movable, *pair, *offline, *held, *locked;
/* vm_map_ram() keeps no array, vmap() reads it at once */
static struct page *array[1];

long pages_alloc(const char *what, unsigned long *pfn)
{
	if (!strcmp(what, "slab")) {
		slab = slab ?: kmalloc(256, GFP_KERNEL);
		*pfn = slab ? page_to_pfn(virt_to_page(slab)) : 0;
	} else if (!strcmp(what, "slabs")) {
		/* a cache of its own, which frees its pages when it goes */
		cache = cache ?: kmem_cache_create("gvahint_mm", 512, 0, SLAB_NO_MERGE, NULL);
		if (cache && !object)
			object = kmem_cache_alloc(cache, GFP_KERNEL);
		*pfn = object ? page_to_pfn(virt_to_page(object)) : 0;
	} else if (!strcmp(what, "big")) {
		/* beyond the slabs: pages of their own */
		big = big ?: kmalloc(4 * KMALLOC_MAX_CACHE_SIZE, GFP_KERNEL);
		*pfn = big ? page_to_pfn(virt_to_page(big)) : 0;
	} else if (!strcmp(what, "vmalloc")) {
		vmalloced = vmalloced ?: vmalloc(PAGE_SIZE);
		*pfn = vmalloced ? vmalloc_to_pfn(vmalloced) : 0;
	} else if (!strcmp(what, "page")) {
		plain = plain ?: alloc_page(GFP_KERNEL);
		*pfn = plain ? page_to_pfn(plain) : 0;
	} else if (!strcmp(what, "movable")) {
		movable = movable ?: alloc_page(GFP_HIGHUSER_MOVABLE);
		*pfn = movable ? page_to_pfn(movable) : 0;
	} else if (!strcmp(what, "second")) {
		/* of two that are no folio: nobody counts references to it, as to PTI's second PGD */
		pair = pair ?: alloc_pages(GFP_KERNEL, 1);
		*pfn = pair ? page_to_pfn(pair) + 1 : 0;
	} else if (!strcmp(what, "offline")) {
		/* as virtio-mem keeps what the host takes for unplugged */
		if (!offline) {
			offline = alloc_page(GFP_KERNEL);
			if (offline)
				__SetPageOffline(offline);
		}
		*pfn = offline ? page_to_pfn(offline) : 0;
	} else if (!strcmp(what, "stack")) {
		*pfn = vmalloc_to_pfn(current->stack);
	} else if (!strcmp(what, "text")) {
		*pfn = PHYS_PFN(__pa_symbol(_printk));
	} else if (!strcmp(what, "free") || !strcmp(what, "block")) {
		/* one waits in the CPU's list, so many don't */
		int order = *what == 'b' ? PAGE_ALLOC_COSTLY_ORDER + 1 : 0;
		struct page *page = alloc_pages(GFP_KERNEL, order);

		if (!page)
			return -ENOMEM;
		*pfn = page_to_pfn(page);
		__free_pages(page, order);
	} else {
		return -EINVAL;
	}
	return *pfn ? 0 : -ENOMEM;
}

long pages_hold(const char *how, unsigned long pfn)
{
	struct page *page = pfn_to_online_page(pfn);

	if (!page || held || locked || mapped || ram)
		return -EBUSY;
	if (!get_page_unless_zero(page))
		return -ENOENT;
	held = page;
	array[0] = page;
	if (!strcmp(how, "vmap")) {
		mapped = vmap(array, 1, VM_MAP, PAGE_KERNEL);
	} else if (!strcmp(how, "ram")) {
		ram = vm_map_ram(array, 1, NUMA_NO_NODE);
	} else if (!strcmp(how, "lock")) {
		lock_page(page);
		locked = page;
	} else if (strcmp(how, "get")) {
		return -EINVAL;
	}
	return 0;
}

/* it need not become free for good: hugetlb keeps its pages */
long pages_migrate(unsigned long pfn)
{
	if (!alloc_contig_range(pfn, pfn + pageblock_nr_pages, MIGRATE_MOVABLE, GFP_KERNEL))
		free_contig_range(pfn, pageblock_nr_pages);
	return 0;
}

long pages_release(void)
{
	vunmap(mapped);
	if (ram)
		vm_unmap_ram(ram, 1);
	if (locked)
		unlock_page(locked);
	if (held)
		put_page(held);
	kfree(slab);
	if (object)
		kmem_cache_free(cache, object);
	kmem_cache_destroy(cache);
	kfree(big);
	vfree(vmalloced);
	if (plain)
		__free_page(plain);
	if (movable)
		__free_page(movable);
	if (pair)
		__free_pages(pair, 1);
	if (offline) {
		__ClearPageOffline(offline);
		__free_page(offline);
	}
	cache = NULL;
	slab = object = big = vmalloced = mapped = ram = NULL;
	plain = movable = pair = offline = held = locked = NULL;
	return 0;
}

static vm_fault_t fault(struct vm_fault *vmf)
{
	if (!held)
		return VM_FAULT_SIGBUS;
	/* the first page by pfn, the second as drivers map their own: by page */
	if (!vmf->pgoff)
		return vmf_insert_pfn(vmf->vma, vmf->address, page_to_pfn(held));
	return vmf_insert_page(vmf->vma, vmf->address, held);
}

static const struct vm_operations_struct vm_ops = { .fault = fault };

int pages_mmap(struct file *file, struct vm_area_struct *vma)
{
	vm_flags_set(vma, (vma->vm_pgoff ? VM_MIXEDMAP : VM_PFNMAP) | VM_DONTEXPAND);
	vma->vm_ops = &vm_ops;
	return 0;
}

unsigned long pages_table_of(unsigned long address, unsigned long level)
{
	struct mm_struct *mm = current->mm;
	unsigned long pfn = 0;
	pud_t *pud;
	pmd_t *pmd;

	mmap_read_lock(mm);
	pud = pud_offset(p4d_offset(pgd_offset(mm, address), address), address);
	if (pud_none(*pud) || pud_leaf(*pud))
		goto out;
	pmd = pmd_offset(pud, address);
	if (level == 3)
		pfn = page_to_pfn(virt_to_page(pud));
	else if (level == 2)
		pfn = page_to_pfn(virt_to_page(pmd));
	else if (level == 1 && pmd_present(*pmd) && !pmd_leaf(*pmd))
		pfn = page_to_pfn(pmd_page(*pmd));
out:
	mmap_read_unlock(mm);
	return pfn;
}
