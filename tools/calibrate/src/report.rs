// SPDX-License-Identifier: GPL-2.0
//! What a run found: as JSON to be shared, and as text.

use crate::costs::Costs;
use crate::host::Host;
use crate::shares::{Interval, Share};
use crate::trials::Arm;
use crate::verdict::{Finding, Verdict};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// A run. Needs nothing else to be understood; says nothing that tells this machine from its like.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Version of this form.
    pub schema: u32,
    /// Version of the tool.
    pub tool: &'static str,
    /// Where it was measured.
    pub host: Host,
    /// Confidence of all intervals.
    pub confidence: f64,
    /// Probability with which a touched page may stay idle where something is said to suffice.
    pub allowed_stale: f64,
    /// By page sizes.
    pub cells: Vec<CellReport>,
    /// The guest's page tables, aged while gVAs behind them are dropped: not part of the verdict. One that
    /// comes back after INVEPT only shows that guest-physical mappings last until the touch.
    pub page_tables: Vec<CellReport>,
    /// In cycles; absent if they were not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub costs: Option<Costs>,
    /// The verdict.
    pub verdict: Verdict,
}

/// One combination of page sizes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellReport {
    /// Size of the EPT's leaf.
    pub leaf: &'static str,
    /// Size of the guest's page.
    pub guest: &'static str,
    /// What `hint` drops.
    pub dropped: &'static str,
    /// Shares of pages whose accessed bit came back.
    pub came_back: BTreeMap<Arm, Share>,
    /// Probability that a touched page stays idle after its gVAs were dropped.
    pub stale_after_hint: Interval,
    /// The same after its context was dropped.
    pub stale_after_context: Interval,
    /// Trials that did not count, because something else happened meanwhile.
    pub void: u64,
    /// What that shows.
    pub finding: Finding,
}

impl Report {
    /// What the verdict means, in a sentence or two.
    pub fn conclusion(&self) -> &'static str {
        match self.verdict {
            Verdict::Passed => {
                "passed: dropping single gVAs brings accessed bits back on this host; `hint` can be used"
            }
            Verdict::FailedContext => {
                "failed: dropping single gVAs does not bring accessed bits back on this host, a flush of \
                 the context does"
            }
            Verdict::FailedInvept => {
                "failed: accessed bits do not come back on this host until INVEPT; `hint` would call hot \
                 pages idle"
            }
            Verdict::Inconclusive => "inconclusive: these trials do not tell; see above",
            Verdict::Nested => {
                "no verdict: this host is itself a virtual machine. That everything runs shows the \
                 plumbing only, the hypervisor below decides what INVVPID drops"
            }
        }
    }
}

const CONTROLS: &str = "\
  Controls that must not come back: another gVA was dropped (decoy), nothing was (none), the page was not
  touched (untouched).
";

fn percent(share: f64) -> String {
    match share {
        0.0 => "0 %".into(),
        1.0 => "100 %".into(),
        _ => format!("{:.2} %", share * 100.0),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        let number = |n: Option<u32>| n.map_or("?".into(), |n| n.to_string());
        let (family, model) = (number(host.family), number(host.model));
        writeln!(
            f,
            "{} (family {family}, model {model}, stepping {}, microcode {}), Linux {}\n",
            host.cpu,
            number(host.stepping),
            host.microcode.as_deref().unwrap_or("?"),
            host.kernel
        )?;
        writeln!(f, "Pages whose accessed bit came back, of those tried:")?;
        write!(f, "  {:4} {:5} {:30}", "EPT", "guest", "dropped by `hint`")?;
        for head in ["hint", "context", "invept", "decoy", "none", "untouched"] {
            write!(f, " {head:>11}")?;
        }
        writeln!(f)?;
        for cell in self.cells.iter().chain(&self.page_tables) {
            write!(f, "  {:4} {:5} {:30}", cell.leaf, cell.guest, cell.dropped)?;
            for arm in [
                Arm::Hint,
                Arm::Context,
                Arm::Invept,
                Arm::Decoy,
                Arm::None,
                Arm::Untouched,
            ] {
                let share = cell.came_back.get(&arm);
                let text = share.map_or("-".into(), |s| format!("{}/{}", s.count, s.trials));
                write!(f, " {text:>11}")?;
            }
            writeln!(f)?;
        }
        f.write_str(CONTROLS)?;
        writeln!(
            f,
            "\nA touched page stays idle after its gVAs were dropped, with a probability of"
        )?;
        for cell in &self.cells {
            let Interval { low, high } = cell.stale_after_hint;
            write!(
                f,
                "  {:4} {:5} {:30} {} to {}",
                cell.leaf,
                cell.guest,
                cell.dropped,
                percent(low),
                percent(high)
            )?;
            match &cell.finding {
                Finding::Suffices => writeln!(f)?,
                Finding::NeedsContext => writeln!(f, ": needs a flush of the context")?,
                Finding::NeedsInvept => writeln!(f, ": needs INVEPT")?,
                Finding::Unclear(why) => writeln!(f, ": unclear, {why}")?,
            }
        }
        writeln!(
            f,
            "  ({} % confidence; at most {} is allowed)",
            self.confidence * 100.0,
            percent(self.allowed_stale)
        )?;
        for tables in &self.page_tables {
            writeln!(f, "{}", witness(&tables.finding))?;
        }
        if let Some(costs) = &self.costs {
            f.write_str(&in_words(costs))?;
        }
        writeln!(f, "\n{}", self.conclusion())
    }
}

/// What the guest's page tables say of the trials.
fn witness(finding: &Finding) -> String {
    let until = match finding {
        Finding::NeedsContext => "a flush of the context",
        Finding::NeedsInvept => "INVEPT",
        Finding::Suffices => {
            return "\
A table of the guest's comes back as well: either this CPU keeps no guest-physical mappings, or none
lasts as long as a trial, and then one of a data page could not be seen."
                .into()
        }
        Finding::Unclear(why) => {
            return format!(
                "Whether guest-physical mappings last until the touch did not show: {why}."
            )
        }
    };
    format!(
        "A table of the guest's stays idle until {until}: this CPU keeps guest-physical mappings, and they\n\
         last until the touch. One of a data page would have been seen."
    )
}

fn in_words(costs: &Costs) -> String {
    let mut text = String::from("\nCycles (of the TSC, medians):\n");
    for (what, cycles) in [
        (
            "a VM exit and entry (hypercall that does nothing)",
            costs.exit,
        ),
        ("INVVPID of one gVA, in a drain", costs.invvpid_address),
        ("INVVPID of a context", costs.invvpid_context),
        ("INVEPT of one EPT", costs.invept),
        (
            "a walk after INVVPID of a context",
            costs.walk_after_context,
        ),
        ("a walk after INVEPT", costs.walk_after_invept),
    ] {
        // Without the sign of a zero.
        let cycles = cycles.round() + 0.0;
        let _ = writeln!(text, "  {what:50} {cycles:>10.0}");
    }
    let _ = match costs.break_even {
        Some(gvas) => writeln!(
            text,
            "From {gvas} gVA(s) on, a flush of the context is cheaper, for a guest that uses {} pages.",
            costs.working_set
        ),
        None => writeln!(
            text,
            "A flush of the context is never cheaper than single gVAs here."
        ),
    };
    text
}
