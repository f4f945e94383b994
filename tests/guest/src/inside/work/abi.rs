// SPDX-License-Identifier: GPL-2.0
//! The reporter's files against their documentation, which is compiled in; nothing then.

use crate::inside::truth::Mailbox;
use crate::inside::Task;
use crate::mailbox::Phase;
use anyhow::{ensure, Result};
use gvahint_vm::{abi, sys};

const ROOT: &str = "/sys/kernel/gvahint_guest";
const DOCUMENT: &str = include_str!("../../../../../docs/abi/sysfs-kernel-gvahint_guest");

/// What each setting takes at its ends, its default last; what it just doesn't take.
const SETTINGS: [(&str, [&str; 3], [&str; 2]); 5] = [
    ("enabled", ["0", "0", "1"], ["2", "10"]),
    (
        "sweep_pages_per_second",
        ["256", "1073741824", "65536"],
        ["255", "1073741825"],
    ),
    ("min_poll_ms", ["1", "1000", "10"], ["0", "1001"]),
    ("max_poll_ms", ["1", "60000", "2000"], ["0", "60001"]),
    (
        "canary_ms",
        ["0", "3600000", "60000"],
        ["3600001", "4294967296"],
    ),
];
/// What none takes; the last one is 1 if it wraps.
const NONSENSE: [&str; 8] = [
    "\n",
    "x",
    "-1",
    " 1",
    "1 ",
    "1ms",
    "0x1",
    "18446744073709551617",
];

/// Fails as [`abi::compare`] does, if a documented setting is not in the table or has another default, or
/// if one takes what it must not.
pub fn run(_task: &Task, mailbox: &Mailbox) -> Result<()> {
    abi::compare(DOCUMENT, ROOT, ("", ""))?;
    let settable = abi::documented(DOCUMENT, ROOT).into_values();
    ensure!(
        settable.filter(|settable| *settable).count() == SETTINGS.len(),
        "there are other settings than {SETTINGS:?}"
    );
    for (name, values, beyond) in SETTINGS {
        let path = format!("{ROOT}/{name}");
        let default = sys::read(&path)?;
        ensure!(default == values[2], "{name} is {default}");
        for value in values {
            abi::takes(&path, value)?;
            for wrong in NONSENSE.iter().chain(&beyond) {
                abi::refuses(&path, wrong)?;
            }
        }
    }
    mailbox.phase(Phase::Running);
    while !mailbox.stopped() {
        sys::sleep_ms(10);
    }
    Ok(())
}
