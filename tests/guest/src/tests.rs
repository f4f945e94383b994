// SPDX-License-Identifier: GPL-2.0
//! What has to hold for a guest: by whom it is aged, under which policies, what may be falsely idle.

use crate::ager::{module_view, Ager, Found, Kind};
use crate::guest::{Guest, Plan};
use crate::{beside, cases, mailbox, matrix, stale};
use anyhow::{ensure, Result};
use gvahint_vm::knobs::{Knobs, Policy};
use gvahint_vm::machine::Machine;
use gvahint_vm::PAGE;
use std::time::Instant;

/// What is expected under one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Ageing goes blind: at least nine of ten touched pages are falsely idle.
    Blind,
    /// At least one of four is: a huge page looks young if any of its 512 fragments left the TLB, or
    /// something else that lies in it was touched for the first time; and a process that moves to
    /// another vCPU has no translations there.
    Partly,
    /// At most one page in a thousand is falsely idle.
    Exact,
    /// At most one in a hundred is, where pages change hands: of what was a page table before, a flush of
    /// the context leaves what the CPU keeps of its own walks; and one touched for the last time before a
    /// flush that waits for others is not seen to be.
    Nearly,
    /// More are, but few: each page that reclaim unmaps flushes in full, and uncovers what all others
    /// hide; or the TLB just about holds what is in use.
    Lossy,
    /// Exact, covered and without INVEPT if the guest reports; a guest that doesn't is aged as if the
    /// module were not there: blind.
    Hinted,
    /// Hinted, by single addresses: nothing else is flushed, so that no other flush can have made a page
    /// young whose hint was wrong.
    Addressed,
    /// Exact, and so many percent are covered if the guest reports.
    Covered(u64),
    /// The same, and so many percent of the INVEPT of `invept` are spared.
    Spared { covered: u64, spared: u64 },
    /// The guest's canary was lost: it is aged as under `invept`. One that doesn't report is as above.
    Degraded,
    /// Only that the guest survives it.
    Anything,
}

use Expect::{
    Addressed, Anything, Blind, Covered, Degraded, Exact, Hinted, Lossy, Nearly, Partly, Spared,
};

/// So short that a guest which stopped to renew it would lapse during its test.
const LEASE_MS: u64 = 1_000;

/// One way to age a guest.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    pub ager: Kind,
    pub policy: Policy,
    pub expect: Expect,
}

impl Cell {
    /// Whether the number of flushes depends on nothing but what is flushed.
    fn compares_with(&self, other: &Self) -> bool {
        (self.ager, self.policy.timing) == (other.ager, other.policy.timing)
    }
}

/// When a test runs that is not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// Under FULL=1 only.
    Full,
    /// Not under FULL=1, which has more of the same.
    Default,
}

/// One guest and all the ways in which it is aged.
pub struct Test {
    pub name: String,
    pub when: When,
    pub plan: Plan,
    pub cells: Vec<Cell>,
}

/// The tests that run: those whose names begin with one of `names`; without any, the default ones or
/// all.
pub fn chosen(full: bool, names: &[String]) -> Vec<Test> {
    let wanted = |test: &Test| match names {
        [] => test.when == When::Always || (test.when == When::Full) == full,
        names => names.iter().any(|name| test.name.starts_with(name)),
    };
    cases::tests()
        .chain(matrix::tests())
        .filter(wanted)
        .collect()
}

impl Test {
    /// Fails if something is idle that must not be, or if ageing sees what it can't see: then nothing
    /// was stale, and the exact policies prove nothing.
    pub fn run(&self) -> Result<()> {
        gvahint_vm::sys::pin(0, 0)?;
        let plan = &self.plan;
        if stale::is_change(&plan.work) {
            return stale::check(plan);
        }
        let mut ager = Ager::new()?;
        let mut knobs = Knobs::new();
        // A round takes most of a minute where the host's kernel looks for bugs.
        knobs.set("hint_max_age_ms", 600_000)?;
        if plan.work == "canary" {
            knobs.set("lease_ms", LEASE_MS)?;
        }
        let mut guest = Guest::boot(plan)?;
        let cpus = guest.word(mailbox::CPUS)?;
        ensure!(
            cpus == u64::from(plan.vcpus),
            "the guest has {cpus} CPUs, not {}",
            plan.vcpus
        );
        let reports = guest.reports()?;
        let mut wrong = Vec::new();
        let mut by_invept: Option<(Cell, Found)> = None;
        for cell in self.cells()? {
            let asks = matches!(cell.expect, Hinted | Degraded);
            if cell.policy.flush == "hint" && !reports && !asks {
                continue;
            }
            ager.choose(cell.ager)?;
            let start = Instant::now();
            let found = ager.run(&mut guest, cell.policy, cell.ager.rounds())?;
            let seconds = start.elapsed().as_secs_f64();
            let Policy {
                flush,
                uncovered,
                timing,
            } = cell.policy;
            let name = format!(
                "{} {flush}/{timing}, uncovered {uncovered}",
                cell.ager.name()
            );
            println!("{name}: {seconds:.2} s {found}");
            // Each unit that is aged is a huge page, or nearly each; what was swapped comes back small.
            ensure!(
                !plan.host_huge
                    || cell.ager.reclaims()
                    || found.aged < (plan.mib << 20) / PAGE / 16,
                "the host backs the guest by small pages"
            );
            let same = by_invept.as_ref().filter(|(by, _)| by.compares_with(&cell));
            let same = same.map(|(_, found)| found);
            let expect = match cell.expect.resolve(reports) {
                Exact if plan.moves() && cell.policy.timing != "now" => Nearly,
                expect => expect,
            };
            let judged = judge(expect, &found);
            let judged = judged.and_then(|()| match cell.expect {
                Hinted if reports => judge_hints(&found, same),
                Addressed => judge_addressed(&guest, &found),
                Covered(least) if reports => judge_coverage(&found, least),
                Spared { covered, spared } if reports => judge_coverage(&found, covered)
                    .and_then(|()| judge_spared(&found, same, spared)),
                Degraded if reports => judge_degraded(&guest, &found, same),
                _ => Ok(()),
            });
            if let Err(error) = judged {
                wrong.push(format!("{name}: {error}"));
            }
            if cell.policy.flush == "invept" {
                by_invept = Some((cell, found));
            }
        }
        for line in module_view(&guest)? {
            println!("{line}");
        }
        if plan.work == "canary" && guest.dir()?.read("state")? == "degraded" {
            beside::check(&mut ager, &mut guest)?;
        }
        let (touches, moved) = (guest.word(mailbox::TOUCHES)?, guest.word(mailbox::MOVED)?);
        println!("touches: {touches}, not stamped because the page moved: {moved}");
        guest.finish()?;
        guest.check_console()?;
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }

    /// What holds on this machine's profile: where guest-physical translations stay cached, only INVEPT
    /// helps, and guests find out.
    fn cells(&self) -> Result<Vec<Cell>> {
        let profile = match Machine::open() {
            Some(machine) => machine.snapshot()?.profile,
            None => String::new(),
        };
        let mut cells = self.cells.clone();
        if profile == "leaf-cached" {
            cells.retain(|cell| cell.expect != Addressed);
            for cell in &mut cells {
                match cell.policy.flush {
                    "context" => cell.expect = Blind,
                    "hint" => cell.expect = Degraded,
                    _ => {}
                }
            }
        }
        Ok(cells)
    }
}

impl Expect {
    fn resolve(self, reports: bool) -> Self {
        match self {
            Hinted | Degraded if reports => Exact,
            Hinted | Degraded => Blind,
            Covered(_) | Spared { .. } | Addressed => Exact,
            other => other,
        }
    }
}

/// A guest that reports is covered, and spared the flushes that `invept` needs for the same ages.
fn judge_hints(found: &Found, by_invept: Option<&Found>) -> Result<()> {
    let [covered, kept] = ["covered", "kept"].map(|name| found.stats.get(name).copied());
    ensure!(
        kept.unwrap_or(0) * 4 <= covered.unwrap_or(0),
        "{kept:?} units were kept young, {covered:?} covered"
    );
    judge_coverage(found, 99)?;
    judge_spared(found, by_invept, 99)?;
    if let Some(by_invept) = by_invept {
        ensure!(
            found.share() <= by_invept.share() + 0.001,
            "{:.2} % falsely idle, {:.2} % by INVEPT",
            100.0 * found.share(),
            100.0 * by_invept.share()
        );
    }
    Ok(())
}

/// So many percent of the flushes that `invept` needs are spared.
fn judge_spared(found: &Found, by_invept: Option<&Found>, least: u64) -> Result<()> {
    let Some(by_invept) = by_invept else {
        return Ok(());
    };
    // Of so few that the rest is none, one: for a page that was a page table.
    let most = (by_invept.invept * (100 - least) / 100).max(1);
    ensure!(
        found.invept <= most,
        "{} INVEPT, and {} without hints",
        found.invept,
        by_invept.invept
    );
    Ok(())
}

/// At least so many percent of what was looked up.
fn judge_coverage(found: &Found, least: u64) -> Result<()> {
    let covered = 100.0 * found.coverage().unwrap_or(0.0);
    ensure!(
        covered >= least as f64,
        "only {covered:.2} % of the pages are covered"
    );
    Ok(())
}

/// Its pages are covered, and of what else was flushed there is next to nothing.
fn judge_addressed(guest: &Guest, found: &Found) -> Result<()> {
    let by_context = found.coverage_by_context().unwrap_or(0.0);
    ensure!(
        by_context <= 0.01,
        "{:.2} % of the pages are covered by the context only",
        100.0 * by_context
    );
    // For pages that were page tables. A kernel that looks for bugs takes more of these, and gives them back.
    let turned = found.stats.get("turned").copied().unwrap_or(0);
    let most = if guest.is_slow() { turned.max(1) } else { 1 };
    ensure!(
        found.invept <= most,
        "{} INVEPT, {turned} for pages that were page tables",
        found.invept
    );
    judge_coverage(found, 99)
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
        found.touched > 0 && (found.touched * 20 >= found.aged || found.touched >= 100),
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
        Lossy => ensure!(
            found.share() > 0.001,
            "only {} pages in use were taken",
            found.false_idle
        ),
        Exact | Nearly => {
            let most = if matches!(expect, Exact) { 0.001 } else { 0.01 };
            ensure!(
                found.share() <= most,
                "{} of {} touched pages are idle",
                found.false_idle,
                found.touched
            );
        }
        Anything | Hinted | Addressed | Covered(_) | Spared { .. } | Degraded => {}
    }
    Ok(())
}
