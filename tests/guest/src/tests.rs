// SPDX-License-Identifier: GPL-2.0
//! What has to hold for each guest, as a table: which guest, which policy, what may be falsely idle.

use crate::ager::{module_view, Ager, Found, Kind};
use crate::guest::{Guest, Plan};
use crate::mailbox;
use anyhow::{ensure, Result};
use gvahint_vm::knobs::{Knobs, Policy};
use gvahint_vm::machine::Machine;
use gvahint_vm::PAGE;

/// What is expected under one policy.
#[derive(Clone, Copy)]
enum Expect {
    /// Ageing goes blind: at least nine of ten touched pages are falsely idle.
    Blind,
    /// At least one of four is: a huge page looks young if any of its 512 fragments left the TLB, or
    /// something else that lies in it was touched for the first time; and a process that moves to
    /// another vCPU has no translations there.
    Partly,
    /// At most one page in a thousand is falsely idle.
    Exact,
    /// Exact, covered and without INVEPT if the guest reports; a guest that doesn't is aged as if the
    /// module were not there: blind.
    Hinted,
    /// The guest's canary was lost: it is aged as under `invept`. One that doesn't report is as above.
    Degraded,
    /// Only that the guest survives it.
    Anything,
}

use Expect::{Anything, Blind, Degraded, Exact, Hinted, Partly};

/// One guest and the policies that it is aged under.
pub struct Test {
    pub name: &'static str,
    /// Runs under FULL=1 only.
    pub full: bool,
    work: &'static str,
    shape: fn(&mut Plan),
    ager: Kind,
    expect: &'static [(&'static str, Expect)],
}

/// Times that page_idle marks and looks, for each policy.
const ROUNDS: usize = 2;

/// Pages stay where they are, and their translations stay in the TLB.
const STEADY: &[(&str, Expect)] = &[
    ("none", Blind),
    ("context", Exact),
    ("invept", Exact),
    ("hint", Hinted),
];
/// The same in fewer steps.
const SHORT: &[(&str, Expect)] = &[("none", Blind), ("invept", Exact), ("hint", Hinted)];
/// The host's pages are huge, or processes move between vCPUs.
const LESS: &[(&str, Expect)] = &[
    ("none", Partly),
    ("context", Exact),
    ("invept", Exact),
    ("hint", Exact),
];
/// The guest drops its translations all the time by itself, and its pages are new when they are aged:
/// few are covered, all are right.
const MOVING: &[(&str, Expect)] = &[
    ("none", Anything),
    ("context", Exact),
    ("invept", Exact),
    ("hint", Exact),
];
/// Where guest-physical translations stay cached, only INVEPT helps.
const LEAF_CACHED: &[(&str, Expect)] = &[
    ("none", Blind),
    ("context", Blind),
    ("invept", Exact),
    ("hint", Degraded),
];

/// So short that a guest which stopped to renew it would lapse during its test.
const LEASE_MS: u64 = 1_000;

const fn test(
    name: &'static str,
    full: bool,
    work: &'static str,
    shape: fn(&mut Plan),
    expect: &'static [(&'static str, Expect)],
) -> Test {
    Test {
        name,
        full,
        work,
        shape,
        ager: Kind::PageIdle,
        expect,
    }
}

/// The same by another ager.
const fn by(ager: Kind, test: Test) -> Test {
    Test { ager, ..test }
}

const TESTS: &[Test] = &[
    test("random", false, "random", |_| (), STEADY),
    test("shared", false, "shared", |_| (), SHORT),
    test("cache", false, "cache", |_| (), SHORT),
    test("canary", false, "canary", |_| (), SHORT),
    test("abi", false, "abi", |_| (), &[]),
    test("churn", false, "churn", |_| (), MOVING),
    test("qemu_microvm", false, "random", microvm, SHORT),
    by(Kind::Damon, test("damon", false, "random", large, SHORT)),
    by(
        Kind::DamonPaddr,
        test("damon_paddr", true, "random", large, SHORT),
    ),
    test("zipf", true, "zipf", |_| (), STEADY),
    test("stream", true, "stream", |_| (), STEADY),
    test("fork", true, "fork", |_| (), MOVING),
    test("two_vcpus", true, "shared", two_vcpus, LESS),
    test("guest_thp", true, "random", guest_thp, STEADY),
    test("host_thp", true, "random", host_thp, LESS),
    test("both_thp", true, "random", both_thp, LESS),
    test("redis", true, "redis", redis, SHORT),
    test("qemu_pc", true, "random", pc, SHORT),
    test("qemu_redis", true, "redis", qemu_redis, SHORT),
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

fn qemu_redis(plan: &mut Plan) {
    redis(plan);
    microvm(plan);
}

fn two_vcpus(plan: &mut Plan) {
    plan.vcpus = 2;
    plan.processes = 3;
}

fn guest_thp(plan: &mut Plan) {
    plan.guest_huge = true;
}

fn host_thp(plan: &mut Plan) {
    plan.host_huge = true;
    plan.mib = 32;
}

fn both_thp(plan: &mut Plan) {
    plan.guest_huge = true;
    host_thp(plan);
}

fn redis(plan: &mut Plan) {
    plan.memory = 192;
}

/// The tests that run: those whose names begin with one of `names`; without any, the default ones.
pub fn chosen(full: bool, names: &[String]) -> impl Iterator<Item = &'static Test> + '_ {
    TESTS.iter().filter(move |test| match names {
        [] => full || !test.full,
        names => names
            .iter()
            .any(|name| test.name.starts_with(name.as_str())),
    })
}

impl Test {
    /// Fails if something is idle that must not be, or if ageing sees what it can't see: then nothing
    /// was stale, and the exact policies prove nothing.
    pub fn run(&self) -> Result<()> {
        gvahint_vm::sys::pin(0, 0)?;
        let mut plan = Plan::new(self.work, 8);
        (self.shape)(&mut plan);
        let mut ager = Ager::new()?;
        ager.choose(self.ager)?;
        let mut knobs = Knobs::new();
        if self.work == "canary" {
            knobs.set("lease_ms", LEASE_MS)?;
        }
        let mut guest = Guest::boot(&plan)?;
        let cpus = guest.word(mailbox::CPUS)?;
        ensure!(
            cpus == u64::from(plan.vcpus),
            "the guest has {cpus} CPUs, not {}",
            plan.vcpus
        );
        let reports = guest.reports()?;
        let mut wrong = Vec::new();
        let mut by_invept = None;
        for (flush, expect) in self.expectations()? {
            if *flush == "hint" && !reports && !matches!(expect, Hinted | Degraded) {
                continue;
            }
            let policy = Policy::new(flush, "now");
            let found = ager.run(&mut guest, policy, ROUNDS)?;
            println!("{flush}: {found}");
            // Each unit that is aged is a huge page, or nearly each.
            ensure!(
                !plan.host_huge || found.aged < (plan.mib << 20) / PAGE / 16,
                "the host backs the guest by small pages"
            );
            let judged = judge(expect.resolve(reports), &found).and_then(|()| match expect {
                Hinted if reports => judge_hints(&found, by_invept.as_ref()),
                Degraded if reports => judge_degraded(&guest, &found, by_invept.as_ref()),
                _ => Ok(()),
            });
            if let Err(error) = judged {
                wrong.push(format!("{flush}: {error}"));
            }
            if *flush == "invept" {
                by_invept = Some(found);
            }
        }
        for line in module_view(&guest)? {
            println!("{line}");
        }
        let (touches, moved) = (guest.word(mailbox::TOUCHES)?, guest.word(mailbox::MOVED)?);
        println!("touches: {touches}, not stamped because the page moved: {moved}");
        guest.finish()?;
        guest.check_console()?;
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }

    /// What holds on this machine's profile.
    fn expectations(&self) -> Result<&'static [(&'static str, Expect)]> {
        let profile = match Machine::open() {
            Some(machine) => machine.snapshot()?.profile,
            None => String::new(),
        };
        Ok(match profile.as_str() {
            "leaf-cached" => LEAF_CACHED,
            _ => self.expect,
        })
    }
}

impl Expect {
    fn resolve(self, reports: bool) -> Self {
        match self {
            Hinted | Degraded if reports => Exact,
            Hinted | Degraded => Blind,
            other => other,
        }
    }
}

/// A guest that reports is covered, and spared the flushes that `invept` needs for the same ages.
fn judge_hints(found: &Found, by_invept: Option<&Found>) -> Result<()> {
    let coverage = found.coverage().unwrap_or(0.0);
    ensure!(
        coverage >= 0.99,
        "only {:.2} % of the pages are covered",
        100.0 * coverage
    );
    if let Some(by_invept) = by_invept {
        ensure!(
            found.invept * 100 <= by_invept.invept,
            "{} INVEPT, and {} without hints",
            found.invept,
            by_invept.invept
        );
        ensure!(
            found.share() <= by_invept.share() + 0.001,
            "{:.2} % falsely idle, {:.2} % by INVEPT",
            100.0 * found.share(),
            100.0 * by_invept.share()
        );
    }
    Ok(())
}

/// A guest that lost its canary gets the flushes of `invept`, and none by its hints.
fn judge_degraded(guest: &Guest, found: &Found, by_invept: Option<&Found>) -> Result<()> {
    let state = guest.dir()?.read("state")?;
    ensure!(state.starts_with("degraded"), "the VM is {state:?}");
    let covered = found.coverage().unwrap_or(0.0);
    ensure!(covered == 0.0, "{:.2} % covered", 100.0 * covered);
    let least = by_invept.map_or(1, |by_invept| by_invept.invept / 2);
    ensure!(
        found.invept >= least,
        "{} INVEPT, at least {least} are due",
        found.invept
    );
    Ok(())
}

fn judge(expect: Expect, found: &Found) -> Result<()> {
    ensure!(
        found.touched * 20 >= found.aged || found.touched >= 100,
        "the guest touched {} of {} pages only",
        found.touched,
        found.aged
    );
    match expect {
        Blind | Partly => {
            let least = if matches!(expect, Blind) { 0.9 } else { 0.25 };
            ensure!(
                found.share() >= least,
                "only {:.2} % of the touched pages are idle",
                100.0 * found.share()
            );
        }
        Exact => ensure!(
            found.share() <= 0.001,
            "{} of {} touched pages are idle",
            found.false_idle,
            found.touched
        ),
        Anything | Hinted | Degraded => {}
    }
    Ok(())
}
