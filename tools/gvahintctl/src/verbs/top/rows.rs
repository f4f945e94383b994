// SPDX-License-Identifier: GPL-2.0
//! A VM's line: what rose between two looks, and how lines are sorted.

use crate::numbers::{bytes, grouped, percent, rate};
use crate::snapshot::{coverage_of, since, Snapshot, Stats, Vm};
use crate::table::Side;
use clap::ValueEnum;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::cmp::Ordering;

/// One VM over one interval.
pub struct Row {
    /// As it is at the end.
    pub vm: Vm,
    /// What was counted meanwhile.
    pub rose: Stats,
    /// How long that took.
    pub seconds: f64,
}

/// The VMs of `now`. One that is new, or the first look, counts nothing: what happened before is no rate.
pub fn between(before: Option<&Snapshot>, now: &Snapshot) -> Vec<Row> {
    let seconds = before.map_or(0.0, |before| (now.taken - before.taken).as_secs_f64());
    let row = |vm: &Vm| Row {
        rose: since(
            before.and_then(|before| before.earlier(vm)).or(Some(vm)),
            vm,
        ),
        vm: vm.clone(),
        seconds,
    };
    now.vms.iter().map(row).collect()
}

impl Row {
    /// Events per second.
    pub fn rate(&self, counter: &str) -> f64 {
        let rose = self.rose.get(counter).copied().unwrap_or(0);
        if self.seconds > 0.0 {
            rose as f64 / self.seconds
        } else {
            0.0
        }
    }

    /// Share of covered pages in this interval.
    pub fn coverage(&self) -> Option<f64> {
        coverage_of(&self.rose)
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_level = |name: &str| {
            crate::counters::LEVELS
                .iter()
                .any(|level| level.name == name)
        };
        let (levels, counters): (Vec<_>, Vec<_>) =
            self.rose.iter().partition(|(name, _)| is_level(name));
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.vm.id)?;
        map.serialize_entry("pid", &self.vm.pid)?;
        map.serialize_entry("process", &self.vm.process)?;
        map.serialize_entry("state", &self.vm.state)?;
        map.serialize_entry("coverage", &self.coverage())?;
        for (name, value) in levels {
            map.serialize_entry(name, value)?;
        }
        let rates: std::collections::BTreeMap<_, _> = counters
            .into_iter()
            .map(|(name, _)| (name, self.rate(name)))
            .collect();
        map.serialize_entry("per_second", &rates)?;
        map.end()
    }
}

/// A column.
pub struct Column {
    pub head: &'static str,
    pub side: Side,
    /// The higher, the sooner it is left out on a narrow terminal.
    pub rank: u8,
    pub cell: fn(&Row) -> String,
}

const fn column(head: &'static str, side: Side, rank: u8, cell: fn(&Row) -> String) -> Column {
    Column {
        head,
        side,
        rank,
        cell,
    }
}

/// All columns, from left to right.
pub const COLUMNS: &[Column] = &[
    column("VM", Side::Right, 0, |row| row.vm.id.to_string()),
    column("STATE", Side::Left, 1, |row| row.vm.state.clone()),
    column("COVER", Side::Right, 3, |row| {
        row.coverage().map_or("-".to_owned(), percent)
    }),
    column("AGED/s", Side::Right, 4, |row| rate(row.rate("aged"))),
    column("INVEPT/s", Side::Right, 2, |row| {
        rate(row.rate("drained_full"))
    }),
    column("VPID/s", Side::Right, 6, |row| {
        rate(row.rate("drained_context"))
    }),
    column("INVVPID/s", Side::Right, 5, |row| {
        rate(row.rate("drained_gva"))
    }),
    column("KICKS/s", Side::Right, 8, |row| rate(row.rate("kicks"))),
    column("HINTS", Side::Right, 9, |row| grouped(row.vm.stat("hints"))),
    column("MEMORY", Side::Right, 10, |row| bytes(row.vm.stat("bytes"))),
    column("PID", Side::Right, 11, |row| row.vm.pid.to_string()),
    column("PROCESS", Side::Left, 7, |row| {
        row.vm.process.clone().unwrap_or_else(|| "-".to_owned())
    }),
];

/// What VMs are sorted by: most first, ids and coverage least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Full flushes
    Invept,
    /// Flushes of a VPID
    Vpid,
    /// Single addresses
    Invvpid,
    /// Aged pages
    Aged,
    /// Share of covered pages
    Coverage,
    /// Kicks
    Kicks,
    /// Memory of the hints
    Memory,
    /// Number of the VM
    Vm,
}

impl Sort {
    /// Its name.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or(String::new(), |value| value.get_name().to_owned())
    }

    /// The one after it.
    pub fn next(self) -> Self {
        let all = Self::value_variants();
        let at = all.iter().position(|sort| *sort == self).unwrap_or(0);
        all[(at + 1) % all.len()]
    }

    fn order(self, a: &Row, b: &Row) -> Ordering {
        let most = |counter| b.rate(counter).total_cmp(&a.rate(counter));
        match self {
            Sort::Invept => most("drained_full"),
            Sort::Vpid => most("drained_context"),
            Sort::Invvpid => most("drained_gva"),
            Sort::Aged => most("aged"),
            Sort::Kicks => most("kicks"),
            Sort::Memory => b.vm.stat("bytes").cmp(&a.vm.stat("bytes")),
            // Where nothing was aged there is nothing to look at.
            Sort::Coverage => {
                let share = |row: &Row| row.coverage().unwrap_or(2.0);
                share(a).total_cmp(&share(b))
            }
            Sort::Vm => Ordering::Equal,
        }
    }

    /// Sorts; equals by their numbers.
    pub fn apply(self, rows: &mut [Row], reverse: bool) {
        rows.sort_by(|a, b| {
            let order = self.order(a, b).then(a.vm.id.cmp(&b.vm.id));
            if reverse {
                order.reverse()
            } else {
                order
            }
        });
    }
}
