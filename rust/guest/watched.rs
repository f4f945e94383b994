// SPDX-License-Identifier: GPL-2.0
//! The bits of all pages, which the kernel clears while it is asked to tell of changes.
//!
//! Contracts discharged: shim.h; linux/gva_hint.h, "struct gva_hint_ops".

use crate::bindings;
use crate::shim::{kick, nr_pfns, zeroed};
use core::sync::atomic::{AtomicU32, AtomicU64};
use gvahint_core::cast;
use gvahint_core::reporter::watch::{dirty_words_for, words_for, Watch};
use kernel::error::to_result;
use kernel::ffi::{c_ulong, c_void};
use kernel::prelude::*;

/// The bits of pages below `pfns`: see [`Watch`].
struct Bits {
    pfns: u64,
    maps: [KVVec<AtomicU64>; 4],
    dirty: KVVec<AtomicU64>,
    kicked: AtomicU32,
}

impl Bits {
    /// All zero.  Sleeps.
    fn new(pfns: u64) -> Result<KBox<Self>> {
        let words = cast::usize_from_u64(words_for(pfns));
        let bits = Self {
            pfns,
            maps: [
                zeroed(words)?,
                zeroed(words)?,
                zeroed(words)?,
                zeroed(words)?,
            ],
            dirty: zeroed(cast::usize_from_u64(dirty_words_for(pfns)))?,
            kicked: AtomicU32::new(0),
        };
        Ok(KBox::new(bits, GFP_KERNEL)?)
    }

    fn watch(&self) -> Watch<'_> {
        let maps = self.maps.each_ref().map(|map| &map[..]);
        Watch::new(maps, &self.dirty, &self.kicked)
    }
}

/// The bits, and whether the kernel knows of them.
///
/// # Invariants
///
/// While `active`, the kernel has pointers to `bits`, which is not replaced.
pub(crate) struct Watched {
    bits: KBox<Bits>,
    active: bool,
    /// What [`nr_pfns`] was when bits were made; more than there are if memory was short.
    seen: u64,
}

impl Watched {
    /// For the memory that there is now.  Sleeps.
    pub(crate) fn new() -> Result<Self> {
        let seen = nr_pfns();
        let bits = Bits::new(seen)?;
        // INVARIANT: not active.
        Ok(Self {
            bits,
            active: false,
            seen,
        })
    }

    /// Pages that there are bits for.
    pub(crate) fn pfns(&self) -> u64 {
        self.bits.pfns
    }

    /// The bits.
    pub(crate) fn watch(&self) -> Watch<'_> {
        self.bits.watch()
    }

    /// Whether memory was plugged in behind that which was there at the last [`Self::grow`].
    pub(crate) fn is_outgrown(&self) -> bool {
        nr_pfns() > self.seen
    }

    /// Makes room for memory that was plugged in, so that there are `pfns` pages: all bits are zero then,
    /// and nobody tells.  If there is no memory for that, what was plugged in is not reported.  Sleeps.
    pub(crate) fn grow(&mut self, pfns: u64) {
        if pfns <= self.seen {
            return;
        }
        self.stop();
        self.seen = pfns;
        match Bits::new(pfns) {
            // Not active: nobody points to the old ones.
            Ok(bits) => self.bits = bits,
            Err(_) => pr_warn!("no memory to watch what was plugged in: it is not reported\n"),
        }
    }

    /// Has the kernel tell of changes.  Sleeps.
    pub(crate) fn start(&mut self) -> Result {
        if self.active {
            return Ok(());
        }
        let bits: &Bits = &self.bits;
        let [hinted, no_table, _, _] = bits
            .maps
            .each_ref()
            .map(|map| map.as_ptr().cast_mut().cast::<u64>());
        let data = core::ptr::from_ref(bits).cast_mut().cast::<c_void>();
        // SAFETY: the maps have that many bits; they and `bits` are good until `stop`, by the invariant;
        // `stale` keeps shim.h's contract.
        to_result(unsafe {
            bindings::gvahint_watch_start(hinted, no_table, bits.pfns, data, Some(stale))
        })?;
        // INVARIANT: from now on.
        self.active = true;
        Ok(())
    }

    /// Waits until nobody tells any more.  Sleeps.
    pub(crate) fn stop(&mut self) {
        if self.active {
            // SAFETY: by the invariant started; called by the thread, which sleeps anyway.
            unsafe { bindings::gvahint_watch_stop() };
        }
        // INVARIANT: nobody has pointers any more.
        self.active = false;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop();
    }
}

/// # Safety
///
/// The watch's alone to call, with what [`Watched::start`] gave it.
unsafe extern "C" fn stale(data: *mut c_void, pfn: c_ulong, nr: c_ulong) {
    // SAFETY: `Watched::start` gave it, and it lives until `stop` has returned.
    let Some(bits) = (unsafe { data.cast::<Bits>().as_ref() }) else {
        return;
    };
    let (pfn, nr) = (cast::u64_from_usize(pfn), cast::u64_from_usize(nr));
    if bits.watch().stale(pfn, nr) {
        kick();
    }
}
