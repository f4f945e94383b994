// SPDX-License-Identifier: GPL-2.0

//! How hints of the table age.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

mod storage;

use gvahint_core::plan::Reason;
use storage::{Storage, KERNEL_ONLY, MAPPED, PAGE_TABLE};

fn table() -> Storage {
    Storage::new(4096, 64)
}

#[test]
fn a_hint_ages() {
    // Never covers at its maximal age, and covers until shortly before.
    for max_age_ms in [100, 1_000, 60_000, 600_000] {
        let mut t = table();
        t.max_age_ms = max_age_ms;
        for start in [0, 17, 31, 32, 1_000_003, 1 << 40] {
            for kind in [MAPPED, KERNEL_ONLY, PAGE_TABLE] {
                t.now_ms = start;
                let gvas = [0x1000];
                t.set(1, 0, kind, if kind == MAPPED { &gvas } else { &[] })
                    .unwrap();
                let fresh = t.lookup(1);
                t.now_ms = start + u64::from(max_age_ms) - 64;
                assert_eq!(t.lookup(1), fresh, "{start} {max_age_ms}");
                for late in [0, 1, 10_000, 1_000_000, 2_000_000, 2_097_152, 1 << 33] {
                    t.now_ms = start + u64::from(max_age_ms) + late;
                    assert_eq!(t.lookup(1), Err(Reason::Aged), "{late}");
                }
            }
        }
    }
}

#[test]
fn an_old_hint_stays_old_beside_new_ones() {
    // Slots keep 35 minutes of time. A neighbour that is renewed all the time
    // must not carry an old one over the wrap.
    for pause in [1_000, 255_000, 300_000, 700_000, 1_040_000, 2_097_152] {
        let mut t = table();
        t.max_age_ms = 600_000;
        t.set(1, 0, MAPPED, &[0x1000]).unwrap();
        while t.now_ms < 9_000_000 {
            t.now_ms += pause;
            t.set(2, 0, MAPPED, &[0x2000]).unwrap();
            assert!(t.lookup(2).is_ok());
            if t.now_ms >= 12_345 + 600_000 {
                assert!(t.lookup(1).is_err(), "{pause} {}", t.now_ms);
            }
        }
        assert_eq!(t.state.hints(), 1);
    }
}

#[test]
fn a_hint_that_is_renewed_in_time_never_ages() {
    let mut t = table();
    t.max_age_ms = 600_000;
    for _ in 0..20 {
        t.set(1, 0, MAPPED, &[0x1000, 0x2000]).unwrap();
        for _ in 0..59 {
            t.now_ms += 10_000;
            assert!(t.lookup(1).is_ok(), "{}", t.now_ms);
        }
    }
}

#[test]
fn a_clock_that_is_a_little_behind_is_no_matter() {
    let mut t = table();
    t.now_ms = 5_000_000;
    t.set(1, 0, MAPPED, &[0x1000]).unwrap();
    t.now_ms -= 500;
    assert!(t.lookup(1).is_ok());
}
