// SPDX-License-Identifier: GPL-2.0

//! What was aimed at.

use crate::rows::Report;

/// An aim, and what came of it.
pub struct Verdict {
    /// What was aimed at.
    pub aim: &'static str,
    /// What was measured.
    pub found: String,
    /// Whether that is enough; `None`: not measured.
    pub met: Option<bool>,
}

/// The general maps among the peers.
pub const GENERAL: [&str; 2] = ["btreemap", "hashbrown"];

fn at_most(report: &Report, aim: &'static str, name: &str, limit: f64) -> Verdict {
    let value = report.value(name);
    Verdict {
        aim,
        found: value.map_or_else(String::new, |value| format!("{value:.3}")),
        met: value.map(|value| value <= limit),
    }
}

/// Whether appending costs the same for any number of vCPUs.
fn flat(report: &Report) -> Verdict {
    let values: Vec<f64> = [1, 4, 16, 64, 256, 1024]
        .iter()
        .filter_map(|vcpus| report.value(&format!("append_vcpus_{vcpus}")))
        .collect();
    let met = (values.len() == 6).then(|| values.iter().all(|value| *value == values[0]));
    Verdict {
        aim: "append: as many instructions with 1,024 vCPUs as with 1",
        found: format!("{values:?}"),
        met,
    }
}

/// How many times faster than the fastest general map, and how much more memory than
/// the smallest takes. A rival that was not run is none that was beaten.
fn build(report: &Report) -> Verdict {
    let factors: Vec<f64> = GENERAL
        .iter()
        .filter_map(|peer| {
            let row = report
                .named("table_build_1tib")
                .find(|row| row.peer.as_deref() == Some(*peer))?;
            Some(1.0 / row.value)
        })
        .collect();
    let least = factors.iter().copied().reduce(f64::min);
    let ours = report.value("rss_per_hint_1tib");
    let theirs = GENERAL
        .iter()
        .filter_map(|peer| report.peer("rss_per_hint_1tib", peer))
        .reduce(f64::min);
    let found = match (least, ours, theirs) {
        (Some(factor), Some(ours), Some(theirs)) => {
            format!("{factor:.1} times, {ours:.2} B a hint against {theirs:.2}")
        }
        _ => String::new(),
    };
    let fast = least.map(|factor| factor >= 5.0);
    let small = ours.zip(theirs).map(|(ours, theirs)| ours <= theirs);
    Verdict {
        aim: "build of 1 TiB: 5 times as fast as the best general map, no more memory",
        found,
        met: (factors.len() == GENERAL.len()).then(|| fast == Some(true) && small == Some(true)),
    }
}

/// All aims.
pub fn all(report: &Report) -> Vec<Verdict> {
    let at_most = |aim, name, limit| at_most(report, aim, name, limit);
    vec![
        at_most(
            "covered lookup and append of a gVA: 100 instructions",
            "lookup_append_1gva",
            100.0,
        ),
        at_most(
            "the same in a table that reaches over 512 GiB",
            "lookup_append_1gva_1tib",
            100.0,
        ),
        flat(report),
        at_most(
            "drain: 20 instructions a gVA, without the INVVPID",
            "drain_per_gva",
            20.0,
        ),
        build(report),
        at_most(
            "4K hint with a gVA: 8.1 bytes, at 64 GiB",
            "bytes_per_4k_hint",
            8.1,
        ),
        at_most("the same at 1 TiB", "bytes_per_4k_hint_1tib", 8.1),
        at_most(
            "page that the guest maps by 2M: 0.1 bytes",
            "bytes_per_page_in_2m_pages",
            0.1,
        ),
        at_most(
            "page that it maps contiguously: 0.1 bytes",
            "bytes_per_page_in_2m_runs",
            0.1,
        ),
        at_most(
            "empty guest: a few hundred bytes",
            "bytes_empty_guest",
            999.0,
        ),
    ]
}
