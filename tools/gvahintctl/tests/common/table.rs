// SPDX-License-Identifier: GPL-2.0
//! Each verb, and what it exits with in each trouble.

use super::{squeezed, Host, Ran};

/// A verb as it is run on a made-up host, and its exit codes.
pub struct Row {
    pub run: &'static [&'static str],
    /// With nothing worse than VM 2, which does not report.
    pub well: i32,
    /// Without the module.
    pub missing: i32,
    /// If nothing may be read.
    pub denied: i32,
    /// If VM 1 vanishes while it is read.
    pub vanishes: i32,
    /// If a file of the module that it reads holds garbage.
    pub garbage: i32,
    /// If a file of VM 1 that it reads does.
    pub vm_garbage: i32,
}

const fn row(run: &'static [&'static str], codes: [i32; 6]) -> Row {
    let [well, missing, denied, vanishes, garbage, vm_garbage] = codes;
    Row {
        run,
        well,
        missing,
        denied,
        vanishes,
        garbage,
        vm_garbage,
    }
}

/// All verbs. `doctor` reports trouble as problems that it found. `calibrate` comes as far as to say that it
/// measures no made-up host; what VMs are there is not its business.
pub const TABLE: &[Row] = &[
    // well, missing, denied, vanishes, garbage, vm_garbage
    row(&["status"], [0, 3, 4, 0, 6, 6]),
    row(&["status", "--json"], [0, 3, 4, 0, 6, 6]),
    row(&["top", "--once", "--interval", "0.1"], [0, 3, 4, 0, 6, 6]),
    row(
        &["top", "--once", "--json", "--interval", "0.1"],
        [0, 3, 4, 0, 6, 6],
    ),
    row(&["get"], [0, 3, 4, 0, 6, 0]),
    row(&["get", "batch_pages"], [0, 3, 4, 0, 6, 0]),
    row(&["get", "--vm", "1"], [0, 3, 4, 5, 0, 6]),
    row(&["set", "batch_pages", "32"], [0, 3, 4, 0, 6, 0]),
    row(
        &["set", "--vm", "1", "clear_young/flush", "none"],
        [0, 3, 4, 5, 0, 6],
    ),
    row(&["explain"], [0, 3, 4, 0, 6, 6]),
    row(&["explain", "--interval", "0.1"], [0, 3, 4, 0, 6, 6]),
    row(&["explain", "--vm", "1"], [0, 3, 4, 5, 6, 6]),
    row(
        &["explain", "--vm", "1", "--interval", "0.1"],
        [0, 3, 4, 5, 6, 6],
    ),
    row(&["doctor"], [7, 1, 1, 7, 1, 1]),
    row(&["calibrate"], [2, 3, 4, 2, 6, 2]),
    row(&["export"], [0, 3, 4, 0, 6, 6]),
];

impl Row {
    pub fn verb(&self) -> &'static str {
        self.run[0]
    }

    /// Whether it is about one VM.
    pub fn of_vm(&self) -> bool {
        self.run.contains(&"--vm")
    }

    /// Whether it is about knobs, and reads no other files.
    pub fn of_knobs(&self) -> bool {
        ["get", "set"].contains(&self.verb())
    }

    /// Whether it shows all VMs.
    pub fn lists(&self) -> bool {
        !self.of_vm() && !self.of_knobs() && self.verb() != "calibrate"
    }

    /// Fails unless a run of it exited so, and said these texts where it tells of trouble.
    #[track_caller]
    pub fn tells(&self, ran: Ran, code: i32, texts: &[&str]) -> Ran {
        let run = self.run;
        assert_eq!(ran.code, code, "{run:?}: {ran:#?}");
        let told = match self.verb() {
            "doctor" => squeezed(&ran.out),
            _ => squeezed(&ran.err),
        };
        for text in texts {
            assert!(told.contains(text), "{run:?}: no {text:?} in {ran:#?}");
        }
        ran
    }

    /// Fails unless a run of it exited as where all is well, and told of no trouble.
    #[track_caller]
    pub fn is_well(&self, ran: Ran) -> Ran {
        let ran = self.tells(ran, self.well, &[]);
        match self.verb() {
            "calibrate" => assert!(ran.err.contains("measures this machine"), "{ran:#?}"),
            "doctor" => assert!(ran.out.contains("0 problems"), "{ran:#?}"),
            _ => assert!(ran.err.is_empty(), "{:?}: {ran:#?}", self.run),
        }
        ran
    }
}

/// A fit host with VM 1, which reports, and VM 2, which does not.
pub fn host() -> Host {
    let host = Host::with_vms();
    host.fit();
    host
}
