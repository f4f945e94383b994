// SPDX-License-Identifier: GPL-2.0

//! The crate's numbers are those of include/uapi/gvahint.h, all of them.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::panic)]

use gvahint_core::addr;
use gvahint_core::canary;
use gvahint_core::linear::LinearList;
use gvahint_core::report::Kind;
use gvahint_core::wire::*;
use std::collections::BTreeMap;

fn header() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../include/uapi/gvahint.h");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_constant_of_the_header() {
    let text = header();
    let mut defines = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("#define") {
            continue;
        }
        let name = words.next().unwrap();
        if let Some(value) = words.next().and_then(|word| word.parse::<u64>().ok()) {
            defines.insert(name, value);
        }
    }
    let kind = |kind| (0..16).find(|n| Kind::from_wire(*n) == Some(kind)).unwrap();
    let ours = [
        ("KVM_HC_GVA_HINT", 100),
        ("GVAHINT_ABI_VERSION", u64::from(ABI_VERSION)),
        ("GVAHINT_ESTALE", Errno::Stale.value().unsigned_abs()),
        ("GVAHINT_OP_LINEAR", OP_LINEAR),
        ("GVAHINT_LINEAR_KEPT", LINEAR_KEPT),
        ("GVAHINT_OP_REPORT", OP_REPORT),
        ("GVAHINT_OP_CANARY", OP_CANARY),
        ("GVAHINT_CANARY_OK", canary::CAME_BACK.unsigned_abs()),
        ("GVAHINT_CANARY_LOST", canary::LOST.unsigned_abs()),
        (
            "GVAHINT_CANARY_INCONCLUSIVE",
            canary::INCONCLUSIVE.unsigned_abs(),
        ),
        ("GVAHINT_OP_BYE", OP_BYE),
        ("GVAHINT_OP_OUT", OP_OUT),
        ("GVAHINT_OP_HELLO", OP_HELLO),
        ("GVAHINT_OP_WANTED", OP_WANTED),
        ("GVAHINT_SET_GFN_BITS", u64::from(SET_GFN_BITS)),
        ("GVAHINT_SET_ORDER_SHIFT", u64::from(SET_ORDER_SHIFT)),
        ("GVAHINT_SET_ORDER_BITS", u64::from(SET_ORDER_BITS)),
        ("GVAHINT_SET_KIND_SHIFT", u64::from(SET_KIND_SHIFT)),
        ("GVAHINT_SET_KIND_BITS", u64::from(SET_KIND_BITS)),
        ("GVAHINT_SET_COUNT_SHIFT", u64::from(SET_COUNT_SHIFT)),
        ("GVAHINT_SET_COUNT_BITS", u64::from(SET_COUNT_BITS)),
        ("GVAHINT_GVA_ORDER_BITS", u64::from(GVA_ORDER_BITS)),
        ("GVAHINT_KIND_MAPPED", kind(Kind::Mapped)),
        ("GVAHINT_KIND_KERNEL_ONLY", kind(Kind::KernelOnly)),
        ("GVAHINT_KIND_PAGE_TABLE", kind(Kind::PageTable)),
        ("GVAHINT_KIND_TOO_MANY", kind(Kind::TooMany)),
        ("GVAHINT_KIND_REVOKED", kind(Kind::Revoked)),
        ("GVAHINT_KIND_ANYWHERE", kind(Kind::Anywhere)),
    ];
    assert_eq!(defines, ours.into_iter().collect());
    assert_eq!(SET_GFN_BITS, addr::GFN_BITS);
    assert_eq!(GVA_ORDER_BITS, addr::PAGE_SHIFT);
}

/// The fields of a structure of the header, each with its bytes.
fn fields(text: &str, name: &str) -> Vec<(String, usize)> {
    let start = format!("\nstruct {name} {{\n");
    let (_, body) = text.split_once(&start).unwrap();
    let (body, _) = body.split_once('}').unwrap();
    let field = |line: &str| {
        let (size, name) = line.trim().strip_suffix(';')?.split_once(' ')?;
        let bytes = match size {
            "__u32" => 4,
            "__u64" => 8,
            other => panic!("{other}"),
        };
        Some((name.to_string(), bytes))
    };
    body.lines().filter_map(field).collect()
}

#[test]
fn hello_is_laid_out_as_the_structure() {
    let words = Hello {
        lease_ms: 10_000,
        max_gfn: 0x12_3456_789a,
    }
    .to_words();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut at = 0;
    let mut values = Vec::new();
    for (name, size) in fields(&header(), "gvahint_hello") {
        let mut raw = [0; 8];
        raw[..size].copy_from_slice(&bytes[at..at + size]);
        at += size;
        values.push((name, u64::from_le_bytes(raw)));
    }
    assert_eq!(at, 32);
    let expect = [
        ("version", 1),
        ("lease_ms", 10_000),
        ("poll_ms", 2_000),
        ("max_linear", 64),
        ("max_gvas", 7),
        ("max_order", 18),
        ("max_gfn", 0x12_3456_789a),
    ];
    assert!(values.iter().map(|(n, v)| (n.as_str(), *v)).eq(expect));
    // A guest that polls in time keeps even the shortest lease.
    let short = Hello {
        lease_ms: 100,
        max_gfn: 1,
    };
    assert_eq!(short.to_words()[1] & 0xffff_ffff, 20);
}

#[test]
fn a_linear_range_is_laid_out_as_the_structure() {
    let fields = fields(&header(), "gvahint_linear");
    let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["gpa", "gva", "len", "page_size"]);
    assert!(fields.iter().all(|(_, bytes)| *bytes == 8));
    let range = [0x1000, 0x5000, 0x2000, 0x1000];
    let list = LinearList::parse(&range, addr::VaBits::Bits48).unwrap();
    let range = list.iter().next().unwrap();
    let gva = |gfn| range.gva(addr::Gfn::new(gfn).unwrap()).map(addr::Gva::raw);
    assert_eq!(gva(0), None);
    assert_eq!(gva(1), Some(0x5000));
    assert_eq!(gva(2), Some(0x6000));
    assert_eq!(gva(3), None);
}

#[test]
fn a_canary_is_laid_out_as_the_structure() {
    let fields = fields(&header(), "gvahint_canary");
    let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["gfn", "gva", "step"]);
    assert!(fields.iter().all(|(_, bytes)| *bytes == 8));
    let ask = canary::Ask::parse(&[5, 0x7000, 1], addr::VaBits::Bits48).unwrap();
    assert_eq!((ask.gfn.raw(), ask.gva.raw()), (5, 0x7000));
    assert_eq!(ask.step, canary::Step::Test);
}

#[test]
fn errors_are_those_of_kvm() {
    // linux/kvm_para.h; most are the errno of that name.
    for (errno, value) in [
        (Errno::Perm, 1),
        (Errno::TooBig, 7),
        (Errno::Fault, 14),
        (Errno::Inval, 22),
        (Errno::OpNotSupp, 95),
        (Errno::Stale, 116),
        (Errno::NoSys, 1000),
    ] {
        assert_eq!(errno.value(), value);
        assert_eq!(errno.negative(), -value);
    }
}
