// SPDX-License-Identifier: GPL-2.0
//! `get` and `set`.

mod common;

use common::{Host, GARBAGE, PERMISSION, PROGRAM, USAGE};
use std::fs;
use std::process::Command;

/// What docs/abi says of the module's files.
const ABI: &str = include_str!("../../../docs/abi/sysfs-kernel-gvahint");
/// How operators are told to save them.
const OPERATIONS: &str = include_str!("../../../docs/operations.md");

// Fails if the made-up host has another default than the module: what is tested on it would not be what it does.
#[test]
fn the_made_up_host_has_the_defaults() {
    let host = Host::loaded();
    let mut seen = 0;
    let mut check = |name: &str, default: &str| {
        let default = default.trim_end_matches(['.', ',']);
        assert_eq!(host.holds(name), default, "{name}");
        seen += 1;
    };
    for entry in ABI.split("What:").skip(1) {
        let mut words = entry
            .split_whitespace()
            .skip_while(|word| !word.starts_with("Default"));
        let path = entry.split_whitespace().next().unwrap();
        let name = path.trim_start_matches("/sys/kernel/gvahint/");
        match words.next() {
            Some("Default") => check(name, words.next().unwrap()),
            Some("Defaults:") => {
                let mut words = words.filter(|word| *word != "and");
                for notifier in ["clear_young", "clear_flush_young"] {
                    for knob in ["flush", "uncovered", "timing"] {
                        check(&format!("{notifier}/{knob}"), words.next().unwrap());
                    }
                }
            }
            _ => {}
        }
    }
    // The knobs, and the verdict.
    assert_eq!(seen, 15);
}

// Fails if a knob is missing, shows another's value, or one alone is not printed bare.
#[test]
fn get_shows_knobs() {
    let host = Host::with_vms();
    let ran = host.run(&["get"]).exits(0);
    assert_eq!(ran.out.lines().count(), 14, "{ran:#?}");
    ran.says(&["clear_young/timing = deferred\n", "max_bytes_per_vm = 0\n"]);
    assert_eq!(host.run(&["get", "clear_young/timing"]).out, "deferred\n");
    assert_eq!(host.run(&["get", "clear_young_timing"]).out, "deferred\n");
    let two = host.run(&["get", "batch_pages", "linear_alias"]);
    assert_eq!(two.out, "batch_pages = 64\nlinear_alias = always\n");
    let of_vm = host.run(&["get", "--vm", "1"]).exits(0);
    assert_eq!(of_vm.out.lines().count(), 6, "{of_vm:#?}");
    let json = host.run(&["get", "--json"]).json();
    assert_eq!(json["knobs"]["batch_pages"], "64");
    host.run(&["get", "--vm", "1", "batch_pages"])
        .exits(USAGE)
        .complains(&["no knob of single VMs"]);
}

// Fails if a value does not reach its file, or another file changes.
#[test]
fn set_sets() {
    let host = Host::with_vms();
    let before = host.run(&["get"]).out;
    let ran = host
        .run(&["set", "clear_young/flush", "invept", "batch_pages", "64"])
        .exits(0);
    assert_eq!(
        ran.out,
        "clear_young/flush: hint -> invept\nbatch_pages: 64, as before\n"
    );
    let due = before.replace("clear_young/flush = hint", "clear_young/flush = invept");
    assert_eq!(host.run(&["get"]).out, due);
    host.run(&["set", "--vm", "1", "clear_flush_young/timing", "now"])
        .exits(0);
    assert_eq!(host.holds("vms/1/clear_flush_young_timing"), "now");
    assert_eq!(host.holds("vms/2/clear_flush_young_timing"), "inherit");
    host.run(&["set", "--vm", "1", "clear_flush_young/timing", "inherit"])
        .exits(0);
    assert_eq!(host.holds("vms/1/clear_flush_young_timing"), "inherit");
}

// Fails if a number is not written as the module shows it, which is compared.
#[test]
fn zeros_in_front_do_not_count() {
    let host = Host::with_vms();
    let ran = host.run(&["set", "batch_pages", "0032"]).exits(0);
    assert_eq!(ran.out, "batch_pages: 64 -> 32\n");
    assert_eq!(host.holds("batch_pages"), "32");
}

// Fails if a value that is lost as soon as it is written stays unsaid, or what was written is not taken back.
#[test]
fn somebody_else_sets_it() {
    let host = Host::with_vms();
    let file = host.path("sys/kernel/gvahint/batch_pages");
    fs::remove_file(&file).unwrap();
    // One that gives each reader the old value, whatever was written.
    let made = Command::new("mkfifo").arg(&file).status();
    assert!(made.unwrap().success());
    let other = std::thread::spawn({
        let file = file.clone();
        move || {
            let open = || fs::File::options().write(true).open(&file).unwrap();
            let mut heard = Vec::new();
            for _ in 0..2 {
                std::io::Write::write_all(&mut open(), b"64\n").unwrap();
                heard.push(fs::read_to_string(&file).unwrap());
            }
            heard
        }
    });
    host.run(&["set", "max_delay_ms", "20", "batch_pages", "32"])
        .exits(1)
        .complains(&["batch_pages is 64 again", "max_delay_ms is 10 again"]);
    assert_eq!(other.join().unwrap(), ["32\n", "64\n"]);
    assert_eq!(host.holds("max_delay_ms"), "10");
}

// Fails if a typo is taken, the good part of the command is carried out, or no help is given.
#[test]
fn typos_change_nothing() {
    let host = Host::with_vms();
    for (arguments, said) in [
        (
            &["batch_page", "32"][..],
            &["did you mean batch_pages?", "clear_young/timing"][..],
        ),
        (
            &["clear_young/timing", "defered"],
            &["did you mean deferred?", "now, batched, deferred"],
        ),
        (
            &["clear_young/flush", "inherit"],
            &["it takes: default, none, hint", "--vm ID"],
        ),
        (&["batch_pages", "9999"], &["it takes: 1..4096"]),
        (&["log_entries", "1000"], &["a power of two, 256..65536"]),
        (&["batch_pages"], &["batch_pages has no value"]),
        (&["batch_pagez"], &["did you mean batch_pages?"]),
        (&[], &["Usage"]),
    ] {
        let command = [&["set", "max_delay_ms", "20"][..], arguments].concat();
        let command = if arguments.is_empty() {
            &["set"][..]
        } else {
            &command
        };
        host.run(command).exits(USAGE).complains(said);
        assert_eq!(host.holds("max_delay_ms"), "10", "{command:?}");
    }
}

// Fails if a change that can't be made leaves those before it in force, or is not told so.
#[test]
fn all_or_none() {
    let host = Host::with_vms();
    for (name, mode) in [
        ("batch_pages", 0o666),
        ("max_delay_ms", 0o666),
        ("lease_ms", 0o444),
    ] {
        host.mode(name, mode);
    }
    let command = [
        "set",
        "batch_pages",
        "32",
        "max_delay_ms",
        "20",
        "lease_ms",
        "500",
        "linear_alias",
        "never",
    ];
    host.run_unprivileged(&command)
        .exits(PERMISSION)
        .complains(&[
            "cannot write",
            "lease_ms",
            "nothing is changed",
            "batch_pages is 64 again",
            "max_delay_ms is 10 again",
        ]);
    let values =
        ["batch_pages", "max_delay_ms", "lease_ms", "linear_alias"].map(|name| host.holds(name));
    assert_eq!(values, ["64", "10", "10000", "always"]);
    // Without the one that fails it is a matter of course.
    host.run_unprivileged(&command[..5]).exits(0);
    assert_eq!(host.holds("max_delay_ms"), "20");
}

// Fails if a knob that holds garbage is overwritten: its old value could not be restored.
#[test]
fn garbage_is_not_overwritten() {
    let host = Host::with_vms();
    host.sysfs("linear_alias", "???");
    let command = ["set", "batch_pages", "32", "linear_alias", "never"];
    host.run(&command)
        .exits(GARBAGE)
        .complains(&["linear_alias holds \"???\""]);
    assert_eq!(host.holds("batch_pages"), "64");
}

// Fails if what is documented to save the knobs saves something else, or loses the file where `get` fails.
#[test]
fn saving_loses_nothing() {
    let help = Host::bare().run(&["get", "--help"]).exits(0).out;
    for text in [OPERATIONS, &help] {
        let mut lines = text.lines().map(str::trim);
        let line = lines
            .find(|line| line.starts_with("gvahintctl get >"))
            .unwrap();
        for (host, fails) in [(Host::bare(), true), (Host::with_vms(), false)] {
            let file = host.write("etc/gvahint.conf", "ours\n");
            let etc = format!("{}/", file.parent().unwrap().display());
            let root = host.path("");
            let program = format!("{PROGRAM} --root {} ", root.display());
            let line = line.replace("/etc/", &etc).replace("gvahintctl ", &program);
            let shell = Command::new("sh").args(["-c", &line]).status().unwrap();
            assert_eq!(shell.success(), !fails, "{line}");
            let due = match fails {
                true => "ours\n".to_owned(),
                false => host.run(&["get"]).out,
            };
            assert_eq!(fs::read_to_string(file).unwrap(), due, "{line}");
        }
    }
}

// Fails if a file that sets nothing passes for one that does, or for an error; or another for one that does not.
#[test]
fn a_file_sets_nothing() {
    let host = Host::with_vms();
    let before = host.run(&["get"]).out;
    for (content, due) in [
        ("", true),
        ("# batch_pages = 32\n\n", true),
        ("batch_pages = 64", false),
    ] {
        let file = host.write("gvahint.conf", content);
        let file = file.to_str().unwrap();
        let ran = host.run(&["set", "--file", file]).exits(0);
        let said = ran.err == format!("nothing is set in {file}\n");
        assert!(said == due && ran.err.is_empty() != due, "{ran:#?}");
        assert_eq!(ran.out.is_empty(), due, "{ran:#?}");
    }
    assert_eq!(host.run(&["get"]).out, before);
}

// Fails if what `get` prints can't be set again, or a bad line is taken or not named.
#[test]
fn a_file_of_knobs() {
    let host = Host::with_vms();
    let saved = host.run(&["get"]).out;
    host.run(&["set", "clear_young/flush", "none", "lease_ms", "100"])
        .exits(0);
    let file = host.write("gvahint.conf", &format!("# ours\n\n{saved}"));
    host.run(&["set", "--file", file.to_str().unwrap()])
        .exits(0);
    assert_eq!(host.run(&["get"]).out, saved);
    let file = host.write("gvahint.conf", "batch_pages = 32 # half\nlease_ms 100\n");
    host.run(&["set", "--file", file.to_str().unwrap()])
        .exits(USAGE)
        .complains(&["line 2", "lease_ms 100"]);
    let file = host.write("gvahint.conf", "batch_pages = 32\n\nlease_m = 100\n");
    host.run(&["set", "--file", file.to_str().unwrap()])
        .exits(USAGE)
        .complains(&["gvahint.conf: line 3", "did you mean lease_ms?"]);
    assert_eq!(host.holds("batch_pages"), "64");
    host.run(&["set", "--file", "/nonexistent"])
        .exits(USAGE)
        .complains(&["/nonexistent"]);
}
