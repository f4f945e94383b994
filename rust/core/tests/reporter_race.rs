// SPDX-License-Identifier: GPL-2.0

//! A reporter against a kernel whose pages change at the worst moments: whatever the host
//! believes is true once the revocations are sent.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

mod pages;

use gvahint_core::report::Kind;
use gvahint_core::reporter::pages::Answer;
use gvahint_core::reporter::stats::Stat;
use pages::{Bits, Host, Kernel, Race, DATA, HINTED, HUGE, PAGES};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Act {
    LookAt(u64, u32, Race),
    Odd(u64, Answer),
    Change(u64),
    Table(u64),
    Split,
    Merge,
    Revoke,
}

fn act() -> impl Strategy<Value = Act> {
    // Few pages, so that things meet; of the large page, of both words of dirty, the last one.
    let pfn = || prop::sample::select(vec![0u64, 5, 63, 64, 511, 512, 513, 4095, 4096, 8999]);
    let race = prop_oneof![
        Just(Race::Nothing),
        pfn().prop_map(Race::Change),
        pfn().prop_map(Race::Table),
        Just(Race::Split)
    ];
    let odd = prop::sample::select(vec![
        Answer::Busy,
        Answer::Unknown(Stat::UnknownFree),
        Answer::Anywhere(Stat::AnywhereRefs),
        Answer::Known(Kind::KernelOnly),
        Answer::Known(Kind::TooMany),
    ]);
    prop_oneof![
        6 => (pfn(), 0u32..2, race).prop_map(|(pfn, at, race)| Act::LookAt(pfn, at, race)),
        2 => (pfn(), odd).prop_map(|(pfn, odd)| Act::Odd(pfn, odd)),
        3 => pfn().prop_map(Act::Change),
        1 => pfn().prop_map(Act::Table),
        1 => Just(Act::Split),
        1 => Just(Act::Merge),
        1 => Just(Act::Revoke),
    ]
}

proptest! {
    // Fails if a bit is set after the walk, not tested again, not set for all of a range, lost when
    // a page that is to be revoked is looked at, or left set for what was not said; or if a page is
    // taken for no page table because it once was none.
    #[test]
    fn what_the_host_believes_is_true(acts in prop::collection::vec(act(), 1..60)) {
        let bits = Bits::new();
        let mut kernel = Kernel::new(&bits);
        let mut host = Host::default();
        for act in acts {
            match act {
                Act::LookAt(pfn, at, race) => {
                    kernel.race = (at, race);
                    host.look_at(&bits, &mut kernel, pfn);
                    kernel.race = (0, Race::Nothing);
                }
                Act::Odd(pfn, odd) => {
                    kernel.odd = Some(odd);
                    host.look_at(&bits, &mut kernel, pfn);
                    kernel.odd = None;
                }
                Act::Change(pfn) => kernel.change(pfn),
                Act::Table(pfn) => kernel.become_table(pfn),
                Act::Split => kernel.split(),
                Act::Merge => {
                    kernel.stale(0, HUGE);
                    kernel.huge = true;
                    kernel.tables.retain(|pfn| *pfn >= HUGE);
                    let version = kernel.versions[0];
                    kernel.versions[..HUGE as usize].fill(version);
                }
                Act::Revoke => {
                    host.revoke(&bits);
                }
            }
        }
        host.revoke(&bits);
        for pfn in 0..PAGES {
            let Some(kind) = host.kind(pfn) else {
                continue;
            };
            let table = kind == Kind::PageTable;
            prop_assert_eq!(table, kernel.tables.contains(&pfn), "page {}", pfn);
            let anywhere = matches!(kind, Kind::Anywhere | Kind::TooMany);
            let map = if anywhere { DATA } else { HINTED };
            prop_assert!(bits.is_set(map, pfn), "page {} is believed and not watched", pfn);
            if let Some(gva) = host.believes(pfn) {
                prop_assert_eq!(gva, kernel.gva(pfn), "page {}", pfn);
            }
        }
        // Whoever is not known any more is not revoked again.
        prop_assert_eq!(host.revoke(&bits), 0);
    }
}
