// SPDX-License-Identifier: GPL-2.0

//! What a reporter writes is what the host reads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arithmetic_side_effects
)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

use gvahint_core::addr::VaBits;
use gvahint_core::report::{Kind, Limits, Sets};
use gvahint_core::reporter::batch::{Batch, Header};
use proptest::prelude::*;

const KINDS: [Kind; 5] = [
    Kind::Mapped,
    Kind::KernelOnly,
    Kind::PageTable,
    Kind::TooMany,
    Kind::Revoked,
];
const LIMITS: Limits = Limits {
    bits: VaBits::Bits48,
    max_gfn: 1 << 40,
};

type Told = (u64, u32, Kind, Vec<u64>);

/// Sets as a reporter may say them.
fn sets() -> impl Strategy<Value = Vec<Told>> {
    let set = (
        0u64..1 << 20,
        0u32..=18,
        0usize..5,
        prop::collection::vec(
            (1u64..(1 << 17) - 1, prop::sample::select(vec![0u64, 9, 18])),
            1..8,
        ),
    );
    prop::collection::vec(
        set.prop_map(|(gfn, order, kind, gvas)| {
            let kind = KINDS[kind];
            let gvas = gvas.iter().map(|(gva, map)| gva << 30 | map);
            let gvas = gvas.filter(|_| kind == Kind::Mapped).collect();
            (gfn << order & ((1 << 40) - 1), order, kind, gvas)
        }),
        0..40,
    )
}

/// What the host's parser makes of the words.
fn parse(words: &[u64]) -> Vec<Told> {
    let mut rest = words;
    let mut found = Vec::new();
    // The parser stops after many frames, as the host does: the guest resends.
    while !rest.is_empty() {
        let mut sets = Sets::new(rest, LIMITS);
        let set = sets.next(&mut |_, _| true).unwrap().expect("a good set");
        let gvas: Vec<u64> = set
            .gvas()
            .map(|(gva, size)| gva.raw() | u64::from(size.order()))
            .collect();
        rest = &rest[1 + gvas.len()..];
        found.push((set.gfn().raw(), set.order(), set.kind(), gvas));
    }
    found
}

fn push(batch: &mut Batch, words: &mut [u64], told: &Told) -> bool {
    let (gfn, order, kind, gvas) = told;
    let (gfn, order, kind) = (*gfn, *order, *kind);
    batch.push(words, Header { gfn, order, kind }, gvas)
}

proptest! {
    // Fails if a field is shifted or cut wrongly, a gVA lost, or a set pushed half.
    #[test]
    fn encoded_parses_back(sets in sets(), room in 1usize..200) {
        let mut words = vec![u64::MAX; room];
        let mut batch = Batch::new();
        let mut pushed = Vec::new();
        for set in &sets {
            let fits = batch.len() + 1 + set.3.len() <= room;
            prop_assert_eq!(push(&mut batch, &mut words, set), fits);
            if fits {
                pushed.push(set.clone());
            }
        }
        prop_assert_eq!(parse(&words[..batch.len()]), pushed);
        prop_assert!(words[batch.len()..].iter().all(|word| *word == u64::MAX));
    }

    // Fails if a resent batch starts elsewhere than behind what the host took.
    #[test]
    fn what_was_sent_is_gone(sets in sets(), sent in 0u64..50) {
        let mut words = vec![0; 512];
        let mut batch = Batch::new();
        for set in &sets {
            prop_assert!(push(&mut batch, &mut words, set));
        }
        batch.sent(&mut words, sent);
        let left = sets.get(sent as usize..).unwrap_or_default();
        prop_assert_eq!(parse(&words[..batch.len()]), left);
        prop_assert_eq!(batch.is_empty(), left.is_empty());
    }

    // Fails if a set that the host has no room for leaves an older hint behind, or is sent for ever;
    // or if a revocation that did not arrive is taken for one that did.
    #[test]
    fn without_room_everything_is_revoked(sets in sets()) {
        let mut words = vec![0; 512];
        let mut batch = Batch::new();
        for set in &sets {
            prop_assert!(push(&mut batch, &mut words, set));
        }
        let arrived = batch.refused(&mut words, true);
        let found = parse(&words[..batch.len()]);
        prop_assert_eq!(arrived, sets.first().is_none_or(|set| set.2 != Kind::Revoked));
        if !arrived {
            prop_assert_eq!(found, sets);
        } else {
            let revoked: Vec<Told> =
                sets.iter().map(|set| (set.0, set.1, Kind::Revoked, vec![])).collect();
            prop_assert_eq!(found, revoked);
        }
    }
}

// Fails if one bad set takes others along.
#[test]
fn a_refused_set_is_skipped() {
    let mut words = [0; 16];
    let mut batch = Batch::new();
    let first = (1, 0, Kind::Mapped, vec![0x1000, 0x2000]);
    let second = (2, 0, Kind::Mapped, vec![0x3000]);
    assert!(push(&mut batch, &mut words, &first));
    assert!(push(&mut batch, &mut words, &second));
    assert!(batch.refused(&mut words, false));
    assert_eq!(parse(&words[..batch.len()]), [second]);
    batch.clear();
    assert!(batch.is_empty());
}
