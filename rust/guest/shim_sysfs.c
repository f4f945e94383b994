// SPDX-License-Identifier: GPL-2.0
/*
 * The files of /sys/kernel/gvahint_guest.  Their names, and what they say and
 * take, are the Rust side's: each has an id, show and store pass it on.
 *
 * Where memory is mapped and how busy the host is are not for everybody: 0400
 * and 0600 only.
 */
#include <linux/kobject.h>
#include <linux/mutex.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "shim.h"

struct gvahint_file {
	struct kobj_attribute attr;
	u32 id;
	char name[GVAHINT_FILE_NAME_LEN];
};

static struct gvahint_file files[GVAHINT_MAX_FILES];
static unsigned int nr_files, nr_root, nr_stats;

static struct attribute *root_attrs[GVAHINT_MAX_FILES + 1];
static struct attribute *stat_attrs[GVAHINT_MAX_FILES + 1];
static const struct attribute_group root_group = { .attrs = root_attrs };
static const struct attribute_group stat_group = { .name = "stats", .attrs = stat_attrs };
static const struct attribute_group *groups[] = { &root_group, &stat_group, NULL };

static const struct gvahint_sysfs_ops *gvahint_ops;
static void *gvahint_data;
static struct kobject *gvahint_root;
static DEFINE_MUTEX(gvahint_store_lock);

static ssize_t gvahint_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	u32 id = container_of(attr, struct gvahint_file, attr)->id;

	return gvahint_ops->show(gvahint_data, id, buf, PAGE_SIZE);
}

static ssize_t gvahint_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			     size_t len)
{
	u32 id = container_of(attr, struct gvahint_file, attr)->id;
	ssize_t ret;

	mutex_lock(&gvahint_store_lock);
	ret = gvahint_ops->store(gvahint_data, id, buf, len);
	mutex_unlock(&gvahint_store_lock);
	return ret;
}

int gvahint_sysfs_add(const char *name, size_t len, bool writable, bool stat)
{
	struct gvahint_file *file;

	if (len >= GVAHINT_FILE_NAME_LEN)
		return -EINVAL;
	if (nr_files >= GVAHINT_MAX_FILES)
		return -ENOSPC;
	file = &files[nr_files];
	file->id = nr_files++;
	memcpy(file->name, name, len);
	sysfs_attr_init(&file->attr.attr);
	file->attr.attr.name = file->name;
	file->attr.attr.mode = writable ? 0600 : 0400;
	file->attr.show = gvahint_show;
	if (writable)
		file->attr.store = gvahint_store;
	if (stat)
		stat_attrs[nr_stats++] = &file->attr.attr;
	else
		root_attrs[nr_root++] = &file->attr.attr;
	return file->id;
}

int gvahint_sysfs_init(const struct gvahint_sysfs_ops *ops, void *data)
{
	int ret;

	gvahint_ops = ops;
	gvahint_data = data;
	gvahint_root = kobject_create_and_add("gvahint_guest", kernel_kobj);
	if (!gvahint_root)
		return -ENOMEM;
	ret = sysfs_create_groups(gvahint_root, groups);
	if (ret)
		kobject_put(gvahint_root);
	return ret;
}

void gvahint_sysfs_exit(void)
{
	sysfs_remove_groups(gvahint_root, groups);
	kobject_put(gvahint_root);
}
