// SPDX-License-Identifier: GPL-2.0

//! LINEAR and REPORT read naively, by include/uapi/gvahint.h: all that is wrong
//! with a range or set, not only what is found first.

use crate::models::map::{Linear, Report};
use gvahint_core::addr::{MapSize, VaBits};
use gvahint_core::report::Kind;
use gvahint_core::wire::Fault;

pub(crate) type Faults = Vec<(usize, Fault)>;

/// What sets are checked against.
pub(crate) struct Limits<'a> {
    pub(crate) bits: VaBits,
    pub(crate) max_gfn: u64,
    /// First frame and first beyond, of each memslot.
    pub(crate) memslots: &'a [(u64, u64)],
}

impl Limits<'_> {
    pub(crate) fn valid(&self, gfn: u64, pages: u64) -> bool {
        let within = |slot: &&(u64, u64)| slot.0 <= gfn && gfn + pages <= slot.1;
        self.memslots.iter().find(within).is_some()
    }
}

/// What is wrong with `bytes` bytes from a gVA.
fn gva_faults(at: usize, gva: u64, bytes: u128, bits: VaBits) -> Faults {
    let half = 1u128 << (bits.bits() - 1);
    let (first, end) = (u128::from(gva), u128::from(gva) + bytes);
    let mut faults = Vec::new();
    if end > 1 << 64 {
        faults.push((at, Fault::GvaOverflow));
    }
    if end > half && first < (1 << 64) - half {
        faults.push((at, Fault::NotCanonical));
    }
    faults
}

fn size(bytes: u64) -> Option<MapSize> {
    [MapSize::M4K, MapSize::M2M, MapSize::M1G]
        .into_iter()
        .find(|size| size.bytes() == bytes)
}

/// The ranges of LINEAR, or what is wrong with the first bad one.
pub(crate) fn linear(words: &[u64], bits: VaBits) -> Result<Vec<Linear>, Faults> {
    let mut list = Vec::new();
    for (n, range) in words.chunks_exact(4).enumerate() {
        let (at, [gpa, gva, len]) = (n * 4, [range[0], range[1], range[2]]);
        let Some(size) = size(range[3]) else {
            return Err(vec![(at + 3, Fault::PageSize)]);
        };
        let mut faults = Vec::new();
        if gpa % size.bytes() != 0 {
            faults.push((at, Fault::GpaAlign));
        }
        if gva % size.bytes() != 0 {
            faults.push((at + 1, Fault::GvaAlign));
        }
        if len == 0 || len % size.bytes() != 0 {
            faults.push((at + 2, Fault::RangeLen));
        }
        if u128::from(gpa) + u128::from(len) > 1 << 52 {
            faults.push((at, Fault::GpaOverflow));
        }
        faults.extend(gva_faults(at + 1, gva, len.into(), bits));
        if !faults.is_empty() {
            return Err(faults);
        }
        list.push(Linear {
            gfn: gpa >> 12,
            pages: len >> 12,
            gva,
            size,
        });
    }
    Ok(list)
}

/// The set that starts with a word, or all that is wrong with it.
pub(crate) fn set(words: &[u64], at: usize, limits: &Limits<'_>) -> Result<Report, Faults> {
    let header = words[at];
    let gfn = header % (1 << 40);
    let order = (header >> 40) % 64;
    let count = (header >> 50) as usize;
    let kinds = [
        Kind::Mapped,
        Kind::KernelOnly,
        Kind::PageTable,
        Kind::TooMany,
        Kind::Revoked,
        Kind::Anywhere,
    ];
    let kind = ((header >> 46) % 16).checked_sub(1);
    let kind = kind.and_then(|kind| kinds.get(kind as usize).copied());
    let mut faults = Vec::new();
    let mut bad = |wrong, fault| {
        if wrong {
            faults.push((at, fault));
        }
    };
    bad(kind.is_none(), Fault::Kind);
    bad(kind == Some(Kind::Mapped) && count == 0, Fault::NoGva);
    bad(
        kind != Some(Kind::Mapped) && count > 0,
        Fault::UnexpectedGva,
    );
    bad(count > 7, Fault::TooManyGvas);
    bad(order > 18, Fault::OrderTooLarge);
    bad(count > words.len() - at - 1, Fault::Truncated);
    let pages = 1u64 << order.min(40);
    bad(gfn % pages != 0, Fault::GpaAlign);
    bad(!limits.valid(gfn, pages), Fault::Memslot);
    bad(gfn + pages > limits.max_gfn, Fault::BeyondTable);
    let mut gvas = Vec::new();
    let list = words.get(at + 1..at + 1 + count).unwrap_or_default();
    for (n, word) in list.iter().enumerate() {
        let (at, gva, low) = (at + 1 + n, word & !0xfff, word & 0xfff);
        let Some(size) = size(0x1000u64.checked_shl(low as u32).unwrap_or(0)) else {
            faults.push((at, Fault::MapOrder));
            continue;
        };
        if gva % size.bytes().min(pages << 12) != 0 {
            faults.push((at, Fault::GvaAlign));
        }
        faults.extend(gva_faults(at, gva, u128::from(pages) << 12, limits.bits));
        gvas.push((gva, size));
    }
    match kind {
        Some(kind) if faults.is_empty() => Ok(Report {
            gfn,
            order: order as u32,
            kind,
            gvas,
        }),
        _ => Err(faults),
    }
}
