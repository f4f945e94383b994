// SPDX-License-Identifier: GPL-2.0
//
// Between the two levels of the gvahint test machine's TLB: the context that
// the CPU is in, a first-level entry made from the second level, and what a
// walk has found kept in it. tagged_tlb.h says what the second level is.

#define NEED_CPU_REG_SHORTCUTS 1
#include "bochs.h"
#include "cpu.h"
#define LOG_THIS BX_CPU_THIS_PTR

// Control bits that are folded into the access bits of a translation, or that
// change how it is found. No architectural event drops mappings when one of
// these changes (but for those with a scope of their own above): as tags they
// keep a mapping from being used under other rules.
static const Bit32u MODE_CR0 = 0x80010000;  // PG, WP
static const Bit32u MODE_CR4 = 0x09f010b0;  // LASS, PKS, CET, PKE, SMAP, SMEP, LA57, PGE, PAE, PSE
static const Bit32u MODE_EFER = 0x00000d00; // NXE, LMA, LME

TlbContext BX_CPU_C::tlb_context(void)
{
  TlbContext ctx;

  ctx.vpid = 0;
  ctx.pcid = BX_CPU_THIS_PTR cr4.get_PCIDE() ? (Bit16u) (BX_CPU_THIS_PTR cr3 & 0xfff) : 0;
  ctx.mode = (BX_CPU_THIS_PTR cr0.get32() & MODE_CR0) | (BX_CPU_THIS_PTR cr4.get32() & MODE_CR4) |
             (BX_CPU_THIS_PTR efer.get32() & MODE_EFER);
  ctx.ep4ta = TaggedTlb::NoEp4ta;
#if BX_SUPPORT_VMX >= 2
  if (BX_CPU_THIS_PTR in_vmx_guest) {
    const VMCS_CACHE &vm = BX_CPU_THIS_PTR vmcs;
    if (vm.vmexec_ctrls2.VPID_ENABLE()) ctx.vpid = vm.vpid;
    if (vm.vmexec_ctrls2.EPT_ENABLE()) ctx.ep4ta = vm.eptptr & BX_CONST64(0x000ffffffffff000);
  }
#endif
  return ctx;
}

// Fills a first-level entry from the second level, if that has a translation
// that allows the access. One that doesn't is forgotten, and a walk follows:
// so a write sets the D-bits, and a fault is reported from the tables.
bool BX_CPU_C::tagged_tlb_refill(bx_TLB_entry *entry, bx_address laddr, unsigned user, unsigned rw)
{
  const TlbContext ctx = tlb_context();
  const bool execute = rw == BX_EXECUTE;
  TlbTranslation *t = BX_CPU_THIS_PTR tagged_tlb.find(ctx, laddr, execute);

  if (t) {
    const unsigned write = rw & 1, shadow_stack = rw & 4;
    Bit32u need = 1 << user;
    if (! execute) {
      need = 1 << (shadow_stack | (write << 1) | user);
#if BX_SUPPORT_PKEYS
      need &= write ? BX_CPU_THIS_PTR wr_pkey[t->pkey] : BX_CPU_THIS_PTR rd_pkey[t->pkey];
#endif
    }
    if (! (t->access & need)) {
      BX_CPU_THIS_PTR tagged_tlb.forget(ctx, laddr, execute);
      t = NULL;
    }
  }
  if (! t) return false;

  entry->lpf = LPFOf(laddr) | TLB_NoHostPtr;
  entry->lpf_mask = t->lpf_mask;
  entry->ppf = t->ppf;
  entry->accessBits = t->access;
#if BX_SUPPORT_PKEYS
  entry->pkey = t->pkey;
#endif
#if BX_SUPPORT_MEMTYPE
  entry->memtype = resolve_memtype(memtype_by_mtrr(t->ppf), (BxMemtype) t->memtype);
#endif
  if (t->lpf_mask > 0xfff)
    (execute ? BX_CPU_THIS_PTR ITLB.split_large : BX_CPU_THIS_PTR DTLB.split_large) = true;

  entry->hostPageAddr = BX_CPU_THIS_PTR getHostMemAddr(t->ppf, rw);
  if (entry->hostPageAddr) {
#if BX_X86_DEBUGGER
    if (! hwbreakpoint_check(laddr, BX_HWDebugMemW, BX_HWDebugMemRW))
#endif
      entry->lpf = LPFOf(laddr);
  }
  return true;
}

// Remembers what a walk has found. The mapping that makes room leaves the
// first level too, or it would outlive its place in the second.
void BX_CPU_C::tagged_tlb_insert(const bx_TLB_entry *entry, bx_address laddr, unsigned rw, BxMemtype memtype)
{
  TlbTranslation t;

  t.ppf = entry->ppf;
  t.access = entry->accessBits;
#if BX_SUPPORT_PKEYS
  t.pkey = entry->pkey;
#else
  t.pkey = 0;
#endif
  t.lpf_mask = entry->lpf_mask;
  t.memtype = memtype;

  const TlbVictim victim = BX_CPU_THIS_PTR tagged_tlb.insert(tlb_context(), laddr, rw == BX_EXECUTE, t);
  if (! victim.valid) return;

  bx_TLB_entry *old = victim.exec ? BX_ITLB_ENTRY_OF(victim.laddr) : BX_DTLB_ENTRY_OF(victim.laddr, 0);
  if (old != entry && LPFOf(old->lpf) == victim.laddr) {
    old->invalidate();
    invalidate_stack_cache();
  }
}
