// SPDX-License-Identifier: GPL-2.0
//! The MultiProcessor table (Intel, version 1.4): how a guest without ACPI finds its CPUs.

use gvahint_vm::memory::Memory;

/// In the last kilobyte of base memory, where kernels look for it.
pub const FLOATING: u64 = 0x9_fc00;
const TABLE: u64 = FLOATING + 16;
/// Bytes up to here belong to the table.
pub const END: u64 = 0xa_0000;

const LAPIC: u32 = 0xfee0_0000;
const IOAPIC: u32 = 0xfec0_0000;
const VERSION: u8 = 0x14;
const ISA_IRQS: u8 = 16;
/// The 8254's output goes to pin 2, which ISA's cascade does not use.
const CASCADE: u8 = 2;

/// Writes the table for `cpus` CPUs whose APIC ids count from 0; the I/O APIC's id is the next.
pub fn write(memory: &Memory, cpus: u8) {
    let mut entries = Vec::new();
    let mut count: u16 = 0;
    let mut entry = |bytes: &[u8]| {
        entries.extend_from_slice(bytes);
        count += 1;
    };
    for cpu in 0..cpus {
        let flags = if cpu == 0 { 3 } else { 1 };
        let mut processor = [0; 20];
        processor[1..4].copy_from_slice(&[cpu, VERSION, flags]);
        entry(&processor);
    }
    entry(b"\x01\x00ISA   ");
    let mut ioapic = [2, cpus, VERSION, 1, 0, 0, 0, 0];
    ioapic[4..].copy_from_slice(&IOAPIC.to_le_bytes());
    entry(&ioapic);
    for irq in (0..ISA_IRQS).filter(|irq| *irq != CASCADE) {
        entry(&[3, 0, 0, 0, 0, irq, cpus, irq]);
    }
    // ExtINT and NMI of the local APICs.
    entry(&[4, 3, 0, 0, 0, 0, 0xff, 0]);
    entry(&[4, 1, 0, 0, 0, 0, 0xff, 1]);

    let mut table = Vec::from(*b"PCMP");
    let length = u16::try_from(44 + entries.len()).expect("a short table");
    table.extend(length.to_le_bytes());
    table.extend([4, 0]);
    table.extend(b"GVAHINT TEST VM     ");
    table.extend([0; 6]);
    table.extend(count.to_le_bytes());
    table.extend(LAPIC.to_le_bytes());
    table.extend([0; 4]);
    table.extend(entries);
    table[7] = checksum(&table);
    memory.write_bytes(TABLE, &table);

    let mut floating = Vec::from(*b"_MP_");
    floating.extend((TABLE as u32).to_le_bytes());
    floating.extend([1, 4, 0, 0, 0, 0, 0, 0]);
    floating[10] = checksum(&floating);
    memory.write_bytes(FLOATING, &floating);
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0u8, |sum, byte| sum.wrapping_add(*byte))
        .wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gvahint_vm::memory::Backing;

    // Fails if a length, a count or a checksum is off: the guest would ignore the table.
    #[test]
    fn table_is_consistent() {
        let memory = Memory::new(2 << 20, Backing::Small).unwrap();
        write(&memory, 3);
        let byte = |gpa: u64| memory.read(gpa & !7).to_le_bytes()[(gpa % 8) as usize];
        let sum = |gpa: u64, len: u64| (gpa..gpa + len).fold(0u8, |s, a| s.wrapping_add(byte(a)));
        assert_eq!(sum(FLOATING, 16), 0);
        let length = u64::from(byte(TABLE + 4)) | u64::from(byte(TABLE + 5)) << 8;
        assert_eq!(sum(TABLE, length), 0);
        assert_eq!(length, 44 + 3 * 20 + (1 + 1 + 15 + 2) * 8);
        assert_eq!(byte(TABLE + 34), 3 + 1 + 1 + 15 + 2);
        assert!(TABLE + length < END);
    }
}
