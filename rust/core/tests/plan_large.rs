// SPDX-License-Identifier: GPL-2.0

//! Leaves of 2M and 1G in the EPT, large pages in the guest, in every mixture.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing)]

mod common;
mod storage;

use common::{Op, Recorder, Vm};
use gvahint_core::addr::{Gfn, Level};
use gvahint_core::counters::{Counter, Counters};
use gvahint_core::plan::{aged, finish, Env, Kick, Pass, Verdict};
use gvahint_core::policy::{LinearAlias, Policy, Tunables};
use gvahint_core::sync::{AtomicU32, AtomicU64};
use storage::{Storage, ANYWHERE, KERNEL_ONLY, MAPPED, PAGE_TABLE, TOO_MANY};

const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
const USER: u64 = 0x7f00_0000_0000;
/// A 2M of the guest, by frame.
const HERE: u64 = 1024;

/// What a vCPU drops after a notifier call that finds these leaves young.
fn drops(table: &Storage, leaves: &[(u64, Level)]) -> (Vec<Op>, Counters) {
    let vm = Vm::new(1024);
    let counters = Counters::new();
    let env = Env {
        policy: Policy::CLEAR_YOUNG,
        tunables: Tunables {
            linear_alias: table.alias,
            ..Tunables::DEFAULT
        },
        log: vm.log(),
        hints: Ok(table.hints()),
        can_flush_gva: true,
        counters: &counters,
        wanted: None,
        kept: None,
    };
    let mut pass = Pass::default();
    for (gfn, level) in leaves {
        aged(
            &mut pass,
            &env,
            Gfn::new(*gfn).unwrap(),
            *level,
            table.now_ms,
        );
    }
    let outcome = finish(&mut pass, &env, 0, &AtomicU32::new(0));
    assert_eq!(
        (outcome.verdict, outcome.kick),
        (Verdict::Handled, Kick::Within(10))
    );
    assert_eq!(pass, Pass::default());
    let mut recorder = Recorder::default();
    let _ = vm.log().drain(&AtomicU64::new(0), u32::MAX, &mut recorder);
    (recorder.ops, counters)
}

fn ops(table: &Storage, leaves: &[(u64, Level)]) -> Vec<Op> {
    drops(table, leaves).0
}

fn gva(raw: u64) -> Op {
    Op::Gva(raw >> 12)
}

#[test]
fn a_leaf_of_2m_over_a_2m_of_the_guest_is_one_gva() {
    let mut t = Storage::new(4096, 64);
    for order in [9, 18] {
        t.set(HERE, 9, MAPPED, &[USER | order]).unwrap();
        for gfn in [HERE, HERE + 1, HERE + 511] {
            assert_eq!(ops(&t, &[(gfn, Level::L2M)]), [gva(USER)]);
        }
    }
    let two = [USER | 9, DIRECT_MAP | 9];
    t.set(HERE, 9, MAPPED, &two).unwrap();
    assert_eq!(ops(&t, &[(HERE, Level::L2M)]), [gva(USER), gva(DIRECT_MAP)]);
}

#[test]
fn a_leaf_of_2m_over_pages_is_a_context_flush() {
    let mut t = Storage::new(4096, 64);
    // Contiguous, in one slot.
    t.set(HERE, 9, MAPPED, &[USER]).unwrap();
    assert_eq!(ops(&t, &[(HERE, Level::L2M)]), [Op::Context]);
    t.set(HERE, 9, MAPPED, &[USER | 9, DIRECT_MAP]).unwrap();
    assert_eq!(ops(&t, &[(HERE, Level::L2M)]), [Op::Context]);
    // Page by page.
    for page in 0..512u64 {
        let several = [USER + ((page * 7) << 12), DIRECT_MAP];
        let gvas = &several[..1 + usize::from(page % 5 == 0)];
        t.set(HERE + page, 0, MAPPED, gvas).unwrap();
    }
    let (ops_, counters) = drops(&t, &[(HERE, Level::L2M); 3]);
    assert_eq!(ops_, [Op::Context]);
    assert_eq!(counters.get(Counter::Covered), 3);
    assert_eq!(counters.get(Counter::AppendedContext), 1, "once a call");
}

#[test]
fn a_leaf_of_2m_that_is_hinted_in_part_is_uncovered() {
    for kind in [None, Some(PAGE_TABLE)] {
        for hole in [0, 200, 511] {
            let mut t = Storage::new(4096, 64);
            t.set(HERE, 9, MAPPED, &[USER | 9]).unwrap();
            t.set(HERE + hole, 0, MAPPED, &[USER]).unwrap();
            assert_eq!(ops(&t, &[(HERE, Level::L2M)]), [Op::Context]);
            match kind {
                None => t.writer().revoke(HERE + hole, 1),
                Some(kind) => t.set(HERE + hole, 0, kind, &[]).unwrap(),
            }
            let (ops, counters) = drops(&t, &[(HERE, Level::L2M)]);
            assert_eq!(ops, [Op::Full]);
            assert_eq!(counters.get(Counter::UncoveredLargeLeaf), 1);
        }
    }
}

#[test]
fn a_leaf_with_pages_whose_gvas_are_not_listed_takes_one_context_flush() {
    for kind in [TOO_MANY, ANYWHERE] {
        let mut t = Storage::new(4096, 64);
        t.set(HERE, 9, kind, &[]).unwrap();
        for (gfn, order, set, gvas) in [
            (HERE, 9, kind, &[][..]),
            (HERE + 7, 0, MAPPED, &[USER]),
            (HERE + 8, 0, MAPPED, &[USER, DIRECT_MAP]),
            (HERE + 511, 0, KERNEL_ONLY, &[]),
        ] {
            t.set(gfn, order, set, gvas).unwrap();
            let (ops, counters) = drops(&t, &[(HERE, Level::L2M)]);
            assert_eq!(ops, [Op::Context]);
            assert_eq!(counters.get(Counter::CoveredContext), 1);
            assert_eq!(counters.get(Counter::Uncovered), 0);
        }
    }
}

#[test]
fn one_old_page_makes_a_leaf_of_2m_old() {
    let mut t = Storage::new(4096, 64);
    t.set(HERE, 9, MAPPED, &[USER]).unwrap();
    t.now_ms += 59_000;
    for page in 0..511 {
        t.set(HERE + page, 0, MAPPED, &[USER]).unwrap();
    }
    assert_eq!(ops(&t, &[(HERE, Level::L2M)]), [Op::Context]);
    t.now_ms += 1_000;
    let (ops, counters) = drops(&t, &[(HERE, Level::L2M)]);
    assert_eq!(ops, [Op::Full]);
    assert_eq!(counters.get(Counter::UncoveredAged), 1);
}

#[test]
fn the_linear_alias_follows_the_page_size_that_linear_declared() {
    let full = [0, DIRECT_MAP, 16 << 20, 2 << 20];
    let small = [0, DIRECT_MAP, 16 << 20, 4 << 10];
    // Ends within HERE's 2M.
    let part = [0, DIRECT_MAP, (4 << 20) + (8 << 12), 4 << 10];
    let alias = gva(DIRECT_MAP + (HERE << 12));
    for (kind, gvas, list, mode, expect) in [
        (KERNEL_ONLY, &[][..], full, LinearAlias::Auto, vec![alias]),
        (
            KERNEL_ONLY,
            &[],
            small,
            LinearAlias::Auto,
            vec![Op::Context],
        ),
        (KERNEL_ONLY, &[], part, LinearAlias::Auto, vec![Op::Context]),
        (KERNEL_ONLY, &[], full, LinearAlias::Never, vec![Op::Full]),
        (
            MAPPED,
            &[USER | 9],
            small,
            LinearAlias::Auto,
            vec![gva(USER)],
        ),
        (
            MAPPED,
            &[USER | 9],
            full,
            LinearAlias::Always,
            vec![gva(USER), alias],
        ),
        (
            MAPPED,
            &[USER | 9],
            small,
            LinearAlias::Always,
            vec![Op::Context],
        ),
        (
            MAPPED,
            &[USER | 9],
            part,
            LinearAlias::Always,
            vec![Op::Context],
        ),
        (
            MAPPED,
            &[USER | 9],
            part,
            LinearAlias::Never,
            vec![gva(USER)],
        ),
    ] {
        let mut t = Storage::new(4096, 64);
        t.set_linear(&list);
        t.set(HERE, 9, kind, gvas).unwrap();
        t.alias = mode;
        assert_eq!(
            ops(&t, &[(HERE, Level::L2M)]),
            expect,
            "{kind} {list:x?} {mode:?}"
        );
    }
}

#[test]
fn gvas_of_one_large_page_of_the_guest_are_dropped_once_a_call() {
    let mut t = Storage::new(4096, 64);
    t.set_linear(&[0, DIRECT_MAP, 16 << 20, 2 << 20]);
    t.set(HERE, 9, MAPPED, &[USER | 9]).unwrap();
    t.set(HERE + 512, 9, MAPPED, &[(USER + (2 << 20)) | 9])
        .unwrap();
    let leaves: Vec<_> = (0..1024).map(|page| (HERE + page, Level::L4K)).collect();
    // The last page's, which was cleared last.
    let last = |n: u64| gva(USER + ((n * 512 - 1) << 12));
    assert_eq!(ops(&t, &leaves), [last(1), last(2)]);
    t.alias = LinearAlias::Always;
    let alias = |n: u64| gva(DIRECT_MAP + ((HERE + n * 512 - 1) << 12));
    assert_eq!(ops(&t, &leaves), [last(1), alias(1), last(2), alias(2)]);
    // Small pages are each their own.
    t.alias = LinearAlias::Auto;
    t.set(HERE, 9, MAPPED, &[USER]).unwrap();
    assert_eq!(ops(&t, &leaves).len(), 512 + 1);
}

#[test]
fn a_leaf_of_1g() {
    let mut t = Storage::new(1 << 20, 64);
    let far = 1 << 18;
    t.set(far, 18, MAPPED, &[USER | 18]).unwrap();
    assert_eq!(t.used(), 1);
    assert_eq!(ops(&t, &[(far, Level::L1G)]), [gva(USER)]);
    assert_eq!(ops(&t, &[(far + 513, Level::L2M)]), [gva(USER + (2 << 20))]);
    assert_eq!(
        ops(&t, &[(far + 513, Level::L4K)]),
        [gva(USER + (513 << 12))]
    );
    // Mapped by 2M, and by pages, contiguously.
    for size in [9, 0] {
        t.set(far, 18, MAPPED, &[USER | size]).unwrap();
        assert_eq!(ops(&t, &[(far, Level::L1G)]), [Op::Context]);
    }
    // A page of it is another's: two splits.
    t.set(far + 513, 0, MAPPED, &[DIRECT_MAP]).unwrap();
    assert_eq!(t.used(), 3);
    assert_eq!(ops(&t, &[(far + 513, Level::L4K)]), [gva(DIRECT_MAP)]);
    let neighbour = gva(USER + (514 << 12));
    assert_eq!(ops(&t, &[(far + 514, Level::L4K)]), [neighbour]);
    assert_eq!(ops(&t, &[(far, Level::L1G)]), [Op::Full]);
    assert_eq!(t.state.hints(), 1 << 18);
    // An order in between takes a slot per 2M.
    t.set(far, 12, MAPPED, &[USER | 9]).unwrap();
    assert_eq!(t.used(), 2);
    for at in 0..8 {
        let frame = far + at * 512;
        assert_eq!(ops(&t, &[(frame, Level::L2M)]), [gva(USER + (at << 21))]);
    }
}

#[test]
fn a_leaf_of_1g_over_less_is_uncovered() {
    let mut t = Storage::new(1 << 19, 64);
    t.set(0, 9, MAPPED, &[USER | 18]).unwrap();
    let (ops, counters) = drops(&t, &[(0, Level::L1G)]);
    assert_eq!(ops, [Op::Full]);
    assert_eq!(counters.get(Counter::UncoveredLargeLeaf), 1);
    // 2M by 2M: all but the last, all, and all with a page on its own.
    for n in 1..511 {
        t.set(n << 9, 9, MAPPED, &[USER + (n << 30)]).unwrap();
    }
    assert_eq!(ops_of_1g(&t), [Op::Full]);
    t.set(511 << 9, 9, KERNEL_ONLY, &[]).unwrap();
    assert_eq!(ops_of_1g(&t), [Op::Context]);
    t.now_ms += 60_000;
    assert_eq!(ops_of_1g(&t), [Op::Full]);
    t.now_ms -= 60_000;
    t.set(5, 0, MAPPED, &[USER]).unwrap();
    assert_eq!(ops_of_1g(&t), [Op::Full]);
}

fn ops_of_1g(table: &Storage) -> Vec<Op> {
    ops(table, &[(0, Level::L1G)])
}
