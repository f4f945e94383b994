// SPDX-License-Identifier: GPL-2.0
//! What is around the module on a host that is fit for it.

use super::Host;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// IA32_VMX_EPT_VPID_CAP of a CPU that has everything: EPT A/D, INVEPT and INVVPID of all types.
pub const ALL: u64 = 1 << 21 | 7 << 25 | 1 << 32 | 0xf << 40;

impl Host {
    /// All is well here, but for the module's directory, which is left as it is.
    pub fn fit(&self) {
        self.write("proc/sys/kernel/osrelease", "6.12.99-test\n");
        let cpu = "vendor_id\t: GenuineIntel\nmodel name\t: A CPU\nflags\t\t: fpu vmx\n\
                   vmx flags\t: vnmi invvpid ept_ad ept vpid\n";
        self.write("proc/cpuinfo", cpu);
        self.msr(ALL);
        self.write(
            "proc/kallsyms",
            "0 T start\n0 t kvm_age_registered\t[kvm]\n0 T kvm_age_register\t[kvm]\n",
        );
        for name in ["ept", "eptad", "vpid"] {
            self.write(&format!("sys/module/kvm_intel/parameters/{name}"), "Y\n");
        }
        self.write("sys/module/kvm/parameters/tdp_mmu", "Y\n");
        self.write("proc/sys/kernel/numa_balancing", "0\n");
        self.write("sys/kernel/mm/lru_gen/enabled", "0x0007\n");
    }

    /// What the CPU says of EPT and VPID.
    pub fn msr(&self, word: u64) {
        let path = self.write("dev/cpu/0/msr", "");
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(&word.to_le_bytes(), 0x48c).unwrap();
    }
}
