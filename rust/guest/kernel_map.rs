// SPDX-License-Identifier: GPL-2.0
//! The linear ranges: direct map and kernel image, by the pages that they are really mapped with.
//!
//! The kernel splits large pages of the direct map when it changes the attributes of a part, and
//! says so to nobody.  So the tables are read again every now and then ([`RECHECK_MS`]): in
//! between the host may take a page for larger than it is mapped.  Tables are only freed when
//! memory is unplugged.

use crate::shim::{self, relax, Area, Page};
use gvahint_core::addr::MapSize;
use gvahint_core::reporter::linear::Ranges;

/// How often to look.
pub(crate) const RECHECK_MS: u64 = 10_000;

/// After so many pages or holes others get the CPU.
const STRETCH: u32 = 1_024;

/// Writes all ranges to `page`, at most `max` of them.  Returns the words that they take; `None`
/// if they do not fit.  Sleeps.
pub(crate) fn read(page: &mut Page, max: usize) -> Option<usize> {
    let mut ranges = Ranges::new(page.words_mut(), max);
    for area in [Area::DirectMap, Area::KernelImage] {
        let (mut gva, end) = shim::area(area);
        let mut stretch = STRETCH;
        while gva < end {
            let mapping = shim::mapping(gva);
            let start = gva & !mapping.size.wrapping_sub(1);
            if let (Some(gpa), Some(size)) = (mapping.gpa, MapSize::from_bytes(mapping.size)) {
                if !ranges.add(gpa, start, size) {
                    return None;
                }
            }
            // The last hole may end where addresses do.
            let Some(next) = start.checked_add(mapping.size.max(1)) else {
                break;
            };
            gva = next;
            stretch = stretch.wrapping_sub(1);
            if stretch == 0 {
                stretch = STRETCH;
                relax();
            }
        }
    }
    Some(ranges.len_words())
}
