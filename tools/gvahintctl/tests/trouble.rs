// SPDX-License-Identifier: GPL-2.0
//! Each verb without the module, without permission, with a VM that vanishes. For garbage see garbage.rs.

mod common;

use common::table::{host, Row, TABLE};
use common::{verbs, Host, Ran, NO_VM, PERMISSION};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

// Fails if there is a verb that no trouble is made for, or that takes --vm and no VM is taken away from.
#[test]
fn no_verb_is_left_out() {
    let of_vm = |verb: &String| {
        let help = Host::bare().run(&[verb, "--help"]).exits(0).out;
        help.contains("--vm <ID>")
    };
    let verbs: BTreeSet<_> = verbs().into_iter().collect();
    let in_table = |wanted: fn(&&Row) -> bool| -> BTreeSet<_> {
        let rows = TABLE.iter().filter(wanted);
        rows.map(|row| row.verb().to_owned()).collect()
    };
    assert_eq!(verbs, in_table(|_| true));
    let verbs: BTreeSet<_> = verbs.into_iter().filter(of_vm).collect();
    assert_eq!(verbs, in_table(|row| row.of_vm()));
}

// Fails if a verb finds trouble where there is none: in the tests below it would find something else than meant.
#[test]
fn there_is_none() {
    let host = host();
    for row in TABLE {
        let ran = row.is_well(host.run(row.run));
        assert!(!row.lists() || (ran.out.contains("4242") && ran.out.contains("4343")));
    }
}

/// The last exit code: of calibrate, whose tests are in tests/selftest.
const CALIBRATE_LAST: i32 = 9;

// Fails if an exit code is not documented, or for doctor, which has others, otherwise than it is.
#[test]
fn exit_codes_are_documented() {
    let host = Host::bare();
    let out = host.path("generated");
    host.run(&["generate", out.to_str().unwrap()]).exits(0);
    let page = |name: &str| fs::read_to_string(out.join("man1").join(name)).unwrap();
    let help = |arguments: &[&str]| host.run(arguments).exits(0).out;
    for text in [help(&["--help"]), page("gvahintctl.1")] {
        for row in TABLE {
            for code in [row.well, row.missing, row.denied, row.vanishes, row.garbage] {
                assert!((0..=CALIBRATE_LAST).contains(&code), "{code}");
            }
        }
        for code in 0..=CALIBRATE_LAST {
            let documented = text.contains(&format!("\n  {code}  "));
            assert!(documented, "no {code} in {text}");
        }
        let also = "doctor: found a problem (also where others exit with 3, 4 or 6)";
        assert!(text.contains(also), "{text}");
    }
    for text in [help(&["doctor", "--help"]), page("gvahintctl-doctor.1")] {
        let text = common::squeezed(&text);
        for due in [
            "0 all ok, 7 notes, 1 a problem",
            "A missing module, missing permission and garbage are problems",
        ] {
            assert!(text.contains(due), "{text}");
        }
    }
}

// Fails if a verb does not say that the module is missing and how to load it, by text and exit code.
#[test]
fn the_module_is_missing() {
    let host = Host::bare();
    host.fit();
    for row in TABLE {
        let load = match row.verb() {
            "doctor" => [
                "install gvahint-modules-6.12.99-test, or boot the kernel",
                "operations.md (/usr/share/doc/gvahint, docs/ of the source)",
            ],
            _ => ["modprobe gvahint", "gvahintctl doctor"],
        };
        let ran = row.tells(host.run(row.run), row.missing, &["gvahint is not loaded"]);
        row.tells(ran, row.missing, &load);
    }
}

// Fails if nobody who reads what is wrong makes it worse: that the module is missing is still told by the exit code.
#[test]
fn nobody_reads_what_is_wrong() {
    let host = Host::bare();
    for row in TABLE {
        let (gone, stderr) = UnixStream::pair().unwrap();
        drop(gone);
        let mut program = host.program(row.run);
        let ran = program.stderr(OwnedFd::from(stderr)).stdout(Stdio::null());
        let code = ran.status().unwrap().code();
        assert_eq!(code, Some(row.missing), "{:?}", row.run);
    }
}

// Fails if a VM's process, which gives itself a name, can have a verb write to the terminal what controls it.
#[test]
fn a_process_calls_itself_an_escape() {
    let host = host();
    host.write("proc/4242/comm", "\u{1b}]0;x\u{7}\n\u{9b}1m\n");
    let mut named = 0;
    for row in TABLE {
        let out = row.is_well(host.run(row.run)).out;
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!out.contains(control), "{:?}: {out:?}", row.run);
        named += u32::from(out.contains("\u{fffd}]0;x\u{fffd}\u{fffd}\u{fffd}1m"));
    }
    assert!(named >= 9, "{named}");
}

// Fails if a verb that may not read takes that for something else, or does not say what to do.
#[test]
fn there_is_no_permission_to_read() {
    let host = host();
    for row in TABLE {
        host.modes(0);
        let told = ["cannot read", "sys/kernel/gvahint/", "run it as root"];
        row.tells(host.run_unprivileged(row.run), row.denied, &told);
        // The same files are no trouble for who may read them.
        host.modes(0o666);
        row.is_well(host.run_unprivileged(row.run));
    }
}

// Fails if a verb needs to write that only shows, or one that may not write takes that for something else.
#[test]
fn there_is_no_permission_to_write() {
    let host = host();
    let before = host.run(&["status", "--json"]).out;
    host.modes(0o444);
    for row in TABLE {
        let ran = host.run_unprivileged(row.run);
        match row.verb() {
            "set" => {
                let told = ["cannot write", "nothing was changed", "run it as root"];
                row.tells(ran, PERMISSION, &told)
            }
            _ => row.is_well(ran),
        };
    }
    assert_eq!(host.run(&["status", "--json"]).out, before);
}

// Fails if a VM that is listed and gone disturbs a list, or the others are missing from it.
#[test]
fn a_vm_vanishes_from_lists() {
    let host = host();
    host.vanished(7);
    for row in TABLE {
        let ran = row.is_well(host.run(row.run));
        assert!(!row.lists() || (ran.out.contains("4242") && ran.out.contains("4343")));
        assert!(!ran.out.contains("VM 7"), "{ran:#?}");
    }
}

/// Runs a verb; takes VM 1 away as soon as the verb has opened the first of its knobs.
fn run_while_it_vanishes(host: &Host, row: &Row) -> Ran {
    const O_NONBLOCK: i32 = 0o4000;
    let pipe = host.path("sys/kernel/gvahint/vms/1/clear_young_flush");
    fs::remove_file(&pipe).unwrap();
    assert!(Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap()
        .success());
    let mut program = host.program(row.run);
    program.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = program.spawn().unwrap();
    // Fails until somebody reads. Its reading ends when this is closed, after the VM.
    let open = || {
        let mut options = fs::File::options();
        options.write(true).custom_flags(O_NONBLOCK).open(&pipe)
    };
    while program.try_wait().unwrap().is_none() {
        if let Ok(mut knob) = open() {
            host.kill(1);
            knob.write_all(b"inherit\n").unwrap();
            break;
        }
        sleep(Duration::from_millis(2));
    }
    program.wait_with_output().unwrap().into()
}

// Fails if a VM that goes while it is read ends a verb that is about all, is shown by halves, or passes for
// another trouble where it was named.
#[test]
fn a_vm_vanishes_while_it_is_read() {
    for row in TABLE {
        let host = host();
        let ran = run_while_it_vanishes(&host, row);
        if row.vanishes == NO_VM {
            row.tells(ran, NO_VM, &["there is no VM 1", "there are: 2"]);
            continue;
        }
        let ran = row.is_well(ran);
        assert!(!ran.out.contains("4242"), "{ran:#?}");
        assert!(!row.lists() || ran.out.contains("4343"), "{ran:#?}");
        let read = !host.path("sys/kernel/gvahint/vms/1").exists();
        assert_eq!(read, !row.of_knobs(), "{:?} has to look at VM 1", row.run);
    }
}

// Fails if a VM that was named and is not there is no failure, or the others are not listed.
#[test]
fn a_vm_that_was_named_is_gone() {
    let host = host();
    host.vanished(7);
    for id in ["7", "99"] {
        for row in TABLE.iter().filter(|row| row.of_vm()) {
            let named = |word: &&'static str| if *word == "1" { id } else { *word };
            let run: Vec<_> = row.run.iter().map(named).collect();
            let there_is_none = format!("there is no VM {id}");
            let told = [&*there_is_none, "1, 2", "gvahintctl status"];
            row.tells(host.run(&run), NO_VM, &told);
        }
    }
}

// Fails if a VM that goes during the interval is explained all the same, or leaves a puzzle.
#[test]
fn a_vm_vanishes_while_it_is_watched() {
    let host = Host::with_vms();
    let mut explain = host.program(&["explain", "--vm", "1", "--interval", "1"]);
    let explain = explain.stderr(Stdio::piped()).spawn().unwrap();
    sleep(Duration::from_millis(300));
    host.kill(1);
    let ran = Ran::from(explain.wait_with_output().unwrap());
    ran.exits(NO_VM).complains(&["there is no VM 1"]);
}
