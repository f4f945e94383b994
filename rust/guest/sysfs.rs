// SPDX-License-Identifier: GPL-2.0
//! What the files of /sys/kernel/gvahint_guest show and take.
//!
//! One value a file.  A value that is not understood changes nothing.  No lock is taken here.

use crate::shared::{Setting, Shared};
use crate::shim_sysfs::File;
use core::fmt::Write;
use gvahint_core::reporter::canary::Verdict;
use gvahint_core::reporter::state::State;
use gvahint_core::reporter::stats::Stat;
use gvahint_core::text::{decimal, Page};
use kernel::prelude::*;

/// The module's version.
pub(crate) const VERSION: &str = "0.1.0";

/// The files that are no statistics, by their numbers.
const NAMES: [(&str, bool); 8] = [
    ("version", false),
    ("state", false),
    ("enabled", true),
    ("sweep_pages_per_second", true),
    ("min_poll_ms", true),
    ("max_poll_ms", true),
    ("canary_ms", true),
    ("canary", false),
];

/// All files, in the order of their numbers.
pub(crate) fn files() -> impl Iterator<Item = File> {
    let plain = NAMES.iter().map(|(name, writable)| File {
        name,
        writable: *writable,
        stat: false,
    });
    let stats = Stat::ALL.iter().map(|stat| File {
        name: stat.name(),
        writable: false,
        stat: true,
    });
    // Not `plain.chain()`: the kernel crate has one of its own.
    Iterator::chain(plain, stats)
}

/// What a number stands for.
enum Value<'a> {
    Version,
    State,
    Canary,
    Setting(&'a Setting),
    Stat(Stat),
}

fn value(shared: &Shared, id: u32) -> Option<Value<'_>> {
    let settings = &shared.settings;
    Some(match id {
        0 => Value::Version,
        1 => Value::State,
        2 => Value::Setting(&settings.enabled),
        3 => Value::Setting(&settings.pages_per_second),
        4 => Value::Setting(&settings.min_poll_ms),
        5 => Value::Setting(&settings.max_poll_ms),
        6 => Value::Setting(&settings.canary_ms),
        7 => Value::Canary,
        _ => Value::Stat(Stat::from_u8(u8::try_from(id.checked_sub(8)?).ok()?)?),
    })
}

/// Fills `bytes` with what file `id` says, and returns how much of it.
pub(crate) fn show(shared: &Shared, id: u32, bytes: &mut [u8]) -> Result<isize> {
    let mut page = Page::new(bytes);
    let shown = match value(shared, id).ok_or(EINVAL)? {
        Value::Version => writeln!(page, "{VERSION}"),
        Value::State => writeln!(page, "{}", shared.state().map_or("-", State::name)),
        Value::Canary => writeln!(page, "{}", shared.canary().map_or("-", Verdict::name)),
        Value::Setting(setting) => writeln!(page, "{}", setting.get()),
        Value::Stat(stat) => writeln!(page, "{}", shared.stats.get(stat)),
    };
    shown.map_err(|_| EINVAL)?;
    Ok(isize::try_from(page.used())?)
}

/// Takes `text` for file `id`.  Never two at a time: see shim.h.
pub(crate) fn store(shared: &Shared, id: u32, text: &[u8]) -> Result {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    match value(shared, id) {
        Some(Value::Setting(setting)) => setting.set(decimal(text).ok_or(EINVAL)?),
        _ => Err(EINVAL),
    }
}
