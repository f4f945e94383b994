// SPDX-License-Identifier: GPL-2.0
//
// The device of the gvahint test machine: counters out, exit status in.

#ifndef BX_IODEV_GVAHINT_H
#define BX_IODEV_GVAHINT_H

// Registers the I/O ports; called when Bochs sets up its devices.
void gvahint_device_init(void);

// Writes the last snapshot; called when Bochs ends, for whatever reason.
void gvahint_device_exit(void);

#endif
