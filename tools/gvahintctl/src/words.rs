// SPDX-License-Identifier: GPL-2.0
//! What the module's words mean, and what to do about them.

/// A word, its meaning and a remedy; both end a sentence.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// As the module has it.
    pub name: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// What helps, if anything is to be done.
    pub remedy: Option<&'static str>,
}

const fn word(name: &'static str, meaning: &'static str, remedy: &'static str) -> Word {
    Word {
        name,
        meaning,
        remedy: Some(remedy),
    }
}

const fn fine(name: &'static str, meaning: &'static str) -> Word {
    Word {
        name,
        meaning,
        remedy: None,
    }
}

macro_rules! reporter {
    ($more:literal) => {
        concat!(
            "load gvahint_guest in the guest (modprobe gvahint_guest; its kernel needs the patches) \
             and look at /sys/kernel/gvahint_guest/ there",
            $more
        )
    };
}
/// Remedy where a guest has to begin (again).
const REPORTER: &str = reporter!("");
/// The same where it may have tried.
const REFUSED: &str = reporter!(
    "; if error_e2big rises there every 5 s, as `rejected` does here, log_entries do not fit into max_bytes_per_vm: \
     raise that, or lower log_entries; if error_einval does, install the gvahint_guest of the host's build"
);
const HARDWARE: &str =
    "none on these CPUs: set flush to invept or context, see `gvahintctl doctor`";

const CALIBRATED: &str = "none on these CPUs; /etc/gvahint.conf should set flush to what suffices, since the verdict is gone at \
     reboot. After a microcode update: gvahintctl calibrate --apply";

/// What `vms/<id>/state` says.
pub const STATES: &[Word] = &[
    fine("live", "its hints are used"),
    word("silent", "the guest never said HELLO, said BYE, or was refused", REFUSED),
    word("no-linear", "the guest said HELLO and not LINEAR yet", "wait a second; if it stays, see the guest's log"),
    word(
        "lapsed",
        "the guest was silent for longer than lease_ms: it hangs, was reset, or runs another system now",
        REPORTER,
    ),
    word("no-gva-flush", "this host's CPUs cannot drop single addresses", HARDWARE),
    word(
        "degraded",
        "a canary of the guest's was lost: dropping its address alone did not bring the accessed bit back. \
         `hint` is as `invept` here until the guest says HELLO again",
        "run `gvahintctl calibrate` if you doubt it; if it is right, set flush to invept for all VMs",
    ),
    word(
        "calibration-failed",
        "calibration has shown that dropping single addresses does not suffice on this host's CPUs; `hint` is \
         as `context` or `invept`, whichever does",
        CALIBRATED,
    ),
];

/// Why pages were uncovered: `stats/uncovered_<name>`.
pub const REASONS: &[Word] = &[
    word(
        "no_hint",
        "the guest has not reported them, or took it back",
        "normal for new pages; if it stays high, the guest can't keep up or has memory that it does not \
         report: see /sys/kernel/gvahint_guest/ in the guest. sets_refused > 0: raise max_bytes_per_vm",
    ),
    word(
        "aged",
        "their hints are older than hint_max_age_ms",
        "raise hint_max_age_ms, unless the guest fails to report them again when asked",
    ),
    word(
        "kernel_only",
        "only the guest's kernel reaches them, and its linear ranges don't count or don't hold them",
        "set linear_alias to always, if it is never",
    ),
    word(
        "page_table",
        "they are page tables of the guest, which no address leads to, beyond the quota that is kept young",
        "none: the quota is 1/256 of the VM's memory",
    ),
    word(
        "large_leaf",
        "the host backs them by a huge page of which the guest reported a part only, or that has page \
         tables in it and is beyond the quota",
        "wait for the guest to report the rest; if it stays, back this VM by 4K pages (the quota is 1/256 of its \
         memory, at most 1 GiB)",
    ),
    word("no_session", "the guest had no session, or it had lapsed", REPORTER),
    word("no_linear", "the guest had not said LINEAR", "normal while a guest starts"),
    word("no_gva_flush", "the CPU cannot drop single addresses", HARDWARE),
    word(
        "no_room",
        "they lie beyond the table's end, or there was no log",
        "memory was added after HELLO: reload gvahint_guest in the guest",
    ),
    word("race", "their hints changed while they were read", "none: rare, and counted as uncovered to be safe"),
    word(
        "degraded",
        "a canary of the guest's was lost, so its hints are not used",
        "run `gvahintctl calibrate`; if this CPU does need INVEPT, set flush to invept",
    ),
    word(
        "calibration",
        "calibration has shown that single addresses do not suffice on this host's CPUs",
        CALIBRATED,
    ),
];

/// The word of that name.
pub fn find(words: &'static [Word], name: &str) -> Option<&'static Word> {
    words.iter().find(|word| word.name == name)
}

/// What a state means, also one that is not known here.
pub fn state(name: &str) -> &'static str {
    find(STATES, name).map_or(
        "a state that this version of gvahintctl does not know",
        |word| word.meaning,
    )
}
