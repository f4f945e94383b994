// SPDX-License-Identifier: GPL-2.0
//! Guests with something about each that has to hold, as a table.

use crate::ager::Kind;
use crate::guest::Plan;
use crate::tests::Expect::{
    self, Addressed, Anything, Blind, Covered, Exact, Hinted, Lossy, Nearly, Partly,
};
use crate::tests::{Cell, Test, When};
use gvahint_vm::knobs::Policy;

/// Pages stay where they are, and their translations stay in the TLB.
const STEADY: &[(&str, Expect)] = &[
    ("none", Blind),
    ("context", Exact),
    ("invept", Exact),
    ("hint", Hinted),
];
/// The same, and nothing but its addresses is of help.
const KNOWN: &[(&str, Expect)] = &[
    ("none", Blind),
    ("context", Exact),
    ("invept", Exact),
    ("hint", Hinted),
    (ADDRESSES, Addressed),
];
/// `hint` without a flush for pages that have none.
const ADDRESSES: &str = "addresses";
/// The same in fewer steps.
const SHORT: &[(&str, Expect)] = &[("none", Blind), ("invept", Exact), ("hint", Hinted)];
/// The ager looks at pages of the guest's kernel as well, some without a hint.
const ALL: &[(&str, Expect)] = &[("none", Blind), ("invept", Exact), ("hint", Covered(95))];
/// Processes move between vCPUs.
const APART: &[(&str, Expect)] = &[("none", Partly), ("invept", Exact), ("hint", Hinted)];
/// The host's pages are huge.
const LESS: &[(&str, Expect)] = &[
    ("none", Partly),
    ("context", Exact),
    ("invept", Exact),
    ("hint", Exact),
];
/// The same in a guest large enough for its kernel to keep apart what moves and what doesn't.
const LARGE: &[(&str, Expect)] = &[("none", Lossy), ("invept", Exact), ("hint", Hinted)];
/// The same with more memory in use than the TLB holds: nothing is stale under `none`.
const HUGE: &[(&str, Expect)] = &[("invept", Exact), ("hint", Hinted)];
/// The guest drops its translations all the time by itself, and its pages are new when they are aged.
const MOVING: &[(&str, Expect)] = &[
    ("none", Anything),
    ("context", Nearly),
    ("invept", Exact),
    ("hint", Hinted),
];

/// One guest and the policies that it is aged under.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// Runs under FULL=1 only.
    full: bool,
    work: &'static str,
    shape: fn(&mut Plan),
    ager: Kind,
    timing: &'static str,
    expect: &'static [(&'static str, Expect)],
}

const fn case(
    name: &'static str,
    full: bool,
    work: &'static str,
    shape: fn(&mut Plan),
    expect: &'static [(&'static str, Expect)],
) -> Case {
    Case {
        name,
        full,
        work,
        shape,
        ager: Kind::PageIdle,
        timing: "now",
        expect,
    }
}

/// The same, flushed at another time.
const fn at(timing: &'static str, case: Case) -> Case {
    Case { timing, ..case }
}

/// The same by another ager.
const fn by(ager: Kind, case: Case) -> Case {
    Case { ager, ..case }
}

const CASES: &[Case] = &[
    case("random", false, "random", |_| (), KNOWN),
    case("shared", false, "shared", |_| (), KNOWN),
    case("cache", false, "cache", |_| (), KNOWN),
    case("mapped", false, "mapped", |_| (), SHORT),
    case("canary", false, "canary", |_| (), SHORT),
    case("abi", false, "abi", |_| (), &[]),
    case("churn", false, "churn", |_| (), MOVING),
    case("moved", false, "moved", |_| (), &[]),
    case("handed", true, "handed", |_| (), &[]),
    case("aliased", false, "aliased", |_| (), &[]),
    case("split", false, "split", both_thp, &[]),
    case("huge_moved", true, "moved", both_thp, &[]),
    case("qemu_microvm", false, "random", microvm, SHORT),
    by(Kind::Damon, case("damon", false, "random", large, SHORT)),
    by(Kind::LruGen, case("mglru", false, "random", |_| (), ALL)),
    case("zipf", true, "zipf", |_| (), STEADY),
    case("stream", false, "stream", |_| (), STEADY),
    case("fork", false, "fork", storm, MOVING),
    case("two_vcpus", false, "shared", two_vcpus, APART),
    case("guest_thp", false, "random", guest_thp, STEADY),
    case("host_thp", true, "random", host_thp, LESS),
    case("both_thp", true, "random", both_thp, LESS),
    at(
        "batched",
        case("large_thp", false, "random", large_thp, LARGE),
    ),
    case("more_thp", true, "random", more_thp, HUGE),
    case("redis", false, "redis", |_| (), SHORT),
    case("qemu_pc", false, "random", pc, SHORT),
    case("qemu_redis", true, "redis", microvm, SHORT),
];

fn large(plan: &mut Plan) {
    plan.mib = 16;
}

fn microvm(plan: &mut Plan) {
    plan.qemu = Some("microvm".to_owned());
}

fn pc(plan: &mut Plan) {
    plan.qemu = Some("pc".to_owned());
    plan.vcpus = 2;
}

fn two_vcpus(plan: &mut Plan) {
    plan.vcpus = 2;
    plan.processes = 3;
}

fn storm(plan: &mut Plan) {
    plan.processes = 8;
}

fn guest_thp(plan: &mut Plan) {
    plan.guest_huge = true;
}

fn host_thp(plan: &mut Plan) {
    plan.host_huge = true;
    plan.mib = 32;
}

fn large_thp(plan: &mut Plan) {
    host_thp(plan);
    // Large enough for the kernel's pages to lie apart; more of the workload's do not fit the TLB.
    plan.memory = 512;
}

fn more_thp(plan: &mut Plan) {
    host_thp(plan);
    plan.memory = 768;
    plan.mib = 192;
}

/// A huge page of the guest lies in one of the host's.
pub fn both_thp(plan: &mut Plan) {
    plan.guest_huge = true;
    host_thp(plan);
}

/// A test for each.
pub fn tests() -> impl Iterator<Item = Test> {
    CASES.iter().map(|case| {
        let mut plan = Plan::new(case.work, 8);
        (case.shape)(&mut plan);
        let cell = |(flush, expect): &(&'static str, Expect)| Cell {
            ager: case.ager,
            policy: match *flush {
                ADDRESSES => Policy {
                    uncovered: "none",
                    ..Policy::new("hint", case.timing)
                },
                flush => Policy::new(flush, case.timing),
            },
            expect: *expect,
        };
        Test {
            name: case.name.to_owned(),
            when: if case.full { When::Full } else { When::Always },
            plan,
            cells: case.expect.iter().map(cell).collect(),
        }
    })
}
