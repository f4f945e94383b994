// SPDX-License-Identifier: GPL-2.0
/*
 * The files of /sys/kernel/gvahint: their names and modes.  What they say and
 * take is the Rust side's: each has an id, show and store pass it on.
 *
 * Ages of guest memory are not for everybody: 0400 and 0600 only.
 */
#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/wait_bit.h>

#include "shim.h"

struct gvahint_attr {
	struct attribute attr;
	u32 id;
};

/* the root directory (vm == NULL) or that of a VM */
struct gvahint_dir {
	struct kobject kobj;
	struct list_head list;
	void *vm;
};

static const struct gvahint_sysfs_ops *gvahint_ops;
static struct gvahint_dir *gvahint_root;
static struct kobject *gvahint_vms;

/* the VMs' directories; innermost but for what fn of gvahint_dir_each() takes */
static LIST_HEAD(gvahint_vm_dirs);
static DEFINE_MUTEX(gvahint_vm_dirs_lock);

/* directories whose memory is not freed yet; gvahint_dir_release() must not be called after us */
static atomic_t gvahint_dirs = ATOMIC_INIT(0);

/* several files change parts of one word; nests inside kernfs' active references only */
static DEFINE_MUTEX(gvahint_store_lock);

static ssize_t gvahint_attr_show(struct kobject *kobj, struct attribute *attr, char *buf)
{
	struct gvahint_dir *dir = container_of(kobj, struct gvahint_dir, kobj);

	return gvahint_ops->show(dir->vm, container_of(attr, struct gvahint_attr, attr)->id,
				 buf, PAGE_SIZE);
}

static ssize_t gvahint_attr_store(struct kobject *kobj, struct attribute *attr, const char *buf,
				  size_t len)
{
	struct gvahint_dir *dir = container_of(kobj, struct gvahint_dir, kobj);
	ssize_t ret;

	mutex_lock(&gvahint_store_lock);
	ret = gvahint_ops->store(dir->vm, container_of(attr, struct gvahint_attr, attr)->id,
				 buf, len);
	mutex_unlock(&gvahint_store_lock);
	return ret;
}

static void gvahint_dir_release(struct kobject *kobj)
{
	kfree(container_of(kobj, struct gvahint_dir, kobj));
	if (atomic_dec_and_test(&gvahint_dirs))
		wake_up_var(&gvahint_dirs);
}

static const struct sysfs_ops gvahint_attr_ops = {
	.show = gvahint_attr_show,
	.store = gvahint_attr_store,
};

#define GVAHINT_ATTR(_var, _name, _mode, _id)				\
	static struct gvahint_attr _var = {				\
		.attr = { .name = _name, .mode = _mode }, .id = _id,	\
	}

/* the six policy knobs, twice: in directories of their own, and flat in a VM's */
#define GVAHINT_POLICY_ATTRS(_which, _WHICH)						\
	GVAHINT_ATTR(_which##_flush, "flush", 0600, GVAHINT_ATTR_##_WHICH##_FLUSH);		\
	GVAHINT_ATTR(_which##_uncovered, "uncovered", 0600, GVAHINT_ATTR_##_WHICH##_UNCOVERED);	\
	GVAHINT_ATTR(_which##_timing, "timing", 0600, GVAHINT_ATTR_##_WHICH##_TIMING);		\
	GVAHINT_ATTR(vm_##_which##_flush, #_which "_flush", 0600,				\
		     GVAHINT_ATTR_##_WHICH##_FLUSH);						\
	GVAHINT_ATTR(vm_##_which##_uncovered, #_which "_uncovered", 0600,			\
		     GVAHINT_ATTR_##_WHICH##_UNCOVERED);					\
	GVAHINT_ATTR(vm_##_which##_timing, #_which "_timing", 0600,				\
		     GVAHINT_ATTR_##_WHICH##_TIMING);						\
	static struct attribute *_which##_attrs[] = {						\
		&_which##_flush.attr, &_which##_uncovered.attr, &_which##_timing.attr, NULL	\
	};											\
	static const struct attribute_group _which##_group = {					\
		.name = #_which, .attrs = _which##_attrs					\
	}

GVAHINT_POLICY_ATTRS(clear_flush_young, CLEAR_FLUSH_YOUNG);
GVAHINT_POLICY_ATTRS(clear_young, CLEAR_YOUNG);

GVAHINT_ATTR(root_version, "version", 0400, GVAHINT_ATTR_VERSION);
GVAHINT_ATTR(root_batch_pages, "batch_pages", 0600, GVAHINT_ATTR_BATCH_PAGES);
GVAHINT_ATTR(root_max_delay_ms, "max_delay_ms", 0600, GVAHINT_ATTR_MAX_DELAY_MS);
GVAHINT_ATTR(root_linear_alias, "linear_alias", 0600, GVAHINT_ATTR_LINEAR_ALIAS);
GVAHINT_ATTR(root_calibration, "calibration", 0600, GVAHINT_ATTR_CALIBRATION);
GVAHINT_ATTR(root_hint_max_age_ms, "hint_max_age_ms", 0600, GVAHINT_ATTR_HINT_MAX_AGE_MS);
GVAHINT_ATTR(root_lease_ms, "lease_ms", 0600, GVAHINT_ATTR_LEASE_MS);
GVAHINT_ATTR(root_max_gvas, "max_gvas_per_entry", 0600, GVAHINT_ATTR_MAX_GVAS_PER_ENTRY);
GVAHINT_ATTR(root_log_entries, "log_entries", 0600, GVAHINT_ATTR_LOG_ENTRIES);
GVAHINT_ATTR(root_max_bytes, "max_bytes_per_vm", 0600, GVAHINT_ATTR_MAX_BYTES_PER_VM);

static struct attribute *root_attrs[] = {
	&root_version.attr, &root_batch_pages.attr, &root_max_delay_ms.attr,
	&root_linear_alias.attr, &root_calibration.attr, &root_hint_max_age_ms.attr,
	&root_lease_ms.attr, &root_max_gvas.attr, &root_log_entries.attr,
	&root_max_bytes.attr, NULL
};

static const struct attribute_group root_group = { .attrs = root_attrs };
static const struct attribute_group *root_groups[] = {
	&root_group, &clear_flush_young_group, &clear_young_group, NULL
};

static const struct kobj_type gvahint_root_type = {
	.release = gvahint_dir_release,
	.sysfs_ops = &gvahint_attr_ops,
	.default_groups = root_groups,
};

GVAHINT_ATTR(vm_pid, "pid", 0400, GVAHINT_ATTR_PID);
GVAHINT_ATTR(vm_state, "state", 0400, GVAHINT_ATTR_STATE);
GVAHINT_ATTR(vm_coverage, "coverage", 0400, GVAHINT_ATTR_COVERAGE);

static struct attribute *vm_attrs[] = {
	&vm_pid.attr, &vm_state.attr, &vm_coverage.attr,
	&vm_clear_flush_young_flush.attr, &vm_clear_flush_young_uncovered.attr,
	&vm_clear_flush_young_timing.attr, &vm_clear_young_flush.attr,
	&vm_clear_young_uncovered.attr, &vm_clear_young_timing.attr, NULL
};

static const struct attribute_group vm_group = { .attrs = vm_attrs };

/* named by the core's counters, filled before anything is created */
static struct gvahint_attr stats[GVAHINT_MAX_STATS];
static char stat_names[GVAHINT_MAX_STATS][GVAHINT_STAT_NAME_LEN];
static struct attribute *stat_attrs[GVAHINT_MAX_STATS + 1];
static unsigned int nr_stats;

static const struct attribute_group stat_group = { .name = "stats", .attrs = stat_attrs };
static const struct attribute_group *vm_groups[] = { &vm_group, &stat_group, NULL };
static const struct kobj_type gvahint_vm_type = {
	.release = gvahint_dir_release,
	.sysfs_ops = &gvahint_attr_ops,
	.default_groups = vm_groups,
};

int gvahint_sysfs_add_stat(const char *name, size_t len)
{
	struct gvahint_attr *stat;

	if (len >= GVAHINT_STAT_NAME_LEN)
		return -EINVAL;
	if (nr_stats >= GVAHINT_MAX_STATS)
		return -ENOSPC;
	stat = &stats[nr_stats];
	memcpy(stat_names[nr_stats], name, len);
	sysfs_attr_init(&stat->attr);
	stat->attr.name = stat_names[nr_stats];
	stat->attr.mode = 0400;
	stat->id = GVAHINT_ATTR_STATS + nr_stats;
	stat_attrs[nr_stats++] = &stat->attr;
	return 0;
}

static struct gvahint_dir *dir_add(void *vm, const struct kobj_type *type, struct kobject *parent,
				   const char *name)
{
	struct gvahint_dir *dir = kzalloc(sizeof(*dir), GFP_KERNEL_ACCOUNT);

	if (!dir)
		return NULL;
	dir->vm = vm;
	INIT_LIST_HEAD(&dir->list);
	atomic_inc(&gvahint_dirs);
	if (kobject_init_and_add(&dir->kobj, type, parent, "%s", name)) {
		kobject_put(&dir->kobj);
		return NULL;
	}
	return dir;
}

void gvahint_dir_free(struct gvahint_dir *dir)
{
	mutex_lock(&gvahint_vm_dirs_lock);
	list_del(&dir->list);
	mutex_unlock(&gvahint_vm_dirs_lock);
	kobject_del(&dir->kobj);
	kobject_put(&dir->kobj);
}

struct gvahint_dir *gvahint_dir_new(void *vm, u64 id)
{
	struct gvahint_dir *dir;
	char name[24];

	snprintf(name, sizeof(name), "%llu", id);
	dir = dir_add(vm, &gvahint_vm_type, gvahint_vms, name);
	if (dir) {
		mutex_lock(&gvahint_vm_dirs_lock);
		list_add(&dir->list, &gvahint_vm_dirs);
		mutex_unlock(&gvahint_vm_dirs_lock);
	}
	return dir;
}

void gvahint_dir_each(gvahint_vm_fn fn)
{
	struct gvahint_dir *dir;

	mutex_lock(&gvahint_vm_dirs_lock);
	list_for_each_entry(dir, &gvahint_vm_dirs, list)
		fn(dir->vm);
	mutex_unlock(&gvahint_vm_dirs_lock);
}

int gvahint_sysfs_init(const struct gvahint_sysfs_ops *ops)
{
	gvahint_ops = ops;
	gvahint_root = dir_add(NULL, &gvahint_root_type, kernel_kobj, "gvahint");
	if (!gvahint_root)
		goto wait;
	gvahint_vms = kobject_create_and_add("vms", &gvahint_root->kobj);
	if (!gvahint_vms) {
		gvahint_dir_free(gvahint_root);
		goto wait;
	}
	return 0;
wait:
	wait_var_event(&gvahint_dirs, !atomic_read(&gvahint_dirs));
	return -ENOMEM;
}

void gvahint_sysfs_exit(void)
{
	kobject_del(gvahint_vms);
	kobject_put(gvahint_vms);
	gvahint_dir_free(gvahint_root);
	wait_var_event(&gvahint_dirs, !atomic_read(&gvahint_dirs));
}
