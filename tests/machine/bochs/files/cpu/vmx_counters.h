// SPDX-License-Identifier: GPL-2.0
//
// What the gvahint test machine counts for each CPU. The device that hands the
// counters out (iodev/gvahint.cc) names each in its JSON text.

#ifndef BX_VMX_COUNTERS_H
#define BX_VMX_COUNTERS_H

#include <map>

// One execution mode: the host, or the guests that ran under one VPID.
struct ModeCounters {
  Bit64u instructions = 0;
  Bit64u tlb_hits = 0, tlb_misses = 0;           // of the tagged TLB
  Bit64u walk_refs_guest = 0, walk_refs_ept = 0; // reads of page-table entries
  Bit64u ept_accessed_set = 0;                   // leaves whose A-bit was set
};

class VmxCounters {
public:
  enum { REASONS = 128, VECTORS = 256 };

  Bit64u invept_single, invept_all, invept_failed;
  Bit64u invvpid[4], invvpid_failed;     // by type
  Bit64u entries, exits;
  Bit64u exit_reasons[REASONS];          // by basic reason
  Bit64u interrupt_exits[VECTORS];
  ModeCounters host;
  std::map<Bit16u, ModeCounters> guest;  // by VPID; 0: VPID off
  ModeCounters *now;                     // of the current mode

  VmxCounters() : in_guest(false), vpid(0) { clear(0); }

  // Starts afresh in the current mode. `icount`: instructions run so far.
  void clear(Bit64u icount)
  {
    invept_single = invept_all = invept_failed = invvpid_failed = 0;
    entries = exits = 0;
    memset(invvpid, 0, sizeof invvpid);
    memset(exit_reasons, 0, sizeof exit_reasons);
    memset(interrupt_exits, 0, sizeof interrupt_exits);
    host = ModeCounters();
    guest.clear();
    since = icount;
    select();
  }

  // Books the instructions of the current mode. Any order of settle() and the
  // two below gives the same sums.
  void settle(Bit64u icount)
  {
    now->instructions += icount - since;
    since = icount;
  }

  void enter_guest(Bit16u new_vpid, Bit64u icount)
  {
    settle(icount);
    entries++;
    in_guest = true;
    vpid = new_vpid;
    select();
  }

  void leave_guest(unsigned basic_reason, Bit64u icount)
  {
    settle(icount);
    exits++;
    exit_reasons[basic_reason % REASONS]++;
    in_guest = false;
    select();
  }

private:
  bool in_guest;
  Bit16u vpid;
  Bit64u since;

  // A map's elements stay where they are, so the pointer lasts until clear().
  void select(void) { now = in_guest ? &guest[vpid] : &host; }
};

#endif
