// SPDX-License-Identifier: GPL-2.0
//! What the files of /sys/kernel/gvahint show and take.
//!
//! One value a file.  A value that is not understood changes nothing.  No lock is taken here:
//! removing a directory waits for whoever is in one of its files.

use crate::bindings::*;
use crate::knobs::{self, Which};
use crate::vm::Vm;
use core::fmt::{self, Write};
use gvahint_core::counters::Counter;
use gvahint_core::policy::{
    Calibration, Flush, LinearAlias, Override, PolicyCell, Timing, Tunable, Uncovered,
};
use gvahint_core::text::{decimal, Page};
use kernel::prelude::*;

/// The module's version.
pub(crate) const VERSION: &str = "0.1.0";

/// The files that are numbers.
fn number_file(id: u32) -> Option<Tunable> {
    Some(match id {
        GVAHINT_ATTR_BATCH_PAGES => Tunable::BatchPages,
        GVAHINT_ATTR_MAX_DELAY_MS => Tunable::MaxDelayMs,
        GVAHINT_ATTR_HINT_MAX_AGE_MS => Tunable::HintMaxAgeMs,
        GVAHINT_ATTR_LEASE_MS => Tunable::LeaseMs,
        GVAHINT_ATTR_MAX_GVAS_PER_ENTRY => Tunable::MaxGvasPerEntry,
        GVAHINT_ATTR_LOG_ENTRIES => Tunable::LogEntries,
        GVAHINT_ATTR_MAX_BYTES_PER_VM => Tunable::MaxBytesPerVm,
        _ => return None,
    })
}

/// One of the three knobs of a policy.
#[derive(Clone, Copy)]
enum Knob {
    Flush,
    Uncovered,
    Timing,
}

/// The policy files: which notifier's, which knob.
fn policy_file(id: u32) -> Option<(Which, Knob)> {
    Some(match id {
        GVAHINT_ATTR_CLEAR_FLUSH_YOUNG_FLUSH => (Which::ClearFlushYoung, Knob::Flush),
        GVAHINT_ATTR_CLEAR_FLUSH_YOUNG_UNCOVERED => (Which::ClearFlushYoung, Knob::Uncovered),
        GVAHINT_ATTR_CLEAR_FLUSH_YOUNG_TIMING => (Which::ClearFlushYoung, Knob::Timing),
        GVAHINT_ATTR_CLEAR_YOUNG_FLUSH => (Which::ClearYoung, Knob::Flush),
        GVAHINT_ATTR_CLEAR_YOUNG_UNCOVERED => (Which::ClearYoung, Knob::Uncovered),
        GVAHINT_ATTR_CLEAR_YOUNG_TIMING => (Which::ClearYoung, Knob::Timing),
        _ => return None,
    })
}

/// Fills `bytes` with what file `id` says, and returns how much of it.
pub(crate) fn show(vm: Option<&Vm>, id: u32, bytes: &mut [u8]) -> Result<isize> {
    let mut page = Page::new(bytes);
    let shown = match vm {
        None => show_global(id, &mut page),
        Some(vm) => show_vm(vm, id, &mut page),
    };
    shown.map_err(|_| EINVAL)?;
    Ok(isize::try_from(page.used())?)
}

/// The name of a knob, or what says that it is not set.
fn knob_name(set: Override, knob: Knob) -> &'static str {
    match knob {
        Knob::Flush => set.flush.map(Flush::name),
        Knob::Uncovered => set.uncovered.map(Uncovered::name),
        Knob::Timing => set.timing.map(Timing::name),
    }
    .unwrap_or("inherit")
}

fn show_global(id: u32, page: &mut Page<'_>) -> fmt::Result {
    if let Some((which, knob)) = policy_file(id) {
        return writeln!(page, "{}", knob_name(knobs::global(which).load(), knob));
    }
    let tunables = knobs::TUNABLES.load();
    if let Some(number) = number_file(id) {
        return writeln!(page, "{}", tunables.get(number));
    }
    match id {
        GVAHINT_ATTR_VERSION => writeln!(page, "{VERSION}"),
        GVAHINT_ATTR_LINEAR_ALIAS => writeln!(page, "{}", tunables.linear_alias.name()),
        GVAHINT_ATTR_CALIBRATION => writeln!(page, "{}", tunables.calibration.name()),
        _ => Err(fmt::Error),
    }
}

fn show_vm(vm: &Vm, id: u32, page: &mut Page<'_>) -> fmt::Result {
    if let Some((which, knob)) = policy_file(id) {
        return writeln!(page, "{}", knob_name(vm.overrides(which).load(), knob));
    }
    match id {
        GVAHINT_ATTR_PID => writeln!(page, "{}", vm.pid()),
        GVAHINT_ATTR_STATE => writeln!(page, "{}", vm.state()),
        GVAHINT_ATTR_COVERAGE => match vm.totals().coverage() {
            None => writeln!(page, "-"),
            Some(parts) => writeln!(page, "{}.{:04}", parts / 10_000, parts % 10_000),
        },
        _ => {
            let index = id.checked_sub(GVAHINT_ATTR_STATS).ok_or(fmt::Error)?;
            let counter = u8::try_from(index)
                .ok()
                .and_then(Counter::from_u8)
                .ok_or(fmt::Error)?;
            writeln!(page, "{}", vm.totals().get(counter))
        }
    }
}

/// Takes `text` for file `id`.  Never two at a time: see shim.h.  Returns whether everything has to
/// be dropped once, as more is dropped from now on: nothing else would ever make pages look young that
/// were aged until now.
pub(crate) fn store(vm: Option<&Vm>, id: u32, text: &[u8]) -> Result<bool> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let Some((which, knob)) = policy_file(id) else {
        if vm.is_some() {
            return Err(EINVAL);
        }
        if id == GVAHINT_ATTR_CALIBRATION {
            return store_calibration(text);
        }
        return store_tunable(id, text);
    };
    let policy = || vm.map_or(knobs::policy(which), |vm| vm.policy(which));
    let before = policy();
    match vm {
        None => set_knob(knobs::global(which), knob, text, false),
        Some(vm) => set_knob(vm.overrides(which), knob, text, true),
    }?;
    let after = policy();
    Ok(match knob {
        Knob::Flush => after.flush.catches_up_with(before.flush),
        // Also of VMs that have a flush of their own, and take only this from here.
        Knob::Uncovered => after.uncovered == Uncovered::Full && after != before,
        // Who was to drain at its next entry, whenever that is, may have entries pending.
        Knob::Timing => {
            after.timing == Timing::Now
                && after != before
                && knobs::TUNABLES.load().max_delay_ms == 0
        }
    })
}

fn set_knob(cell: &PolicyCell, knob: Knob, text: &[u8], may_inherit: bool) -> Result {
    let inherit = may_inherit && text == b"inherit";
    let mut set = cell.load();
    let understood = match knob {
        Knob::Flush => {
            set.flush = Flush::parse(text);
            set.flush.is_some()
        }
        Knob::Uncovered => {
            set.uncovered = Uncovered::parse(text);
            set.uncovered.is_some()
        }
        Knob::Timing => {
            set.timing = Timing::parse(text);
            set.timing.is_some()
        }
    };
    if !understood && !inherit {
        return Err(EINVAL);
    }
    cell.store(set);
    Ok(())
}

fn store_calibration(text: &[u8]) -> Result<bool> {
    let verdict = Calibration::parse(text).ok_or(EINVAL)?;
    let before = knobs::TUNABLES.load().calibration;
    knobs::TUNABLES.set_calibration(verdict);
    // Also where less suffices from now on: a notifier call may be under way.
    Ok(verdict.instead() != before.instead())
}

fn store_tunable(id: u32, text: &[u8]) -> Result<bool> {
    let before = knobs::TUNABLES.load();
    if id == GVAHINT_ATTR_LINEAR_ALIAS {
        let alias = LinearAlias::parse(text).ok_or(EINVAL)?;
        knobs::TUNABLES.set_linear_alias(alias);
        // Addresses in the linear ranges may have stayed cached that are dropped from now on.
        return Ok(alias != before.linear_alias);
    }
    let number = number_file(id).ok_or(EINVAL)?;
    let value = decimal(text).ok_or(EINVAL)?;
    knobs::TUNABLES.set(number, value).map_err(|_| EINVAL)?;
    Ok(match number {
        // A session that had lapsed lives again.
        Tunable::LeaseMs => value > before.get(number),
        // What is pending has waited for an entry, whenever that is.
        Tunable::MaxDelayMs => value > 0 && before.get(number) == 0,
        _ => false,
    })
}
