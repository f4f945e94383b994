// SPDX-License-Identifier: GPL-2.0
//! Safe wrappers over shim.c and gva_hint.h.
//!
//! Contracts discharged: shim.h; linux/gva_hint.h, "gva_hint_walk", "gva_hint_drain" and "struct
//! gva_hint_ops".

use crate::bindings;
use core::sync::atomic::AtomicU64;
use gvahint_core::cast;
use gvahint_core::report::Kind;
use gvahint_core::reporter::pages::{Answer, Found, Rmap};
use gvahint_core::reporter::stats::Stat;
use kernel::error::to_result;
use kernel::ffi::c_void;
use kernel::prelude::*;

/// Whether there may be a host to report to.
pub(crate) fn check_platform() -> Result {
    // SAFETY: shim.h: callable anywhere.
    to_result(unsafe { bindings::gvahint_platform() })
}

/// Coarse monotonic time in milliseconds; callable anywhere.
pub(crate) fn now_ms() -> u64 {
    // SAFETY: shim.h: callable anywhere.
    unsafe { bindings::gvahint_now_ms() }
}

/// Lets others run.  Sleeps.
pub(crate) fn relax() {
    // SAFETY: shim.h: in task context with no lock that spins; callers of this sleep anyway.
    unsafe { bindings::gvahint_cond_resched() };
}

/// First page frame that the kernel has no memory for, as of now.
pub(crate) fn nr_pfns() -> u64 {
    // SAFETY: shim.h: callable anywhere.
    unsafe { bindings::gvahint_nr_pfns() }
}

/// The largest piece of memory that kvmalloc() gives.
const MAX_BYTES: usize = 0x7fff_ffff;

/// `len` words of zero.  Sleeps.
pub(crate) fn zeroed(len: usize) -> Result<KVVec<AtomicU64>> {
    match len.checked_mul(core::mem::size_of::<AtomicU64>()) {
        Some(bytes) if bytes <= MAX_BYTES => (),
        _ => return Err(E2BIG),
    }
    let mut words = KVVec::with_capacity(len, GFP_KERNEL | __GFP_ZERO)?;
    // SAFETY: the capacity is at least `len`, and the memory is zeroed, which is a valid AtomicU64.
    unsafe { words.set_len(len) };
    Ok(words)
}

/// Words in a page.
const PAGE_WORDS: usize = 512;

/// A buffer for the host.
///
/// # Invariants
///
/// [`PAGE_WORDS`] words by kmalloc(), which aligns a power of two by itself: one page of the direct
/// map.
pub(crate) struct Page(KVec<u64>);

impl Page {
    /// A zeroed one.  Sleeps.
    pub(crate) fn new() -> Result<Self> {
        // INVARIANT: that many words, and a KVec is kmalloc()'s.
        Ok(Self(KVec::from_elem(0, PAGE_WORDS, GFP_KERNEL)?))
    }

    /// Its words.
    pub(crate) fn words(&self) -> &[u64] {
        &self.0
    }

    /// Its words.
    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }
}

/// Calls the host, with the first `words` words of the page.
pub(crate) fn call(op: u64, a1: u64, page: &mut Page, words: usize) -> i64 {
    let words = words.min(PAGE_WORDS);
    let bytes = cast::low_u32(cast::u64_from_usize(words)).wrapping_mul(8);
    let buffer = if words == 0 {
        core::ptr::null_mut()
    } else {
        page.0.as_mut_ptr()
    };
    // SAFETY: by the invariant of `Page` within one page of the direct map; ours alone, because we
    // have it exclusively.
    unsafe { bindings::gvahint_call(op, a1, buffer, bytes) }
}

/// A page that only canaries touch, under one address.
///
/// # Invariants
///
/// [`PAGE_WORDS`] words by vmalloc(): a page, which nothing but this reaches.
pub(crate) struct CanaryPage(VVec<u64>);

impl CanaryPage {
    /// One.  Sleeps.
    pub(crate) fn new() -> Result<Self> {
        // INVARIANT: that many words, and a VVec is vmalloc()'s.
        Ok(Self(VVec::from_elem(0, PAGE_WORDS, GFP_KERNEL)?))
    }

    /// Makes both steps of a canary, with these two numbers.  Returns the host's answers; there is
    /// none to the second step if the first failed.
    pub(crate) fn ask(&mut self, a1: (u64, u64), page: &mut Page) -> (i64, Option<i64>) {
        let (mut clear, mut test) = (0, 0);
        let at = self.0.as_ptr();
        let buffer = page.0.as_mut_ptr();
        // SAFETY: `at` is a page of vmalloc()'s by our invariant; `buffer` is one of the direct map by
        // that of `Page`, and ours alone; the answers are good for the call.
        let both =
            unsafe { bindings::gvahint_canary(at, a1.0, a1.1, buffer, &mut clear, &mut test) };
        (clear, both.then_some(test))
    }
}

/// Memory that the kernel maps by arithmetic.
#[derive(Clone, Copy)]
pub(crate) enum Area {
    /// All memory.
    DirectMap,
    /// The kernel's text and data.
    KernelImage,
}

/// Where an area starts and ends, as of now.
pub(crate) fn area(area: Area) -> (u64, u64) {
    let which = match area {
        Area::DirectMap => bindings::GVAHINT_AREA_DIRECT_MAP,
        Area::KernelImage => bindings::GVAHINT_AREA_KERNEL_IMAGE,
    };
    let (mut start, mut end) = (0, 0);
    // SAFETY: both pointers are good for the call.
    unsafe { bindings::gvahint_area(which, &mut start, &mut end) };
    (start, end)
}

/// What is mapped at an address.
pub(crate) struct Mapping {
    /// Where the page starts; `None`: nothing is mapped.
    pub(crate) gpa: Option<u64>,
    /// Size of the page, or of the hole.
    pub(crate) size: u64,
}

/// As long as this lives, memory that is online stays so: neither the tables that map it nor its
/// struct pages go.
///
/// # Invariants
///
/// We hold the lock.
pub(crate) struct OnlineMemory(());

impl OnlineMemory {
    /// Takes the lock; not twice at a time.  Sleeps.
    pub(crate) fn lock() -> Self {
        // SAFETY: shim.h: may sleep, as our callers may.
        unsafe { bindings::gvahint_memory_lock() };
        // INVARIANT: we do.
        Self(())
    }

    /// What the kernel maps at `gva`, an address of an [`area`].
    pub(crate) fn mapping(&self, gva: u64) -> Mapping {
        let (mut gpa, mut size) = (0, 0);
        // SAFETY: we hold the lock; both pointers are good for the call.
        let mapped = unsafe { bindings::gvahint_mapping(gva, &mut gpa, &mut size) };
        Mapping {
            gpa: mapped.then_some(gpa),
            size,
        }
    }
}

impl Drop for OnlineMemory {
    fn drop(&mut self) {
        // SAFETY: by the invariant.
        unsafe { bindings::gvahint_memory_unlock() };
    }
}

/// Whether memory has gone online or offline since the last call.
pub(crate) fn memory_changed() -> bool {
    // SAFETY: shim.h: callable anywhere.
    unsafe { bindings::gvahint_memory_changed() }
}

/// How many large pages of the direct map were split since the boot.
pub(crate) fn direct_map_splits() -> u64 {
    // SAFETY: shim.h: callable anywhere.
    unsafe { bindings::gvahint_direct_map_splits() }
}

/// The kernel's reverse mapping.
pub(crate) struct KernelRmap;

impl Rmap for KernelRmap {
    fn walk(&mut self, pfn: u64) -> Found {
        let mut set = bindings::gva_hint_set::default();
        // SAFETY: gva_hint.h: may sleep, as our callers may; takes any number; `set` is good for
        // the call.
        unsafe { bindings::gva_hint_walk(cast::usize_from_u64(pfn), &mut set) };
        let answer = match set.kind {
            bindings::GVA_HINT_BUSY => Answer::Busy,
            bindings::GVA_HINT_MAPPED => Answer::Known(Kind::Mapped),
            bindings::GVA_HINT_KERNEL_ONLY => Answer::Known(Kind::KernelOnly),
            bindings::GVA_HINT_PAGE_TABLE => Answer::Known(Kind::PageTable),
            bindings::GVA_HINT_TOO_MANY => Answer::Known(Kind::TooMany),
            bindings::GVA_HINT_ANYWHERE => Answer::Anywhere(anywhere(set.reason)),
            _ => Answer::Unknown(unknown(set.reason)),
        };
        let mut found = Found::new(answer, set.order);
        if set.kind == bindings::GVA_HINT_MAPPED {
            let maps = set.map.get(..cast::usize_from_u32(set.nr));
            for map in maps.unwrap_or(&set.map) {
                found.push(cast::u64_from_usize(map.gva), map.order);
            }
        }
        found
    }
}

/// Makes free pages known that wait in a CPU's list.  Sleeps.
pub(crate) fn drain() {
    // SAFETY: gva_hint.h: may sleep, as our callers may.
    unsafe { bindings::gva_hint_drain() };
}

/// What counts a page that nothing is said of.
fn unknown(reason: bindings::gva_hint_reason) -> Stat {
    match reason {
        bindings::GVA_HINT_R_OFFLINE => Stat::UnknownOffline,
        bindings::GVA_HINT_R_RESERVED => Stat::UnknownReserved,
        bindings::GVA_HINT_R_FREE => Stat::UnknownFree,
        _ => Stat::UnknownOther,
    }
}

/// What counts a page of which it is said that it is no page table.
fn anywhere(reason: bindings::gva_hint_reason) -> Stat {
    match reason {
        bindings::GVA_HINT_R_RESERVED => Stat::AnywhereReserved,
        bindings::GVA_HINT_R_FREE => Stat::AnywhereFree,
        bindings::GVA_HINT_R_REFS => Stat::AnywhereRefs,
        bindings::GVA_HINT_R_MAPCOUNT => Stat::AnywhereMapcount,
        bindings::GVA_HINT_R_DEVICE => Stat::AnywhereDevice,
        _ => Stat::AnywhereOther,
    }
}

/// Wakes the thread up; callable anywhere, with any lock held.
pub(crate) fn kick() {
    // SAFETY: shim.h: callable anywhere; nobody who calls it outlives the thread.
    unsafe { bindings::gvahint_kick() };
}

/// The reporter's thread.
///
/// # Invariants
///
/// It was started and not stopped.
pub(crate) struct Thread(());

impl Thread {
    /// Starts it.  Sleeps.
    ///
    /// # Safety
    ///
    /// `data` must be good for `run` as long as this lives.  `run` has to return when
    /// [`Sleeper::should_stop`] says so.  At most one thread at a time.
    pub(crate) unsafe fn start(
        data: *mut c_void,
        run: unsafe extern "C" fn(*mut c_void),
    ) -> Result<Self> {
        // SAFETY: shim.h asks for nothing but what our caller guarantees.
        to_result(unsafe { bindings::gvahint_thread_start(data, Some(run)) })?;
        // INVARIANT: just started.
        Ok(Self(()))
    }
}

impl Drop for Thread {
    /// Waits until it has ended.  Sleeps.
    fn drop(&mut self) {
        // SAFETY: by the invariant there is one; who kicks is gone: see `crate::ffi::Running`.
        unsafe { bindings::gvahint_thread_stop() };
    }
}

/// For the thread itself: how it sleeps.
pub(crate) struct Sleeper(());

impl Sleeper {
    /// # Safety
    ///
    /// Only in the function that [`Thread::start`] got.
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }

    /// Sleeps for so long, or until the thread shall stop.
    pub(crate) fn pause(&self, ms: u64) {
        // SAFETY: shim.h: in the thread, by the contract of `new`.
        unsafe { bindings::gvahint_pause(ms) };
    }

    /// The same, or until kicked.
    pub(crate) fn wait(&self, ms: u64) {
        // SAFETY: shim.h: in the thread, by the contract of `new`.
        unsafe { bindings::gvahint_wait(ms) };
    }

    /// How many pages the kernel has looked at to take memory back.  Sleeps.
    pub(crate) fn scanned(&self) -> u64 {
        // SAFETY: shim.h: in the thread, by the contract of `new`.
        unsafe { bindings::gvahint_scanned() }
    }

    /// Whether the thread shall stop.
    pub(crate) fn should_stop(&self) -> bool {
        // SAFETY: shim.h: in the thread, by the contract of `new`.
        unsafe { bindings::gvahint_should_stop() }
    }
}
