// SPDX-License-Identifier: GPL-2.0
//! The knobs: their names, what they take, and their files. A test holds the table against docs/abi.

use crate::failure::{Failure, Kind, Result};

/// The notifiers that have a policy each.
pub const NOTIFIERS: [&str; 2] = ["clear_young", "clear_flush_young"];
/// The knobs of a policy.
pub const POLICY: [&str; 3] = ["flush", "uncovered", "timing"];
/// What a VM's knob holds that the global one's value counts for.
pub const INHERIT: &str = "inherit";

/// What a knob takes.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// One of these words.
    Words(&'static [&'static str]),
    /// A number in this range.
    Number {
        min: u64,
        max: u64,
        /// Which numbers in the range, if not all.
        which: Which,
    },
}

/// Which numbers of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    PowersOfTwo,
    /// 0 as well, which means that the module chooses.
    OrZero,
}

/// A knob.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    /// Its name, which is its file's below the module's directory.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// What it does, in a few words.
    pub about: &'static str,
    /// Whether VMs have it, too.
    pub of_vm: bool,
}

const FLUSH: Takes = Takes::Words(&["default", "none", "hint", "context", "invept"]);
const UNCOVERED: Takes = Takes::Words(&["full", "none"]);
const TIMING: Takes = Takes::Words(&["now", "batched", "deferred"]);
const AGE: Takes = range(100, 600_000, Which::All);

const fn range(min: u64, max: u64, which: Which) -> Takes {
    Takes::Number { min, max, which }
}

const fn policy(name: &'static str, takes: Takes, about: &'static str) -> Knob {
    Knob {
        name,
        takes,
        about,
        of_vm: true,
    }
}

const fn global(name: &'static str, takes: Takes, about: &'static str) -> Knob {
    Knob {
        name,
        takes,
        about,
        of_vm: false,
    }
}

/// All knobs.
pub const KNOBS: &[Knob] = &[
    policy(
        "clear_young/flush",
        FLUSH,
        "what page_idle, DAMON and MGLRU drop",
    ),
    policy(
        "clear_young/uncovered",
        UNCOVERED,
        "what they drop for pages without a hint",
    ),
    policy("clear_young/timing", TIMING, "when vCPUs drop it"),
    policy(
        "clear_flush_young/flush",
        FLUSH,
        "what reclaim drops without MGLRU, or of huge pages",
    ),
    policy(
        "clear_flush_young/uncovered",
        UNCOVERED,
        "what it drops for pages without a hint",
    ),
    policy("clear_flush_young/timing", TIMING, "when vCPUs drop it"),
    global(
        "batch_pages",
        range(1, 4096, Which::All),
        "aged pages per kick under `batched`",
    ),
    global(
        "max_delay_ms",
        range(0, 1000, Which::All),
        "longest wait for a vCPU's exit; 0 = no limit",
    ),
    global(
        "linear_alias",
        Takes::Words(&["auto", "always", "never"]),
        "when direct-map addresses are dropped",
    ),
    global(
        "hint_max_age_ms",
        AGE,
        "age from which a hint does not count",
    ),
    global(
        "lease_ms",
        AGE,
        "silence of a guest after which its hints do not count",
    ),
    global(
        "max_gvas_per_entry",
        range(1, 65_536, Which::All),
        "addresses that one VM entry drops singly; in effect at most log_entries",
    ),
    global(
        "log_entries",
        range(256, 65_536, Which::PowersOfTwo),
        "slots of a VM's flush log, from its next HELLO on",
    ),
    global(
        "max_bytes_per_vm",
        range(65_536, u64::MAX, Which::OrZero),
        "memory for a VM's hints; 0 = 0.25 % of the VM's + 1 MiB",
    ),
];

impl Takes {
    /// What is allowed, in words.
    pub fn allowed(self) -> String {
        match self {
            Takes::Words(words) => words.join(", "),
            Takes::Number { min, max, which } => {
                let most = if max == u64::MAX {
                    String::new()
                } else {
                    max.to_string()
                };
                match which {
                    Which::All => format!("{min}..{most}"),
                    Which::PowersOfTwo => format!("a power of two, {min}..{most}"),
                    Which::OrZero => format!("0 or {min}..{most}"),
                }
            }
        }
    }

    fn accepts(self, value: &str) -> bool {
        match self {
            Takes::Words(words) => words.contains(&value),
            Takes::Number { min, max, which } => decimal(value).is_some_and(|n| match which {
                Which::All => (min..=max).contains(&n),
                Which::PowersOfTwo => (min..=max).contains(&n) && n.is_power_of_two(),
                Which::OrZero => n == 0 || (min..=max).contains(&n),
            }),
        }
    }
}

/// Digits only: no sign, as the module's files have it.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

impl Knob {
    /// The knob of that name; `/` may be written as `_` or `.`.
    pub fn find(name: &str) -> Result<&'static Self> {
        let plain = |name: &str| name.replace(['/', '.'], "_");
        let wanted = plain(name);
        KNOBS
            .iter()
            .find(|knob| plain(knob.name) == wanted)
            .ok_or_else(|| {
                let names = KNOBS.iter().map(|knob| knob.name);
                let mut what = format!("there is no knob {name:?}{}", suggestion(name, names));
                what += "\n  the knobs are:";
                for knob in KNOBS {
                    what += &format!("\n    {:30} {}", knob.name, knob.takes.allowed());
                }
                Failure::new(Kind::Usage, what)
            })
    }

    /// Its file below the module's directory, globally or of a VM.
    pub fn file(&self, vm: Option<u64>) -> String {
        match vm {
            None => self.name.to_owned(),
            Some(id) => format!("vms/{id}/{}", self.name.replace('/', "_")),
        }
    }

    /// Fails if it is wanted of a VM and VMs don't have it.
    pub fn check_vm(&self, vm: bool) -> Result<()> {
        if !vm || self.of_vm {
            return Ok(());
        }
        let what = format!("{} is no knob of single VMs", self.name);
        Err(Failure::new(Kind::Usage, what).remedy("leave out --vm: it holds for all of them"))
    }

    /// The value as the module will have it: numbers without zeros in front.
    pub fn plain(&self, value: String) -> String {
        match self.takes {
            Takes::Number { .. } => decimal(&value).map_or(value, |n| n.to_string()),
            Takes::Words(_) => value,
        }
    }

    /// Fails unless it takes `value`, globally or for a VM.
    pub fn check(&self, value: &str, vm: bool) -> Result<()> {
        self.check_vm(vm)?;
        if self.takes.accepts(value) || vm && value == INHERIT {
            return Ok(());
        }
        let allowed = self.takes.allowed();
        let mut words = match self.takes {
            Takes::Words(words) => words.to_vec(),
            Takes::Number { .. } => Vec::new(),
        };
        let inherit = if vm { ", inherit" } else { "" };
        words.extend(vm.then_some(INHERIT));
        let meant = suggestion(value, words.into_iter());
        let mut failure = Failure::new(
            Kind::Usage,
            format!(
                "{} does not take {value:?}{meant}; it takes: {allowed}{inherit}",
                self.name
            ),
        );
        if value == INHERIT && !vm {
            failure = failure.remedy("`inherit` is for single VMs: add --vm ID");
        }
        Err(failure)
    }
}

/// `; did you mean ...?`, if a name is close to what was typed.
pub fn suggestion<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> String {
    const CLOSE: f64 = 0.8;
    names
        .map(|name| (strsim::jaro_winkler(typed, name), name))
        .filter(|(likeness, _)| *likeness >= CLOSE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(String::new(), |(_, name)| format!("; did you mean {name}?"))
}

#[cfg(test)]
mod tests;
