// SPDX-License-Identifier: GPL-2.0
//
// The second-level TLB of the gvahint test machine; tagged_tlb.h says what it
// is. Section titles are those of the Intel SDM, volume 3C (VMX) and 3A
// (paging); the numbers of the sections move from edition to edition.

#define NEED_CPU_REG_SHORTCUTS 1
#include "bochs.h"
#include "cpu.h"
#define LOG_THIS BX_CPU_THIS_PTR

#include "gvahint_settings.h"

static const Bit64u Empty = ~BX_CONST64(0);

// Layout of a key. The mode has the upper half.
static const Bit64u KEY_VPID   = BX_CONST64(0x0000ffff);
static const Bit64u KEY_PCID   = BX_CONST64(0x0fff0000);
static const Bit64u KEY_GLOBAL = BX_CONST64(0x10000000);
static const Bit64u KEY_EXEC   = BX_CONST64(0x20000000);
static const unsigned KEY_PCID_SHIFT = 16, KEY_MODE_SHIFT = 32;

static inline Bit64u key_of(const TlbContext &ctx, bool exec, bool global)
{
  return ctx.vpid | ((Bit64u) ctx.pcid << KEY_PCID_SHIFT) | (global ? KEY_GLOBAL : 0) |
         (exec ? KEY_EXEC : 0) | ((Bit64u) ctx.mode << KEY_MODE_SHIFT);
}

static inline Bit64u key_pcid(Bit16u pcid) { return (Bit64u) pcid << KEY_PCID_SHIFT; }

TaggedTlb::TaggedTlb()
{
  const GvahintSettings &settings = gvahint_settings();

  keep_data_gpa = settings.profile == GvahintSettings::LEAF_CACHED;
  keep_fragments = settings.profile == GvahintSettings::FRAGMENTS;
  drop_at_transitions = settings.profile == GvahintSettings::OFF;
  static const unsigned entries[] = { 1024, 16384, 65536 };
  sets = entries[settings.tlb] / WAYS;
  gpa_sets = entries[settings.tlb] / GPA_WAYS;
  memset(next_victim, 0, sizeof next_victim);
  memset(gpa_next_victim, 0, sizeof gpa_next_victim);
  memset(key, 0, sizeof key);
  memset(ep4ta, 0, sizeof ep4ta);
  memset(gpa_ep4ta, 0, sizeof gpa_ep4ta);
  reset();
}

unsigned TaggedTlb::set_of(Bit64u n) const
{
  return (unsigned) (n ^ (n >> 11) ^ (n >> 22)) & (sets - 1);
}

unsigned TaggedTlb::gpa_set_of(Bit64u n) const
{
  return (unsigned) (n ^ (n >> 12)) & (gpa_sets - 1);
}

unsigned TaggedTlb::bucket(Bit16u vpid, Bit64u region)
{
  return (unsigned) (region ^ (region >> 12) ^ (vpid * 0x9e5u)) & (BUCKETS - 1);
}

int TaggedTlb::index_of(const TlbContext &ctx, bx_address laddr, bool exec) const
{
  const Bit64u n = laddr >> 12, want = key_of(ctx, exec, false);
  const unsigned first = set_of(n) * WAYS;

  for (unsigned i = first; i < first + WAYS; i++) {
    if (page[i] != n || ep4ta[i] != ctx.ep4ta) continue;
    // "Global Pages": a global translation serves every PCID
    Bit64u ignore = KEY_GLOBAL | ((key[i] & KEY_GLOBAL) ? KEY_PCID : 0);
    if (! ((key[i] ^ want) & ~ignore)) return (int) i;
  }
  return -1;
}

TlbTranslation *TaggedTlb::find(const TlbContext &ctx, bx_address laddr, bool exec)
{
  int i = index_of(ctx, laddr, exec);
  return i < 0 ? NULL : &translation[i];
}

void TaggedTlb::forget(const TlbContext &ctx, bx_address laddr, bool exec)
{
  int i = index_of(ctx, laddr, exec);
  if (i >= 0) page[i] = Empty;
}

void TaggedTlb::note_large(Bit16u vpid, bx_address laddr, Bit32u lpf_mask)
{
  if (lpf_mask > 0x1fffff)
    may_be_larger[bucket(vpid, laddr >> 30)] = true;
  else if (lpf_mask > 0xfff)
    may_be_2m[bucket(vpid, laddr >> 21)] = true;
}

TlbVictim TaggedTlb::insert(const TlbContext &ctx, bx_address laddr, bool exec,
                            const TlbTranslation &t)
{
  TlbVictim victim = { false, false, 0 };
  const unsigned set = set_of(laddr >> 12), first = set * WAYS;
  int i = index_of(ctx, laddr, exec);

  for (unsigned n = first; i < 0 && n < first + WAYS; n++)
    if (page[n] == Empty) i = (int) n;

  if (i < 0) {
    i = (int) (first + next_victim[set]++ % WAYS);
    victim.valid = true;
    victim.exec = (key[i] & KEY_EXEC) != 0;
    victim.laddr = page[i] << 12;
  }

  page[i] = laddr >> 12;
  key[i] = key_of(ctx, exec, (t.access & TLB_GlobalPage) != 0);
  ep4ta[i] = ctx.ep4ta;
  translation[i] = t;
  note_large(ctx.vpid, laddr, t.lpf_mask);
  return victim;
}

GpaTranslation *TaggedTlb::find_gpa(Bit64u tag, bx_phy_address gpa)
{
  const Bit64u n = gpa >> 12;
  const unsigned first = gpa_set_of(n) * GPA_WAYS;

  for (unsigned i = first; i < first + GPA_WAYS; i++)
    if (gpa_page[i] == n && gpa_ep4ta[i] == tag) return &gpa_translation[i];
  return NULL;
}

void TaggedTlb::insert_gpa(Bit64u tag, bx_phy_address gpa, bool page_walk, const GpaTranslation &t)
{
  // What tells the profiles apart: does the last step of a walk, from the
  // guest-physical address of the data to the physical one, leave a mapping?
  if (! page_walk && ! keep_data_gpa) return;

  const Bit64u n = gpa >> 12;
  const unsigned set = gpa_set_of(n), first = set * GPA_WAYS;
  unsigned i;

  for (i = first; i < first + GPA_WAYS; i++)
    if (gpa_page[i] == Empty) break;
  if (i == first + GPA_WAYS)
    i = first + gpa_next_victim[set]++ % GPA_WAYS;

  gpa_page[i] = n;
  gpa_ep4ta[i] = tag;
  gpa_translation[i] = t;
}

void TaggedTlb::forget_gpa(Bit64u tag, bx_phy_address gpa)
{
  GpaTranslation *t = find_gpa(tag, gpa);
  if (t) gpa_page[t - gpa_translation] = Empty;
}

void TaggedTlb::drop_all_gpa(void)
{
  for (unsigned i = 0; i < gpa_sets * GPA_WAYS; i++) gpa_page[i] = Empty;
}

// Drops every linear and combined mapping for which match(key, ep4ta) holds.
template <class Match> void TaggedTlb::drop_if(Match match)
{
  const unsigned entries = sets * WAYS;

  for (unsigned i = 0; i < entries; i++)
    page[i] |= match(key[i], ep4ta[i]) ? Empty : 0;
}

// The same for the 4 KiB that contain laddr.
template <class Match> void TaggedTlb::drop_fragment_if(bx_address laddr, Match match)
{
  const unsigned first = set_of(laddr >> 12) * WAYS;

  for (unsigned i = first; i < first + WAYS; i++)
    if (page[i] == laddr >> 12 && match(key[i])) page[i] = Empty;
}

// The same for the page that contains laddr, whatever its size. "Details of
// TLB Use": INVLPG and page faults drop all fragments of a large page.
template <class Match> void TaggedTlb::drop_address_if(Bit16u vpid, bx_address laddr, Match match)
{
  if (! may_be_2m[bucket(vpid, laddr >> 21)] && ! may_be_larger[bucket(vpid, laddr >> 30)]) {
    drop_fragment_if(laddr, match);
    return;
  }

  // Every entry is looked at, so what is known about large pages is renewed.
  const unsigned entries = sets * WAYS;

  memset(may_be_2m, 0, sizeof may_be_2m);
  memset(may_be_larger, 0, sizeof may_be_larger);
  for (unsigned i = 0; i < entries; i++) {
    if (page[i] == Empty) continue;
    const Bit64u offset = translation[i].lpf_mask;
    if ((((page[i] << 12) ^ laddr) & ~offset & LPF_MASK) == 0 && match(key[i]))
      page[i] = Empty;
    else
      note_large((Bit16u) (key[i] & KEY_VPID), page[i] << 12, translation[i].lpf_mask);
  }
}

// "Operations that Invalidate Cached Mappings": a power-up or a reset
// invalidates all linear, guest-physical and combined mappings.
void TaggedTlb::reset(void)
{
  for (unsigned i = 0; i < sets * WAYS; i++) page[i] = Empty;
  memset(may_be_2m, 0, sizeof may_be_2m);
  memset(may_be_larger, 0, sizeof may_be_larger);
  drop_all_gpa();
}

// "Operations that Invalidate Cached Mappings": with VPID off, VM entry and
// exit invalidate linear and combined mappings of VPID 0000H, for all PCIDs
// and all EP4TAs. "Operations that Need Not Invalidate Cached Mappings": with
// VPID on they need not, and guest-physical mappings need not go at all.
void TaggedTlb::vmx_transition(bool vpid_enabled)
{
  if (drop_at_transitions)
    reset();
  else if (! vpid_enabled)
    mov_cr_all_pcids(0);
}

// INVEPT single-context: all guest-physical and combined mappings of one
// EP4TA; combined ones for all VPIDs and PCIDs. Linear ones need not go.
void TaggedTlb::invept_single(Bit64u tag)
{
  drop_if([=](Bit64u, Bit64u e) { return e == tag; });
  for (unsigned i = 0; i < gpa_sets * GPA_WAYS; i++)
    gpa_page[i] |= gpa_ep4ta[i] == tag ? Empty : 0;
}

// INVEPT all-context: all guest-physical and combined mappings.
void TaggedTlb::invept_all(void)
{
  drop_if([](Bit64u, Bit64u e) { return e != NoEp4ta; });
  drop_all_gpa();
}

// INVVPID individual-address: linear and combined mappings of the address and
// VPID, for all PCIDs and EP4TAs, global ones included. Guest-physical
// mappings need not go, with this type or any other.
void TaggedTlb::invvpid_address(Bit16u vpid, bx_address laddr)
{
  const auto match = [=](Bit64u k) { return (k & KEY_VPID) == vpid; };

  // Of a large page it demands what would be used to translate the address.
  if (keep_fragments)
    drop_fragment_if(laddr, match);
  else
    drop_address_if(vpid, laddr, match);
}

// INVVPID single-context: all linear and combined mappings of the VPID.
void TaggedTlb::invvpid_context(Bit16u vpid)
{
  drop_if([=](Bit64u k, Bit64u) { return (k & KEY_VPID) == vpid; });
}

// INVVPID all-context: all of every VPID but 0000H.
void TaggedTlb::invvpid_all(void)
{
  drop_if([](Bit64u k, Bit64u) { return (k & KEY_VPID) != 0; });
}

// INVVPID single-context-retaining-globals.
void TaggedTlb::invvpid_context_but_globals(Bit16u vpid)
{
  drop_if([=](Bit64u k, Bit64u) { return (k & (KEY_VPID | KEY_GLOBAL)) == vpid; });
}

// The operations from here to page_fault() are of "Operations that
// Invalidate TLBs and Paging-Structure Caches" in volume 3A. In VMX non-root
// operation they act on linear and combined mappings of the current VPID, for
// combined ones on all EP4TAs, and need not act on guest-physical ones
// ("Operations that Invalidate Cached Mappings", volume 3C).

// INVPCID type 0: the address in one PCID, except global translations.
void TaggedTlb::invpcid_address(Bit16u vpid, Bit16u pcid, bx_address laddr)
{
  drop_address_if(vpid, laddr, [=](Bit64u k) {
    return (k & (KEY_VPID | KEY_PCID | KEY_GLOBAL)) == (vpid | key_pcid(pcid));
  });
}

// INVPCID type 1: one PCID, except global translations.
void TaggedTlb::invpcid_context(Bit16u vpid, Bit16u pcid)
{
  mov_cr3(vpid, pcid);
}

// INVPCID type 2: all PCIDs, with global translations.
void TaggedTlb::invpcid_all(Bit16u vpid)
{
  mov_cr_all_pcids(vpid);
}

// INVPCID type 3: all PCIDs, except global translations.
void TaggedTlb::invpcid_all_but_globals(Bit16u vpid)
{
  invvpid_context_but_globals(vpid);
}

// INVLPG: the address in the current PCID, and global translations of it
// whatever their PCID.
void TaggedTlb::invlpg(Bit16u vpid, Bit16u pcid, bx_address laddr)
{
  drop_address_if(vpid, laddr, [=](Bit64u k) {
    return (k & KEY_VPID) == vpid && ((k & KEY_GLOBAL) || (k & KEY_PCID) == key_pcid(pcid));
  });
}

// MOV to CR3 with bit 63 clear, and a task switch that changes CR3: all of the
// new PCID except global translations. With bit 63 set nothing need go, and
// the caller doesn't come here.
void TaggedTlb::mov_cr3(Bit16u vpid, Bit16u pcid)
{
  drop_if([=](Bit64u k, Bit64u) {
    return (k & (KEY_VPID | KEY_PCID | KEY_GLOBAL)) == (vpid | key_pcid(pcid));
  });
}

// MOV to CR0 that clears PG; MOV to CR4 that changes PGE or clears PCIDE: all
// PCIDs, with global translations.
void TaggedTlb::mov_cr_all_pcids(Bit16u vpid)
{
  drop_if([=](Bit64u k, Bit64u) { return (k & KEY_VPID) == vpid; });
}

// MOV to CR4 that changes PAE or sets SMEP: all translations of the current
// PCID; a global one is of every PCID.
void TaggedTlb::mov_cr4_one_pcid(Bit16u vpid, Bit16u pcid)
{
  drop_if([=](Bit64u k, Bit64u) {
    return (k & KEY_VPID) == vpid && ((k & KEY_GLOBAL) || (k & KEY_PCID) == key_pcid(pcid));
  });
}

// Page faults invalidate translations of the address in the current PCID, so
// that the fault doesn't come back if the tables allow the access by then.
void TaggedTlb::page_fault(Bit16u vpid, Bit16u pcid, bx_address laddr)
{
  invlpg(vpid, pcid, laddr);
}

// "Operations that Invalidate Cached Mappings": an EPT violation invalidates
// guest-physical mappings of the current EP4TA that would be used for the
// guest-physical address, and if that was the translation of a linear address,
// combined mappings for it of the current VPID, PCID and EP4TA.
void TaggedTlb::ept_violation(const TlbContext &ctx, bx_phy_address gpa,
                              bool is_translation, bx_address laddr)
{
  forget_gpa(ctx.ep4ta, gpa);
  if (! is_translation) return;

  const unsigned first = set_of(laddr >> 12) * WAYS;
  const Bit64u want = ctx.vpid | key_pcid(ctx.pcid);

  for (unsigned i = first; i < first + WAYS; i++) {
    Bit64u mask = KEY_VPID | ((key[i] & KEY_GLOBAL) ? 0 : KEY_PCID);
    if (page[i] == laddr >> 12 && ep4ta[i] == ctx.ep4ta && ! ((key[i] ^ want) & mask))
      page[i] = Empty;
  }
}
