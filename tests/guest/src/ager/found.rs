// SPDX-License-Identifier: GPL-2.0
//! What ageing found, and what it cost.

use std::collections::BTreeMap;
use std::fmt;

/// What a few rounds of ageing found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Pages that were marked idle, over all rounds.
    pub aged: u64,
    /// Of these, pages that the guest surely touched after they had been marked.
    pub touched: u64,
    /// Of these, pages that were idle all the same.
    pub false_idle: u64,
    /// Pages that were idle and not known to be touched.
    pub idle: u64,
    /// INVEPT that the CPUs executed meanwhile.
    pub invept: u64,
    /// INVVPID of one address.
    pub invvpid_addr: u64,
    /// INVVPID of a context.
    pub invvpid_context: u64,
    /// VM exits.
    pub exits: u64,
    /// Exits that one CPU forced on another.
    pub kicks: u64,
    /// TLB misses in guest mode.
    pub tlb_misses: u64,
    /// Memory references of walks in guest mode.
    pub walk_refs: u64,
    /// Instructions in guest mode.
    pub instructions: u64,
    /// Sweeps that the workload completed.
    pub sweeps: u64,
    /// The machine's profile.
    pub profile: String,
    /// What the module's counters rose by.
    pub stats: BTreeMap<String, u64>,
}

impl Found {
    /// Pages with a complete hint among those that were looked up, if any was.
    pub fn coverage(&self) -> Option<f64> {
        self.share_of("covered")
    }

    /// Of all that were looked up, pages that only a flush of the context covered.
    pub fn coverage_by_context(&self) -> Option<f64> {
        self.share_of("covered_context")
    }

    fn share_of(&self, counter: &str) -> Option<f64> {
        let stat = |name| self.stats.get(name).copied().unwrap_or(0);
        let asked = stat("covered") + stat("uncovered");
        (asked > 0).then(|| stat(counter) as f64 / asked as f64)
    }

    /// Why pages had none.
    pub fn reasons(&self) -> impl Iterator<Item = (&str, u64)> {
        let rose = self.stats.iter().filter(|(_, n)| **n > 0);
        rose.filter_map(|(name, n)| Some((name.strip_prefix("uncovered_")?, *n)))
    }

    /// Falsely idle pages among those that were touched.
    pub fn share(&self) -> f64 {
        self.false_idle as f64 / self.touched.max(1) as f64
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "aged {} touched {} false_idle {} ({:.2} %) idle {} invept {} invvpid_addr {} \
             invvpid_context {} exits {} tlb_misses {} instructions {}",
            self.aged,
            self.touched,
            self.false_idle,
            100.0 * self.share(),
            self.idle,
            self.invept,
            self.invvpid_addr,
            self.invvpid_context,
            self.exits,
            self.tlb_misses,
            self.instructions,
        )?;
        if let (Some(covered), Some(context)) = (self.coverage(), self.coverage_by_context()) {
            let (covered, context) = (100.0 * covered, 100.0 * context);
            write!(f, " covered {covered:.2} % (by the context {context:.2} %)")?;
            write!(f, " kept {}", self.stats.get("kept").copied().unwrap_or(0))?;
        }
        for (reason, n) in self.reasons() {
            write!(f, " {reason} {n}")?;
        }
        Ok(())
    }
}
