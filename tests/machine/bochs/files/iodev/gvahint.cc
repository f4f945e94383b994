// SPDX-License-Identifier: GPL-2.0
//
// The device of the gvahint test machine. Ports, one byte wide unless said:
//
//   0x4E0 write  'R' resets all counters; 'S' takes a snapshot of them as
//                JSON text and rewinds the read pointer
//   0x4E1 read   next byte of the snapshot, 0 at its end
//   0x4E3 read   0x47 ('G'): the device is there
//   0x4E4 write  (byte or 32 bit) exit status: written as decimal text to the
//                file that GVAHINT_STATUS names, then the machine stops
//
// docs/machine.md has the schema of the JSON text.

#include "iodev.h"
#include "pc_system.h"
#include "cpu/cpu.h"
#include "cpu/gvahint_settings.h"
#include "gvahint.h"

#include <stdarg.h>
#include <stdio.h>
#include <string>

#define LOG_THIS genlog->

enum {
  PORT_COMMAND = 0x4e0, PORT_SNAPSHOT = 0x4e1, PORT_PRESENT = 0x4e3, PORT_EXIT = 0x4e4,
  PRESENT = 0x47
};

static std::string snapshot;
static size_t next_byte;

static void append(std::string &out, const char *format, ...)
{
  char text[256];
  va_list arguments;

  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  out += text;
}

// {"3":1,"7":2}: the entries that are not 0
static void append_histogram(std::string &out, const char *name, const Bit64u *count, unsigned n)
{
  const char *separator = "";

  append(out, "\"%s\":{", name);
  for (unsigned i = 0; i < n; i++) {
    if (! count[i]) continue;
    append(out, "%s\"%u\":" FMT_LL "u", separator, i, count[i]);
    separator = ",";
  }
  out += "}";
}

static void append_mode(std::string &out, const ModeCounters &c)
{
  append(out, "\"instructions\":" FMT_LL "u,\"tlb_hits\":" FMT_LL "u,\"tlb_misses\":" FMT_LL "u",
         c.instructions, c.tlb_hits, c.tlb_misses);
}

static void append_cpu(std::string &out, unsigned cpu)
{
  VmxCounters &c = BX_CPU(cpu)->vmx_counters;
  const char *separator = "";

  c.settle(BX_CPU(cpu)->get_icount());

  append(out, "{\"cpu\":%u,", cpu);
  append(out, "\"invept\":{\"single\":" FMT_LL "u,\"all\":" FMT_LL "u,\"failed\":" FMT_LL "u},",
         c.invept_single, c.invept_all, c.invept_failed);
  append(out, "\"invvpid\":{\"addr\":" FMT_LL "u,\"single\":" FMT_LL "u,\"all\":" FMT_LL "u,",
         c.invvpid[0], c.invvpid[1], c.invvpid[2]);
  append(out, "\"nonglobal\":" FMT_LL "u,\"failed\":" FMT_LL "u},", c.invvpid[3], c.invvpid_failed);
  append(out, "\"entries\":" FMT_LL "u,\"exits\":" FMT_LL "u,", c.entries, c.exits);
  append_histogram(out, "exit_reasons", c.exit_reasons, VmxCounters::REASONS);
  out += ",";
  append_histogram(out, "interrupt_exits", c.interrupt_exits, VmxCounters::VECTORS);

  out += ",\"host\":{";
  append_mode(out, c.host);
  append(out, ",\"walk_refs\":" FMT_LL "u},\"guest\":[", c.host.walk_refs_guest);

  for (const auto &entry : c.guest) {
    const ModeCounters &g = entry.second;
    append(out, "%s{\"vpid\":%u,", separator, entry.first);
    append_mode(out, g);
    append(out, ",\"walk_refs_guest\":" FMT_LL "u,\"walk_refs_ept\":" FMT_LL "u,"
           "\"ept_accessed_set\":" FMT_LL "u}",
           g.walk_refs_guest, g.walk_refs_ept, g.ept_accessed_set);
    separator = ",";
  }
  out += "]}";
}

static std::string take_snapshot(void)
{
  const GvahintSettings &settings = gvahint_settings();
  std::string out;

  append(out, "{\"schema\":1,\"profile\":\"%s\",\"tlb\":\"%s\",\"cpus\":[",
         settings.profile_name(), settings.tlb_name());
  for (unsigned cpu = 0; cpu < BX_SMP_PROCESSORS; cpu++) {
    if (cpu) out += ",";
    append_cpu(out, cpu);
  }
  out += "]}";
  return out;
}

static void write_file(const char *variable, const char *name, const std::string &text)
{
  if (! name) return;

  FILE *file = fopen(name, "w");
  bool good = file && fwrite(text.data(), 1, text.size(), file) == text.size();
  if (file && fclose(file)) good = false;
  if (! good)
    BX_ERROR(("gvahint: can't write %s, the file that %s names", name, variable));
}

// Up to 17 characters wait in a serial port, for 20 ms at 9600 baud: let the
// time pass, in which no CPU runs, so that the end of the output is not lost.
static void drain_serial_ports(void)
{
  const Bit32u ticks_per_ms = (Bit32u) SIM->get_param_num(BXPN_IPS)->get() / 1000;

  for (unsigned ms = 0; ms < 50; ms++)
    BX_TICKN(ticks_per_ms);
}

static void stop_machine(Bit32u status)
{
  char text[16];

  drain_serial_ports();
  snprintf(text, sizeof text, "%u\n", status);
  write_file("GVAHINT_STATUS", gvahint_settings().status_file, text);
  bx_stop_simulation();
}

static void reset_counters(void)
{
  for (unsigned cpu = 0; cpu < BX_SMP_PROCESSORS; cpu++)
    BX_CPU(cpu)->vmx_counters.clear(BX_CPU(cpu)->get_icount());
}

static Bit32u read_port(void *, Bit32u address, unsigned)
{
  switch (address) {
    case PORT_PRESENT:
      return PRESENT;
    case PORT_SNAPSHOT:
      return next_byte < snapshot.size() ? (Bit8u) snapshot[next_byte++] : 0;
  }
  return 0xff;
}

static void write_port(void *, Bit32u address, Bit32u value, unsigned)
{
  if (address == PORT_EXIT) {
    stop_machine(value);
  }
  else if (value == 'R') {
    reset_counters();
  }
  else if (value == 'S') {
    snapshot = take_snapshot();
    next_byte = 0;
  }
}

void gvahint_device_init(void)
{
  static const char name[] = "gvahint";

  DEV_register_ioread_handler(NULL, read_port, PORT_SNAPSHOT, name, 1);
  DEV_register_ioread_handler(NULL, read_port, PORT_PRESENT, name, 1);
  DEV_register_iowrite_handler(NULL, write_port, PORT_COMMAND, name, 1);
  DEV_register_iowrite_handler(NULL, write_port, PORT_EXIT, name, 1 | 4);
}

void gvahint_device_exit(void)
{
  write_file("GVAHINT_COUNTERS", gvahint_settings().counters_file, take_snapshot() + "\n");
}
