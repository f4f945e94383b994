// SPDX-License-Identifier: GPL-2.0
//! The linear ranges: direct map and kernel image, by the pages that they are really mapped with.
//!
//! The kernel splits large pages of the direct map when it changes the attributes of a part, and
//! counts that, but says so to nobody.  So the tables are read again soon after one was seen to be,
//! and every now and then ([`RECHECK_MS`]): in between the host may take a page for larger than it
//! is mapped.  Tables are only freed when memory is unplugged, which [`OnlineMemory`] holds up.

use crate::shim::{area, relax, Area, OnlineMemory, Page};
use gvahint_core::addr::MapSize;
use gvahint_core::reporter::linear::Ranges;

/// How often to look.
pub(crate) const RECHECK_MS: u64 = 10_000;

/// How soon once memory was plugged in or out, where block follows block, or a page was split.
pub(crate) const SETTLE_MS: u64 = 1_000;

/// After so many pages or holes others get the CPU.
const STRETCH: u32 = 1_024;

/// Writes all ranges to `page`, at most `max` of them.  Returns the words that they take; `None`
/// if they do not fit.  Sleeps.
pub(crate) fn read(page: &mut Page, max: usize) -> Option<usize> {
    let mut ranges = Ranges::new(page.words_mut(), max);
    for which in [Area::DirectMap, Area::KernelImage] {
        let (mut gva, end) = area(which);
        while gva < end {
            gva = read_stretch(gva, end, &mut ranges)?;
            relax();
        }
    }
    Some(ranges.len_words())
}

/// Reads on from `gva`.  Returns where to go on; `None` if the ranges do not fit.
fn read_stretch(mut gva: u64, end: u64, ranges: &mut Ranges<'_>) -> Option<u64> {
    let memory = OnlineMemory::lock();
    for _ in 0..STRETCH {
        if gva >= end {
            break;
        }
        let mapping = memory.mapping(gva);
        let start = gva & !mapping.size.wrapping_sub(1);
        if let (Some(gpa), Some(size)) = (mapping.gpa, MapSize::from_bytes(mapping.size)) {
            if !ranges.add(gpa, start, size) {
                return None;
            }
        }
        // The last hole may end where addresses do.
        gva = start.checked_add(mapping.size.max(1)).unwrap_or(end);
    }
    Some(gva)
}
