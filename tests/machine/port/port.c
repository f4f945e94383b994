// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/port, where the kernel's configuration has none, as Debian's for clouds: init and the
 * tests reach the machine's device through it.
 */
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#define PORTS 65536

static ssize_t port_read(struct file *file, char __user *to, size_t count, loff_t *ppos)
{
	size_t i;

	for (i = 0; i < count && *ppos < PORTS; i++, (*ppos)++) {
		if (put_user(inb(*ppos), to + i))
			return -EFAULT;
	}
	return i;
}

static ssize_t port_write(struct file *file, const char __user *from, size_t count, loff_t *ppos)
{
	size_t i;
	u8 byte;

	for (i = 0; i < count && *ppos < PORTS; i++, (*ppos)++) {
		if (get_user(byte, from + i))
			return -EFAULT;
		outb(byte, *ppos);
	}
	return i;
}

static const struct file_operations port_fops = {
	.owner = THIS_MODULE,
	.llseek = default_llseek,
	.read = port_read,
	.write = port_write,
};

static struct miscdevice port = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "port",
	.fops = &port_fops,
	.mode = 0600,
};
module_misc_device(port);

MODULE_DESCRIPTION("I/O ports as a file, for the tests");
MODULE_LICENSE("GPL");
