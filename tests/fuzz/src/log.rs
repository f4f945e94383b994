// SPDX-License-Identifier: GPL-2.0

//! Bytes as steps of producers and vCPUs of the flush log.

use crate::models::log::{Append, Player, Step};
use crate::{one_of, show};
use arbitrary::{Result, Unstructured};
use gvahint_core::log::Scope;

/// Steps of one input at most.
const STEPS: usize = 400;
/// Laps after which tags are about to recur, and others.
const LAPS: [u64; 8] = [0, 1, 4093, 4094, 4095, 8188, 1 << 20, 1 << 40];

/// Plays an input.
pub fn run(data: &[u8]) {
    let _: Result<()> = play(&mut Unstructured::new(data));
}

fn play(u: &mut Unstructured<'_>) -> Result<()> {
    let size = one_of(u, &[4, 0, 1, 2, 8, 16, 64])?;
    let vcpus = one_of(u, &[2, 1, 3, 5])?;
    let start = one_of(u, &LAPS)? * size + u64::from(u.arbitrary::<u8>()?) % size.max(1);
    let mut player = Player::new(size, vcpus, start);
    show(&(size, vcpus, start));
    for _ in 0..STEPS {
        if u.is_empty() {
            break;
        }
        let step = step(u, vcpus)?;
        show(&step);
        player.play(&step);
    }
    player.finish();
    Ok(())
}

fn step(u: &mut Unstructured<'_>, vcpus: usize) -> Result<Step> {
    let what = u.arbitrary::<u8>()?;
    let n = u64::from(what >> 4);
    Ok(match what & 15 {
        0..=3 => Step::Append(Append::Gva(n % 9)),
        4 => Step::Append(Append::Context),
        5 => Step::Append(Append::Full),
        6 => Step::Reserve(10 + n % 9),
        7 => Step::Write,
        8..=11 => {
            let vcpu = usize::from(what >> 4) % vcpus;
            let byte = u.arbitrary::<u8>()?;
            let max = [1, 2, 3, 4, 6, 16, 63, 512][usize::from(byte & 7)];
            let refuse = (byte & 8 != 0).then_some(u64::from(byte >> 4));
            Step::Drain(vcpu, max, refuse, meanwhile(u, what)?)
        }
        12 | 13 => {
            let scope = if what & 1 == 0 {
                Scope::Context
            } else {
                Scope::Root
            };
            let vcpu = usize::from(what >> 4) % vcpus;
            Step::Superseded(vcpu, scope, meanwhile(u, what)?)
        }
        14 => Step::Resync,
        _ => Step::Ring([0, 1, 2, 4, 8, 16, 32, 64][usize::from(what >> 5)]),
    })
}

/// What others append during a flush: often nothing.
fn meanwhile(u: &mut Unstructured<'_>, what: u8) -> Result<Vec<Append>> {
    let count = if what & 0x80 == 0 {
        0
    } else {
        u.arbitrary::<u8>()? % 20
    };
    (0..count)
        .map(|_| {
            Ok(match u.arbitrary::<u8>()? {
                byte @ 0..=199 => Append::Gva(u64::from(byte) % 9),
                200..=229 => Append::Context,
                230..=255 => Append::Full,
            })
        })
        .collect()
}
