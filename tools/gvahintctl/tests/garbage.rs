// SPDX-License-Identifier: GPL-2.0
//! Each verb with files of the module that hold what they can't.

mod common;

use common::table::{host, TABLE};
use common::{Host, GARBAGE};

// Fails if a global file's garbage passes for a value, is overwritten, or the message names neither file nor content.
#[test]
fn a_global_file_holds_garbage() {
    for (name, content) in [
        ("batch_pages", "4097"),
        ("batch_pages", ""),
        ("clear_young/flush", "flush"),
        ("log_entries", "\u{7}x"),
        ("calibration", "Passed?"),
    ] {
        let host = host();
        host.sysfs(name, content);
        for row in TABLE {
            let ran = host.run(row.run);
            let read = match row.of_knobs() {
                true if row.run.len() > 1 => row.run.contains(&name),
                true => name != "calibration",
                false => true,
            };
            match read && row.garbage != row.well {
                true => row.tells(ran, row.garbage, &[&format!("{name} holds {content:?}")]),
                false => row.is_well(ran),
            };
            assert_eq!(host.holds(name), content);
        }
    }
}

// Fails if a VM's garbage passes for a value, is overwritten, hides the other VM, or is not reported.
#[test]
fn a_file_of_a_vm_holds_garbage() {
    for (name, content) in [
        ("clear_young_flush", "full"),
        ("pid", "-1"),
        ("state", "Live!"),
        ("coverage", "1.5"),
        ("coverage", "NaN"),
        ("stats/aged", "12x"),
        ("stats/aged", "18446744073709551616"),
    ] {
        let file = format!("vms/1/{name}");
        let host = host();
        host.sysfs(&file, content);
        for row in TABLE {
            let ran = host.run(row.run);
            let read = !row.of_knobs() || name == "clear_young_flush";
            if !read || row.vm_garbage == row.well {
                row.is_well(ran);
                continue;
            }
            let ran = row.tells(ran, row.vm_garbage, &[&format!("{file} holds {content:?}")]);
            assert!(!ran.out.contains("4242"), "{ran:#?}");
            assert!(!row.lists() || ran.out.contains("4343"), "{ran:#?}");
            assert_eq!(host.holds(&file), content);
        }
        host.run(&["explain", "--vm", "2"]).says(&["VM 2"]);
        host.run(&["get", "--vm", "2"]).exits(0);
        host.run(&["set", "--vm", "2", "clear_young/flush", "none"])
            .exits(0);
    }
}

// Fails if bytes that are no text end in a panic, or something else than a VM in the list is overlooked.
#[test]
fn bytes_and_strangers() {
    let bytes = |host: &Host| {
        let version = host.path("sys/kernel/gvahint/version");
        std::fs::write(version, [0xff, 0xfe]).unwrap();
    };
    let stranger = |host: &Host| host.sysfs("vms/none", "x");
    let cases: [(fn(&Host), _); 2] = [
        (bytes, ["version holds", "not text"]),
        (stranger, ["vms holds \"none\"", "numbers for names"]),
    ];
    for (make, told) in cases {
        let host = host();
        make(&host);
        for row in TABLE {
            let ran = host.run(row.run);
            match row.of_knobs() {
                true => row.is_well(ran),
                false => row.tells(ran, row.garbage, &told),
            };
        }
    }
}

// Fails if a long file makes a long message.
#[test]
fn a_file_is_long() {
    let host = Host::with_vms();
    host.sysfs("vms/1/state", &"X".repeat(10_000));
    let ran = host.run(&["status"]).exits(GARBAGE);
    assert!(ran.err.len() < 1000, "{}", ran.err.len());
}

// Fails if garbage in a file of the host's makes a verb panic, or doctor leave out the rest.
#[test]
fn a_file_of_the_host_holds_garbage() {
    for name in [
        "proc/sys/kernel/osrelease",
        "proc/cpuinfo",
        "proc/kallsyms",
        "proc/sys/kernel/numa_balancing",
        "proc/4242/comm",
        "proc/4242/smaps_rollup",
        "dev/cpu/0/msr",
        "sys/module/kvm_intel/parameters/eptad",
        "sys/kernel/mm/lru_gen/enabled",
        "sys/devices/system/cpu/nohz_full",
    ] {
        let host = host();
        host.write(name, "");
        std::fs::write(host.path(name), b"\xff\xfe: \n\0").unwrap();
        for row in TABLE.iter().filter(|row| row.lists()) {
            let ran = host.run(row.run);
            assert_eq!(ran.code, row.well, "{name}: {ran:#?}");
            assert!(ran.err.is_empty(), "{name}: {ran:#?}");
            let all = ran.out.contains("4242") && ran.out.contains("4343");
            assert!(all, "{name}: {ran:#?}");
        }
    }
}
