// SPDX-License-Identifier: GPL-2.0
//! The host's memory management: who ages, and what works against it.

use super::Findings;
use crate::host::Host;
use crate::numbers::{bytes, percent, share};
use crate::snapshot::{Snapshot, Vm};

/// Settings of the host.
pub fn check(host: &Host, findings: &mut Findings) {
    match host.text("/proc/sys/kernel/numa_balancing").as_deref() {
        Some("0") => findings.ok("numa", "NUMA balancing is off"),
        Some(mode) => findings.note(
            "numa",
            format!(
                "NUMA balancing is on (mode {mode}): it takes guest pages out of the EPT to see who touches them, \
                 with a full flush that hints cannot avoid"
            ),
            "unless memory tiering needs it: sysctl kernel.numa_balancing=0",
        ),
        None => {}
    }
    let lru_gen = host.text("/sys/kernel/mm/lru_gen/enabled");
    // The first bit is the main switch (Documentation/admin-guide/mm/multigen_lru.rst).
    let lru_gen =
        lru_gen.and_then(|mask| u32::from_str_radix(mask.trim_start_matches("0x"), 16).ok());
    let lru_gen = lru_gen.is_some_and(|mask| mask & 1 != 0);
    findings.ok(
        "ageing",
        match lru_gen {
            true => {
                "MGLRU is on: reclaim ages by clear_young, but huge pages of the host by clear_flush_young when it \
                 evicts them: set both"
            }
            false => "MGLRU is off: reclaim ages by clear_flush_young; page_idle and DAMON by clear_young",
        },
    );
}

/// What backs the VMs' memory.
pub fn check_guests(host: &Host, snapshot: &Snapshot, findings: &mut Findings) {
    let mut rest = 0;
    for vm in &snapshot.vms {
        match backing(host, vm) {
            Some((huge, all)) if huge > 0 => findings.note(
                "backing",
                format!(
                    "{}: {} of its {} ({}) are huge pages of the host. Ageing one of them drops a whole VPID, unless \
                     the guest maps it by one huge page, too",
                    vm.called(),
                    bytes(huge),
                    bytes(all),
                    percent(share(huge, all)),
                ),
                "nothing if that suits you; for exact ageing back this VM by 4K pages (madvise, or \
                 transparent_hugepage/enabled never before it starts)",
            ),
            Some(_) => {}
            None => rest += 1,
        }
    }
    if rest < snapshot.vms.len() && findings.0.iter().all(|finding| finding.about != "backing") {
        findings.ok("backing", "no huge pages behind the VMs' memory");
    }
}

/// Bytes of huge pages, and of all memory, of the VM's process.
fn backing(host: &Host, vm: &Vm) -> Option<(u64, u64)> {
    let text = host.of_process(vm.pid, "smaps_rollup")?;
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib << 10)
    };
    let kinds = [
        "AnonHugePages",
        "ShmemPmdMapped",
        "FilePmdMapped",
        "Private_Hugetlb",
        "Shared_Hugetlb",
    ];
    let hugetlb = field("Private_Hugetlb")? + field("Shared_Hugetlb").unwrap_or(0);
    let huge = kinds.iter().filter_map(|kind| field(kind)).sum();
    // hugetlbfs is not part of the resident set.
    Some((huge, field("Rss")? + hugetlb))
}
