// SPDX-License-Identifier: GPL-2.0

//! One table, built in a process of its own: so its memory is what the process takes,
//! and all of it is given back.

use crate::guest::{Guest, Mapping, Walk};
use crate::maps::Map;
use crate::ours::Table;
use crate::peers::{btree::Tree, hash::Hash, radix::Radix};
use crate::process;
use anyhow::{bail, ensure, Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::env;
use std::process::{Command, Stdio};

/// Left to others when a child is started.
const SPARE: u64 = 1 << 30;

/// Whose table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Who {
    /// The core's.
    Gvahint,
    /// `std::collections::BTreeMap`.
    Btreemap,
    /// `hashbrown::HashMap`.
    Hashbrown,
    /// A plain radix tree.
    Radix,
}

impl Who {
    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Who::Gvahint => Table::NAME,
            Who::Btreemap => Tree::NAME,
            Who::Hashbrown => Hash::NAME,
            Who::Radix => Radix::NAME,
        }
    }

    /// Bytes a page to have at hand before it is tried, with a margin; of the hash table
    /// the last growth, when the old table and one of twice the size are both there.
    fn expected(self) -> u64 {
        match self {
            Who::Gvahint | Who::Radix => 10,
            Who::Btreemap => 36,
            Who::Hashbrown => 55,
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Built {
    /// Nanoseconds that applying the reports took.
    pub ns: u64,
    /// Frames that are known.
    pub hints: u64,
    /// The most bytes that the process had more than at its start.
    pub peak: u64,
    /// Ours: bytes held, counted.
    pub held: Option<u64>,
    /// Ours: bytes held after all was revoked.
    pub left: Option<u64>,
}

/// Builds a guest's table in this process.
pub fn build(who: Who, guest: &Guest) -> Result<Built> {
    Ok(match who {
        Who::Btreemap => measure::<Tree>(guest)?.1,
        Who::Hashbrown => measure::<Hash>(guest)?.1,
        Who::Radix => measure::<Radix>(guest)?.1,
        Who::Gvahint => {
            let (mut table, mut built) = measure::<Table>(guest)?;
            built.held = Some(table.bytes());
            table.revoke_all();
            ensure!(table.covered() == 0, "hints are left");
            built.left = Some(table.bytes());
            built
        }
    })
}

fn measure<M: Map>(guest: &Guest) -> Result<(M, Built)> {
    let before = process::resident()?;
    let (map, took) = M::build(guest);
    let built = Built {
        ns: u64::try_from(took.as_nanos())?,
        hints: map.hints(),
        peak: process::resident_peak()?.saturating_sub(before),
        held: None,
        left: None,
    };
    Ok((map, built))
}

/// Does that in a child.
///
/// # Errors
///
/// Also if there is not enough memory to try.
pub fn spawn(who: Who, guest: &Guest) -> Result<Built> {
    let need = guest.pages * who.expected() + SPARE;
    let available = process::available()?;
    if guest.mapping == Mapping::Pages && available < need {
        bail!(
            "needs {} MiB of memory, {} are there",
            need >> 20,
            available >> 20
        );
    }
    let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
        value().map_or_else(String::new, |value| value.get_name().to_owned())
    };
    let output = Command::new(env::current_exe()?)
        .arg("build")
        .args(["--who", &name(&|| who.to_possible_value())])
        .args(["--gib", &(guest.pages >> 18).to_string()])
        .args([
            "--mapping",
            &name(&|| Mapping::to_possible_value(&guest.mapping)),
        ])
        .args(["--walk", &name(&|| Walk::to_possible_value(&guest.walk))])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "ended with {}", output.status);
    serde_json::from_slice(&output.stdout).context("a child's answer")
}
