// SPDX-License-Identifier: GPL-2.0
//! The table of knobs against its documentation, and what is let through.

use super::*;
use crate::counters::documentation;
use std::collections::BTreeMap;

// Fails if a file that can be set has no knob, a knob no file, or the documentation gives another
// range or other words than the table.
#[test]
fn knobs_are_those_that_are_documented() {
    let mut documented: BTreeMap<String, String> = documentation::entries()
        .into_iter()
        .filter(|(_, text)| text.starts_with("(RW)"))
        .flat_map(|(names, text)| names.into_iter().map(move |name| (name, text.clone())))
        .collect();
    for knob in KNOBS {
        let text = documented.remove(knob.name);
        let text = text.unwrap_or_else(|| panic!("{} is not documented", knob.name));
        match knob.takes {
            Takes::Words(words) => words.iter().for_each(|word| assert!(text.contains(word))),
            Takes::Number { min, max, .. } => {
                assert!(text.contains(&min.to_string()), "{}: {min}", knob.name);
                let max = max.to_string();
                let open = ["max_gvas_per_entry", "max_bytes_per_vm"].contains(&knob.name);
                assert!(open || text.contains(&max), "{}: {max}", knob.name);
            }
        }
        if knob.of_vm {
            let file = knob.file(Some(1)).replace("vms/1/", "vms/<id>/");
            assert!(
                documented.remove(&file).is_some(),
                "{file} is not documented"
            );
        }
    }
    // A verdict, not a choice.
    documented.remove("calibration");
    assert!(documented.is_empty(), "without a knob: {documented:?}");
}

// Fails if a wrong value is let through, a right one is refused, or the message does not help.
#[test]
fn values_are_checked() {
    let knob = |name| Knob::find(name).unwrap();
    for (name, good) in [
        ("clear_young/flush", "hint"),
        ("clear_young_flush", "invept"),
        ("batch_pages", "4096"),
        ("max_delay_ms", "0"),
        ("log_entries", "512"),
        ("max_bytes_per_vm", "0"),
        ("max_bytes_per_vm", "65536"),
    ] {
        assert_eq!(knob(name).check(good, false), Ok(()), "{name} {good}");
    }
    for (name, bad) in [
        ("clear_young/flush", "inherit"),
        ("batch_pages", "0"),
        ("batch_pages", "+1"),
        ("batch_pages", ""),
        ("max_delay_ms", "1001"),
        ("log_entries", "257"),
        ("max_bytes_per_vm", "1"),
        ("max_bytes_per_vm", "18446744073709551616"),
    ] {
        assert!(knob(name).check(bad, false).is_err(), "{name} {bad}");
    }
    assert_eq!(knob("clear_young/flush").check("inherit", true), Ok(()));
    assert!(knob("batch_pages").check("64", true).is_err());
    let typo = knob("clear_young/timing")
        .check("defered", false)
        .unwrap_err();
    assert!(
        typo.what.contains("did you mean deferred?"),
        "{}",
        typo.what
    );
    assert!(
        typo.what.contains("now, batched, deferred"),
        "{}",
        typo.what
    );
    let typo = Knob::find("batch_page").unwrap_err();
    assert!(
        typo.what.contains("did you mean batch_pages?"),
        "{}",
        typo.what
    );
}
