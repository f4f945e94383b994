// SPDX-License-Identifier: GPL-2.0

//! All that the host wants is looked at, a bounded number of pages at a time.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

use gvahint_core::reporter::asked::Asked;
use gvahint_core::reporter::pages::wanted_range;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Leaves of the host's, by frame and order.
fn leaves() -> impl Strategy<Value = Vec<u64>> {
    let leaf = (0..64u64, prop_oneof![Just(0u64), Just(3), Just(6)]);
    proptest::collection::vec(
        leaf.prop_map(|(at, order)| (at << order) | order << 40),
        0..20,
    )
}

proptest! {
    // Fails if a page is left out that the host was not told of, or a step is larger than it may be or none.
    #[test]
    fn everything_is_looked_at(words in leaves(), most in 1..100u64, larger in 0..8u32) {
        let mut asked = Asked::default();
        asked.begin(words.len());
        let mut seen = BTreeSet::new();
        while let Some(range) = asked.next(&words, most) {
            prop_assert!(range.start < range.end && range.end - range.start <= most);
            // The last page is one of a larger whole, of which the host is told.
            let last = range.end - 1;
            let said = (last >> larger) << larger..((last >> larger) + 1) << larger;
            seen.extend(range);
            seen.extend(said.clone());
            asked.looked(said.end, said);
        }
        prop_assert!(asked.is_done());
        let wanted = words.iter().map(|word| wanted_range(*word));
        prop_assert!(wanted.flat_map(|(pfn, end)| pfn..end).all(|pfn| seen.contains(&pfn)));
    }
}
