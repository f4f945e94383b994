// SPDX-License-Identifier: GPL-2.0

//! What a canary may conclude.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

use gvahint_core::addr::{Gfn, Level, VaBits};
use gvahint_core::canary::*;
use gvahint_core::wire::{Fault, WireError};

fn ask(words: &[u64]) -> Result<Ask, WireError> {
    Ask::parse(words, VaBits::Bits48)
}

// Fails if a word of the guest's is taken as it is.
#[test]
fn what_is_refused() {
    let good = ask(&[5, 0x7000, 0]).unwrap();
    assert_eq!((good.gfn.raw(), good.gva.raw()), (5, 0x7000));
    assert_eq!(good.step, Step::Clear);
    for (words, error) in [
        (&[][..], WireError::call(Fault::Length)),
        (&[5, 0x7000], WireError::call(Fault::Length)),
        (&[5, 0x7000, 0, 0], WireError::call(Fault::Length)),
        (&[1 << 40, 0x7000, 0], WireError::at(0, Fault::Memslot)),
        (&[u64::MAX, 0x7000, 0], WireError::at(0, Fault::Memslot)),
        (&[5, 0x7001, 0], WireError::at(1, Fault::GvaAlign)),
        (&[5, 1 << 47, 0], WireError::at(1, Fault::NotCanonical)),
        (&[5, 1 << 60, 0], WireError::at(1, Fault::NotCanonical)),
        (&[5, 0x7000, 2], WireError::at(2, Fault::Step)),
        (&[5, 0x7000, 1 << 32], WireError::at(2, Fault::Step)),
    ] {
        assert_eq!(ask(words), Err(error), "{words:x?}");
    }
    assert!(Ask::parse(&[5, 1 << 47, 0], VaBits::Bits57).is_ok());
}

// Fails if one case of all concludes too much, or keeps a bit that it took.
#[test]
fn all_that_the_second_step_may_find() {
    let call = ask(&[5, 0x7000, 1]).unwrap();
    for was_young in [false, true] {
        let canary = Canary::begin(&call, was_young, 8);
        assert_eq!(canary.gives_back(), was_young);
        for aged in [false, true] {
            for cursor in [0, 7, 8, 9] {
                for young in [None, Some(false), Some(true)] {
                    let judged = canary.judge(Seen {
                        aged,
                        cursor,
                        young,
                    });
                    let known = !aged && cursor >= 8;
                    let answer = match young {
                        Some(true) if known => CAME_BACK,
                        Some(false) if known => LOST,
                        _ => INCONCLUSIVE,
                    };
                    assert_eq!(judged.answer, answer);
                    let taken = was_young && young == Some(false);
                    assert_eq!(judged.hand_back, taken);
                }
            }
        }
    }
}

// Fails if a step is taken for one of another canary.
#[test]
fn another_page_is_another_canary() {
    let canary = Canary::begin(&ask(&[5, 0x7000, 0]).unwrap(), true, 8);
    let is_of = |words| canary.is_of(&ask(words).unwrap());
    assert_eq!(is_of(&[5, 0x7000, 1]), Ok(()));
    let none = Err(WireError::call(Fault::NoCanary));
    assert_eq!(is_of(&[6, 0x7000, 1]), none);
    assert_eq!(is_of(&[5, 0x8000, 1]), none);
}

// Fails if a leaf that holds the page is missed, or one beside it is not.
#[test]
fn leaves_around_the_watched_page() {
    let page = (3 << 18) + (7 << 9) + 11;
    for (gfn, level, hit) in [
        (page, Level::L4K, true),
        (page - 1, Level::L4K, false),
        (page + 1, Level::L4K, false),
        (page >> 9 << 9, Level::L2M, true),
        ((page >> 9 << 9) + 512, Level::L2M, false),
        ((page >> 9 << 9) - 512, Level::L2M, false),
        (page >> 18 << 18, Level::L1G, true),
        ((page >> 18 << 18) + (1 << 18), Level::L1G, false),
    ] {
        let watch = Watch::new();
        watch.arm(Gfn::new(page).unwrap());
        watch.aged(Gfn::new(gfn).unwrap(), level);
        assert_eq!(watch.is_aged(), hit, "{gfn:#x} {level:?}");
        // It stays so.
        watch.aged(Gfn::new(page + 1).unwrap(), Level::L4K);
        assert_eq!(watch.is_aged(), hit);
    }
    let last = Gfn::new((1 << 40) - 1).unwrap();
    let watch = Watch::new();
    watch.arm(last);
    watch.forget(0, (1 << 40) - 1);
    assert!(!watch.is_aged());
    watch.aged(last, Level::L4K);
    assert!(watch.is_aged());
}
