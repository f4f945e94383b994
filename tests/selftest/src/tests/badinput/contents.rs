// SPDX-License-Identifier: GPL-2.0
//! What LINEAR, CANARY and REPORT must not carry.

use crate::scene::Scene;
use anyhow::{ensure, Result};
use gvahint_vm::hints::{errno, kind, op, Hello, Linear, Set};
use gvahint_vm::{layout, LARGE, PAGE};

const GVA: u64 = layout::USER;
/// Beyond the lower half with 48 bits as with 57.
const NOT_CANONICAL: u64 = 1 << 60;

/// Fails if a range that isn't one is taken.
pub(super) fn linear(scene: &mut Scene, hello: &Hello) -> Result<u64> {
    let good = Linear {
        gpa: LARGE,
        gva: layout::LINEAR,
        len: LARGE,
        page_size: PAGE,
    };
    let edge = 1 << 47;
    let cases = [
        Linear {
            gpa: LARGE + 8,
            ..good
        },
        Linear {
            gva: layout::LINEAR + 8,
            ..good
        },
        Linear { len: 8, ..good },
        Linear { len: 0, ..good },
        Linear {
            page_size: 0,
            ..good
        },
        Linear {
            page_size: 8192,
            ..good
        },
        Linear {
            page_size: LARGE,
            gpa: LARGE + PAGE,
            ..good
        },
        Linear {
            page_size: LARGE,
            len: PAGE,
            ..good
        },
        Linear {
            gva: NOT_CANONICAL,
            ..good
        },
        Linear {
            gva: edge - PAGE,
            len: edge,
            ..good
        },
        Linear {
            gva: !(PAGE - 1),
            len: 2 * PAGE,
            ..good
        },
        Linear {
            gpa: !(PAGE - 1),
            len: 2 * PAGE,
            ..good
        },
        Linear {
            len: !(PAGE - 1),
            ..good
        },
    ];
    let memory = scene.vm.memory();
    let reporter = scene.reporter.as_mut().expect("there is a session");
    for case in &cases {
        // Also behind a good one: nothing of such a list may count.
        for list in [&[*case][..], &[good, *case][..]] {
            let answer = reporter.linear(memory, list)?;
            ensure!(
                answer == errno::EINVAL,
                "LINEAR {case:x?} answered {answer}"
            );
        }
    }
    let many: Vec<_> = (0..=u64::from(hello.max_linear))
        .map(|i| Linear {
            gpa: i * PAGE,
            gva: layout::LINEAR + i * PAGE,
            len: PAGE,
            ..good
        })
        .collect();
    let answer = reporter.linear(memory, &many)?;
    ensure!(
        answer == errno::E2BIG,
        "LINEAR of {} ranges answered {answer}",
        many.len()
    );
    Ok(2 * cases.len() as u64 + 1)
}

/// Fails if a canary begins with anything malformed, goes on with another, or begins before LINEAR.
pub(super) fn canary(scene: &mut Scene, _: &Hello) -> Result<u64> {
    let gfn = layout::data(0) / PAGE;
    let beyond = scene.vm.memory().len() / PAGE;
    let mut cases = Vec::new();
    for bad in [beyond, 1 << 39, 1 << 40, u64::MAX] {
        cases.push(([bad, GVA, 0], errno::EFAULT));
    }
    for bad in [GVA | 8, NOT_CANONICAL, 1 << 47 | 1 << 57, u64::MAX] {
        cases.push(([gfn, bad, 0], errno::EINVAL));
        cases.push(([gfn, bad, 1], errno::EINVAL));
    }
    for bad in [1, 2, 1 << 32, u64::MAX] {
        cases.push(([gfn, GVA, bad], errno::EINVAL));
    }
    let memory = scene.vm.memory();
    let reporter = scene.reporter.as_mut().expect("there is a session");
    for ([gfn, gva, step], expected) in &cases {
        let answer = reporter.canary(memory, *gfn, *gva, *step)?;
        ensure!(
            answer == *expected,
            "CANARY {gfn:#x} {gva:#x} {step:#x} answered {answer}, not {expected}"
        );
    }
    let buffers = [
        (layout::BUFFER, 0, errno::EINVAL),
        (layout::BUFFER, 16, errno::EINVAL),
        (layout::BUFFER, 32, errno::EINVAL),
        (layout::BUFFER + 4, 24, errno::EINVAL),
        (layout::BUFFER + PAGE - 16, 24, errno::EINVAL),
        (memory.len(), 24, errno::EFAULT),
    ];
    for (gpa, len, expected) in buffers {
        let answer = reporter.raw(op::CANARY, gpa, len)?;
        ensure!(
            answer == expected,
            "CANARY, buffer {gpa:#x}, {len} bytes answered {answer}"
        );
    }
    let hello = reporter.hello(memory)?;
    ensure!(hello.is_ok(), "HELLO answered {hello:?}");
    let answer = reporter.canary(memory, gfn, GVA, 0)?;
    ensure!(
        answer == errno::EINVAL,
        "CANARY before LINEAR answered {answer}"
    );
    Ok((cases.len() + buffers.len() + 1) as u64)
}

/// Fails if a malformed set is taken, or a good one before it isn't.
pub(super) fn report(scene: &mut Scene, hello: &Hello) -> Result<u64> {
    let gfn = layout::data(0) / PAGE;
    let (mapped, orders) = (kind::MAPPED, u64::from(hello.max_order));
    let beyond = scene.vm.memory().len() / PAGE;
    let many = vec![GVA; hello.max_gvas as usize + 1];
    let mut cases = vec![
        (Set::new(gfn, 0, mapped, 0, &[]), errno::EINVAL),
        (Set::new(gfn, 0, mapped, 2, &[GVA]), errno::EINVAL),
        (Set::new(gfn, 0, mapped, 1, &[NOT_CANONICAL]), errno::EINVAL),
        (
            Set::new(gfn, 0, mapped, 1, &[1 << 47 | 1 << 57]),
            errno::EINVAL,
        ),
        (Set::new(gfn, 0, mapped, 1, &[GVA | 5]), errno::EINVAL),
        (Set::new(gfn, 0, mapped, 1, &[GVA | 10]), errno::EINVAL),
        (
            Set::new(gfn, 9, mapped, 1, &[(GVA + PAGE) | 9]),
            errno::EINVAL,
        ),
        (Set::new(gfn + 1, 9, mapped, 1, &[GVA | 9]), errno::EINVAL),
        (Set::new(gfn, orders + 1, mapped, 1, &[GVA]), errno::E2BIG),
        (Set::new(gfn, 63, mapped, 1, &[GVA]), errno::E2BIG),
        (
            Set::new(gfn, 0, mapped, many.len() as u64, &many),
            errno::E2BIG,
        ),
        (Set::new(beyond, 0, mapped, 1, &[GVA]), errno::EFAULT),
        (Set::new((1 << 40) - 1, 0, mapped, 1, &[GVA]), errno::EFAULT),
    ];
    for kind in [
        kind::KERNEL_ONLY,
        kind::PAGE_TABLE,
        kind::TOO_MANY,
        kind::REVOKED,
        kind::ANYWHERE,
    ] {
        cases.push((Set::new(gfn, 0, kind, 1, &[GVA]), errno::EINVAL));
        cases.push((Set::new(beyond, 0, kind, 0, &[]), errno::EFAULT));
        cases.push((Set::new(gfn + 1, 9, kind, 0, &[]), errno::EINVAL));
        cases.push((Set::new(gfn, orders + 1, kind, 0, &[]), errno::E2BIG));
    }
    for kind in [0, 7, 8, 15] {
        cases.push((Set::new(gfn, 0, kind, 0, &[]), errno::EINVAL));
        cases.push((Set::new(gfn, 0, kind, 1, &[GVA]), errno::EINVAL));
    }
    let memory = scene.vm.memory();
    let reporter = scene.reporter.as_mut().expect("there is a session");
    for (set, expected) in &cases {
        let answer = reporter.report(memory, std::slice::from_ref(set))?;
        ensure!(
            answer == *expected,
            "REPORT {set:x?} answered {answer}, not {expected}"
        );
    }
    Ok(cases.len() as u64)
}
