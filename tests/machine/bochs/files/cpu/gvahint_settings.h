// SPDX-License-Identifier: GPL-2.0
//
// What the environment of the Bochs process says about the test machine. Read
// once; a value that is not known ends the process, for a run under a profile
// that nobody asked for would be worse than none.

#ifndef BX_GVAHINT_SETTINGS_H
#define BX_GVAHINT_SETTINGS_H

struct GvahintSettings {
  enum Profile { COMBINED_ONLY, LEAF_CACHED, FRAGMENTS, OFF };
  enum Tlb { SMALL, LARGE, HUGE };

  Profile profile;           // GVAHINT_PROFILE
  Tlb tlb;                   // GVAHINT_TLB
  bool mask_invvpid_address; // GVAHINT_MASK has no-invvpid-addr
  bool mask_ept_ad;          // GVAHINT_MASK has no-ept-ad
  const char *status_file;   // GVAHINT_STATUS, or NULL
  const char *counters_file; // GVAHINT_COUNTERS, or NULL

  const char *profile_name() const;
  const char *tlb_name() const;
};

const GvahintSettings &gvahint_settings();

#endif
