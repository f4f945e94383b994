// SPDX-License-Identifier: GPL-2.0
//
// The second-level TLB of the gvahint test machine: which translations a CPU
// may keep, and which events make it forget them.
//
// Bochs' own DTLB and ITLB have no tags: every change of context empties them.
// They stay the fast path and become a first level below this structure, which
// holds what a tagged TLB holds. Invariant: a translation in the first level
// belongs to the current context and is in this structure too.
//
// The three kinds of mappings are those of the Intel SDM, volume 3C, section
// "Information That May Be Cached":
//   linear          linear address -> physical; tags VPID, PCID
//   guest-physical  guest-physical address -> physical; tag EP4TA
//   combined        linear address -> physical; tags VPID, PCID, EP4TA
// Linear and combined mappings share one array: a linear one has no EP4TA.
//
// The model keeps whatever the SDM allows to be kept, until an instruction or
// event has to drop it or the capacity runs out. That is the worst case for
// whoever relies on a walk that is not guaranteed. docs/machine.md has the
// table of scopes and the tests that show each.

#ifndef BX_TAGGED_TLB_H
#define BX_TAGGED_TLB_H

// Tags of the current context.
struct TlbContext {
  Bit16u vpid;    // 0 in VMX root operation, outside VMX, and with VPID off
  Bit16u pcid;    // 0 while CR4.PCIDE is clear
  Bit32u mode;    // control bits that are folded into the access bits
  Bit64u ep4ta;   // EPTP[51:12], or NoEp4ta for a linear mapping
};

// What a linear or combined mapping leads to: the fields of bx_TLB_entry that
// can't be recomputed without a walk.
struct TlbTranslation {
  bx_phy_address ppf;
  Bit32u access;    // as bx_TLB_entry::accessBits
  Bit32u pkey;
  Bit32u lpf_mask;  // offset mask of the page in the guest's tables
  Bit32u memtype;   // effective type from the page tables
};

// What a guest-physical mapping leads to.
struct GpaTranslation {
  bx_phy_address ppf;
  Bit32u access;    // permissions of the EPT walk
  bool dirty;       // the leaf's D-bit is known to be set
};

// A linear or combined mapping that had to make room.
struct TlbVictim {
  bool valid, exec;
  bx_address laddr;
};

class TaggedTlb {
public:
  static const Bit64u NoEp4ta = ~BX_CONST64(0);

  TaggedTlb();

  // Linear and combined mappings. Code and data have entries of their own.
  TlbTranslation *find(const TlbContext &ctx, bx_address laddr, bool exec);
  TlbVictim insert(const TlbContext &ctx, bx_address laddr, bool exec,
                   const TlbTranslation &translation);
  void forget(const TlbContext &ctx, bx_address laddr, bool exec);

  // Guest-physical mappings. `page_walk`: the access is to a guest page table.
  GpaTranslation *find_gpa(Bit64u ep4ta, bx_phy_address gpa);
  void insert_gpa(Bit64u ep4ta, bx_phy_address gpa, bool page_walk,
                  const GpaTranslation &translation);
  void forget_gpa(Bit64u ep4ta, bx_phy_address gpa);

  // The scopes; the .cc file quotes what each is made from.
  void reset(void);
  void vmx_transition(bool vpid_enabled);
  void invept_single(Bit64u ep4ta);
  void invept_all(void);
  void invvpid_address(Bit16u vpid, bx_address laddr);
  void invvpid_context(Bit16u vpid);
  void invvpid_all(void);
  void invvpid_context_but_globals(Bit16u vpid);
  void invpcid_address(Bit16u vpid, Bit16u pcid, bx_address laddr);
  void invpcid_context(Bit16u vpid, Bit16u pcid);
  void invpcid_all(Bit16u vpid);
  void invpcid_all_but_globals(Bit16u vpid);
  void invlpg(Bit16u vpid, Bit16u pcid, bx_address laddr);
  void mov_cr3(Bit16u vpid, Bit16u pcid);
  void mov_cr_all_pcids(Bit16u vpid);
  void mov_cr4_one_pcid(Bit16u vpid, Bit16u pcid);
  void page_fault(Bit16u vpid, Bit16u pcid, bx_address laddr);
  void ept_violation(const TlbContext &ctx, bx_phy_address gpa,
                     bool is_translation, bx_address laddr);

private:
  enum {
    WAYS = 8, MAX_SETS = 8192,           // 65,536 entries of the huge one
    GPA_WAYS = 4, GPA_MAX_SETS = 16384,
    BUCKETS = 4096
  };

  // Tags apart from payloads: a scope that has to look at every entry reads
  // two or three dense arrays, and the compiler vectorises that.
  Bit64u page[MAX_SETS * WAYS];          // laddr >> 12, or Empty
  Bit64u key[MAX_SETS * WAYS];           // VPID, PCID, G, code or data, mode
  Bit64u ep4ta[MAX_SETS * WAYS];
  TlbTranslation translation[MAX_SETS * WAYS];
  Bit8u next_victim[MAX_SETS];

  Bit64u gpa_page[GPA_MAX_SETS * GPA_WAYS];
  Bit64u gpa_ep4ta[GPA_MAX_SETS * GPA_WAYS];
  GpaTranslation gpa_translation[GPA_MAX_SETS * GPA_WAYS];
  Bit8u gpa_next_victim[GPA_MAX_SETS];

  unsigned sets, gpa_sets;
  bool keep_data_gpa;       // profile leaf-cached
  bool keep_fragments;      // profile fragments
  bool drop_at_transitions; // profile off

  // Large pages are cached as fragments of 4 KiB, but an address drops the
  // whole page. These say where a fragment may be, so that other addresses
  // need not look at every entry: by 2 MiB, and by 1 GiB for larger pages.
  bool may_be_2m[BUCKETS], may_be_larger[BUCKETS];

  static unsigned bucket(Bit16u vpid, Bit64u region);
  unsigned set_of(Bit64u page_number) const;
  unsigned gpa_set_of(Bit64u page_number) const;
  int index_of(const TlbContext &ctx, bx_address laddr, bool exec) const;
  void note_large(Bit16u vpid, bx_address laddr, Bit32u lpf_mask);
  void drop_all_gpa(void);

  template <class Match> void drop_if(Match match);
  template <class Match> void drop_fragment_if(bx_address laddr, Match match);
  template <class Match> void drop_address_if(Bit16u vpid, bx_address laddr, Match match);
};

#endif
