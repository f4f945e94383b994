// SPDX-License-Identifier: GPL-2.0
//! Whether this CPU keeps guest-physical mappings, and for as long as a trial takes.
//!
//! They are what could make a verdict wrong: INVVPID need not drop them. If the trials never see one,
//! there may be none of data pages, or none that lasts. The guest's page tables tell the two apart, for
//! these are reached by nothing else: a table's accessed bit is cleared, the gVA of a page behind it is
//! dropped, and the guest reads that page. The CPU walks through the table. If the table stays idle, a
//! guest-physical mapping has lasted; one of a data page would have, too.

use crate::cells::{Cell, Stage, Target};
use anyhow::Result;
use gvahint_vm::hints::{kind, Set};
use gvahint_vm::tables::GuestPage;
use gvahint_vm::vm::{Config, Vm};
use gvahint_vm::{layout, LARGE, PAGE};

/// Tables, each with an entry for one page, of which another gVA is dropped.
const DECOYS: usize = 32;
/// Those of which the gVA is dropped.
const HONEST: usize = 64;
/// All that are tried.
const TABLES: u64 = (DECOYS + HONEST) as u64;

/// A VM in which each table has one page.
pub fn stage() -> Stage {
    Stage {
        config: Config::small(TABLES + layout::SPARE_PAGES),
        cells: |vm| {
            let all = (0..TABLES + layout::SPARE_PAGES).map(|at| target(vm, at));
            let mut targets = all.collect::<Result<Vec<_>>>()?.into_iter();
            Ok(vec![Cell {
                leaf: "4k",
                guest: "4k",
                dropped: "of a table: a gVA behind it",
                decoys: targets.by_ref().take(DECOYS).collect(),
                honest: targets.take(HONEST).collect(),
            }])
        },
    }
}

const fn gva(at: u64) -> u64 {
    layout::ALIAS + at * LARGE
}

fn target(vm: &mut Vm, at: u64) -> Result<Target> {
    vm.map(gva(at), at, 1, GuestPage::Small)?;
    let gpa = vm.leaf_table(gva(at))?;
    // The page at another address, which nobody touches.
    let dropped = match at < DECOYS as u64 {
        true => layout::USER + at * PAGE,
        false => gva(at),
    };
    Ok(Target {
        gpa,
        set: Set::new(gpa / PAGE, 0, kind::MAPPED, 1, &[dropped]),
        cached: vec![gva(at)],
        touched: vec![gva(at)],
    })
}
