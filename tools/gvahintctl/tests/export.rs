// SPDX-License-Identifier: GPL-2.0
//! `export` and `generate`.

mod common;

use common::{Host, NOT_LOADED, PERMISSION};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// The values of an exposition by metric and labels. Fails where the text is not of the format: a name or
/// label that it does not allow, a value that is no number, a metric without type, in two places or twice.
fn parsed(text: &str) -> BTreeMap<String, f64> {
    let is_name = |name: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !name.is_empty()
            && name.chars().all(plain)
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let (mut values, mut done, mut current) = (BTreeMap::new(), BTreeSet::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let words: Vec<_> = rest.splitn(3, ' ').collect();
            if words[0] == "TYPE" {
                assert!(["gauge", "counter"].contains(&words[2]), "{line}");
                assert!(
                    words[2] != "counter" || words[1].ends_with("_total"),
                    "{line}"
                );
                assert!(done.insert(words[1].to_owned()), "twice: {line}");
                words[1].clone_into(&mut current);
            } else {
                assert_eq!(words[0], "HELP", "{line}");
                assert!(words.len() == 3 && !words[2].is_empty(), "{line}");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        assert!(is_name(name) && name == current, "{line}");
        let labels = labels.strip_suffix('}').unwrap();
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(
                is_name(key) && !value.trim_end_matches('"').contains('"'),
                "{line}"
            );
        }
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(
            values.insert(series.to_owned(), value).is_none(),
            "twice: {line}"
        );
    }
    values
}

// Fails if the text is not of the format, or a value is missing or another's.
#[test]
fn text_is_of_the_format() {
    let host = Host::with_vms();
    host.sysfs("vms/2/clear_young_timing", "now");
    host.stat(1, "brand_new", 11);
    let values = parsed(&host.run(&["export"]).exits(0).out);
    for (series, value) in [
        ("gvahint_up", 1.0),
        ("gvahint_vms", 2.0),
        (
            "gvahint_info{version=\"0.1.0\",calibration=\"uncalibrated\"}",
            1.0,
        ),
        ("gvahint_knob{knob=\"batch_pages\"}", 64.0),
        (
            "gvahint_vm_info{vm=\"1\",pid=\"4242\",process=\"qemu-system-x86\"}",
            1.0,
        ),
        (
            "gvahint_vm_state{vm=\"1\",pid=\"4242\",state=\"live\"}",
            1.0,
        ),
        (
            "gvahint_vm_state{vm=\"1\",pid=\"4242\",state=\"silent\"}",
            0.0,
        ),
        (
            "gvahint_vm_state{vm=\"2\",pid=\"4343\",state=\"silent\"}",
            1.0,
        ),
        ("gvahint_vm_coverage_ratio{vm=\"1\",pid=\"4242\"}", 0.999),
        ("gvahint_vm_bytes{vm=\"1\",pid=\"4242\"}", 2_200_000.0),
        ("gvahint_vm_drained_full_total{vm=\"1\",pid=\"4242\"}", 7.0),
        ("gvahint_vm_drained_full_total{vm=\"2\",pid=\"4343\"}", 0.0),
        (
            "gvahint_vm_uncovered_by_reason_total{vm=\"1\",pid=\"4242\",reason=\"no_hint\"}",
            3.0,
        ),
        ("gvahint_vm_brand_new_total{vm=\"1\",pid=\"4242\"}", 11.0),
    ] {
        assert_eq!(values.get(series), Some(&value), "{series}");
    }
    let policy = "notifier=\"clear_young\",flush=\"hint\",uncovered=\"full\"";
    for (vm, timing) in [
        ("vm=\"1\",pid=\"4242\"", "deferred"),
        ("vm=\"2\",pid=\"4343\"", "now"),
    ] {
        let series = format!("gvahint_vm_policy_info{{{vm},{policy},timing=\"{timing}\"}}");
        assert!(values.contains_key(&series), "{series}");
    }
    assert!(!values
        .keys()
        .any(|series| series.contains("coverage_ratio{vm=\"2\"")));
}

// Fails if a process can name itself so that labels break.
#[test]
fn processes_name_themselves() {
    let host = Host::with_vms();
    host.write("proc/4242/comm", "a\"} 7\\\n");
    let ran = host.run(&["export"]).exits(0);
    assert!(ran.out.contains(r#"process="a\"} 7\\"} 1"#), "{ran:#?}");
}

// Fails if the file is not replaced as a whole, is not readable by the exporter, or leaves others behind.
#[test]
fn a_file_is_replaced() {
    let host = Host::with_vms();
    let file = host.write("textfiles/gvahint.prom", "old");
    let before = fs::File::open(&file).unwrap();
    let ran = host
        .run(&["export", "--output", file.to_str().unwrap()])
        .exits(0);
    assert!(ran.out.is_empty(), "{ran:#?}");
    assert!(parsed(&fs::read_to_string(&file).unwrap()).contains_key("gvahint_up"));
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o644
    );
    // Who reads the old file reads all of it.
    assert_eq!(std::io::read_to_string(before).unwrap(), "old");
    assert_eq!(fs::read_dir(host.path("textfiles")).unwrap().count(), 1);
}

// Fails if what was exported while the module was there goes on looking current.
#[test]
fn a_missing_module_is_exported() {
    let host = Host::bare();
    let file = host.write("gvahint.prom", "gvahint_up 1\n");
    host.run(&["export", "--output", file.to_str().unwrap()])
        .exits(NOT_LOADED);
    let values = parsed(&fs::read_to_string(&file).unwrap());
    assert_eq!(
        values.into_iter().collect::<Vec<_>>(),
        [("gvahint_up".to_owned(), 0.0)]
    );
}

// Fails if a file that can't or may not be written is taken for written, or not named.
#[test]
fn a_file_can_not_be_written() {
    let host = Host::with_vms();
    host.run(&["export", "--output", "/nonexistent/x.prom"])
        .exits(1)
        .complains(&["/nonexistent/x.prom"]);
    let file = host.write("closed/gvahint.prom", "old");
    let closed = fs::Permissions::from_mode(0o555);
    fs::set_permissions(host.path("closed"), closed).unwrap();
    host.run_unprivileged(&["export", "--output", file.to_str().unwrap()])
        .exits(PERMISSION)
        .complains(&["cannot write", "closed/gvahint.prom"]);
    assert_eq!(fs::read_to_string(file).unwrap(), "old");
}

// Fails if an alarm that docs/operations.md proposes asks for what is not exported.
#[test]
fn alarms_ask_for_what_there_is() {
    let document = |name: &str| {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
        fs::read_to_string(format!("{root}/{name}")).unwrap()
    };
    // The module has the counters that are documented: tests/selftest compares.
    let (host, abi) = (Host::with_vms(), document("abi/sysfs-kernel-gvahint"));
    for counter in ["hello", "rejected", "covered", "uncovered", "drained_full"] {
        let documented = abi.split_whitespace().any(|word| word == counter);
        assert!(documented, "no {counter}");
        host.stat(1, counter, 0);
    }
    let exported = host.run(&["export"]).exits(0).out;
    let page = document("operations.md");
    let (_, alarms) = page.split_once("| alarm | expression |").unwrap();
    let (alarms, _) = alarms.split_once("\n\n").unwrap();
    let words = alarms.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics: Vec<_> = words.filter(|word| word.starts_with("gvahint_")).collect();
    assert!(metrics.len() > 9, "{metrics:?}");
    for metric in metrics {
        let there = exported.contains(&format!("\n# TYPE {metric} "));
        assert!(there, "no {metric} in {exported}");
    }
}

// Fails if a verb has no manual page or completion, or a page lacks exit codes or examples.
#[test]
fn manual_pages_and_completions() {
    let host = Host::bare();
    let out = host.path("generated");
    host.run(&["generate", out.to_str().unwrap()]).exits(0);
    let read = |name: &str| {
        fs::read_to_string(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let verbs = common::verbs();
    for verb in &verbs {
        let page = read(&format!("man1/gvahintctl-{verb}.1"));
        assert!(
            page.contains(".SH EXAMPLES") && page.contains(".TH"),
            "{page}"
        );
    }
    let page = read("man1/gvahintctl.1");
    for text in [".SH NOTES", "the module is not loaded", "NO_COLOR"] {
        assert!(page.contains(text), "no {text}: {page}");
    }
    for file in ["gvahintctl.bash", "_gvahintctl", "gvahintctl.fish"] {
        let text = read(&format!("completions/{file}"));
        assert!(verbs.iter().all(|verb| text.contains(&**verb)), "{file}");
    }
    let bash = out.join("completions/gvahintctl.bash");
    assert!(std::process::Command::new("bash")
        .arg("-n")
        .arg(bash)
        .status()
        .unwrap()
        .success());
}
