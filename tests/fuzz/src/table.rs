// SPDX-License-Identifier: GPL-2.0

//! Bytes as steps of a guest and its host with the hint table.

use crate::models::map::{Gvas, Report};
use crate::models::table::{Player, Step, LINEAR};
use crate::{one_of, show};
use arbitrary::{Result, Unstructured};
use gvahint_core::addr::{MapSize, VaBits};
use gvahint_core::policy::LinearAlias;
use gvahint_core::report::Kind;

/// Steps of one input at most.
const STEPS: usize = 200;
const GIB: u64 = 1 << 18;

/// Plays an input.
pub fn run(data: &[u8]) {
    let _: Result<()> = play(&mut Unstructured::new(data));
}

fn play(u: &mut Unstructured<'_>) -> Result<()> {
    let max_gfn = one_of(u, &[GIB, 1 << 30, 1 << 40])?;
    let limit = one_of(u, &[24, 5, 8, 14])?;
    let bits = one_of(u, &[VaBits::Bits48, VaBits::Bits57])?;
    let mut player = Player::new(max_gfn, limit);
    player.table.bits = bits;
    show(&(max_gfn, limit, bits));
    for _ in 0..STEPS {
        if u.is_empty() {
            break;
        }
        let step = step(u, max_gfn, bits)?;
        show(&step);
        player.play(&step);
    }
    player.finish();
    Ok(())
}

fn step(u: &mut Unstructured<'_>, max_gfn: u64, bits: VaBits) -> Result<Step> {
    Ok(match u.arbitrary::<u8>()? {
        0..=99 => {
            let (gfn, order) = range(u, max_gfn)?;
            let gvas = gvas(u, order, bits)?;
            set(gfn, order, Kind::Mapped, gvas)
        }
        100..=149 => {
            let kinds = [
                Kind::KernelOnly,
                Kind::PageTable,
                Kind::TooMany,
                Kind::Revoked,
                Kind::Anywhere,
            ];
            let kind = one_of(u, &kinds)?;
            let (gfn, order) = range(u, max_gfn)?;
            set(gfn, order, kind, Vec::new())
        }
        150..=169 => {
            let (gfn, _) = range(u, max_gfn)?;
            let pages = match u.arbitrary::<u8>()? {
                byte @ 0..=127 => u64::from(byte),
                byte => u64::from(byte) << (byte & 31),
            };
            Step::Revoke(gfn, pages)
        }
        170..=173 => Step::Clear,
        174..=183 => Step::Linear(usize::from(u.arbitrary::<u8>()?) % LINEAR.len()),
        184..=203 => {
            let units = [1, 31, 32, 1000, 16 << 10, 59_999, 600_000, 1 << 21];
            let unit = one_of(u, &units)?;
            Step::Pass(unit * u64::from(u.arbitrary::<u8>()? % 40))
        }
        204..=211 => Step::MaxAge(one_of(u, &[60_000, 100, 599_999, 600_000])?),
        212..=219 => Step::Alias(one_of(u, LinearAlias::ALL)?),
        220..=227 => Step::Limit(2 + usize::from(u.arbitrary::<u8>()? % 24)),
        228..=231 => Step::Reap,
        232..=235 => Step::Flush,
        236..=255 => Step::Look(range(u, max_gfn)?.0),
    })
}

fn set(gfn: u64, order: u32, kind: Kind, gvas: Gvas) -> Step {
    Step::Set(Report {
        gfn,
        order,
        kind,
        gvas,
    })
}

/// A range, often near the edges of 2M and 1G.
fn range(u: &mut Unstructured<'_>, max_gfn: u64) -> Result<(u64, u32)> {
    let order = one_of(u, &[0, 9, 0, 18, 0, 9, 1, 3, 8, 10, 17])?;
    let base = one_of(u, &[0, GIB, max_gfn - GIB, max_gfn / 2])?;
    let offset = match u.arbitrary::<u8>()? {
        byte @ 0..=63 => u64::from(byte),
        byte @ 64..=127 => 512 * u64::from(byte & 15) + u64::from(byte & 3),
        byte @ 128..=191 => 512 - u64::from(byte & 3),
        byte => GIB - 1 - 512 * u64::from(byte & 3),
    };
    let gfn = (base + offset).min(max_gfn - 1);
    Ok((gfn >> order << order, order))
}

fn gvas(u: &mut Unstructured<'_>, order: u32, bits: VaBits) -> Result<Gvas> {
    let count = 1 + u.arbitrary::<u8>()? % 7;
    (0..count)
        .map(|_| {
            let size = one_of(u, &[MapSize::M4K, MapSize::M2M, MapSize::M1G])?;
            let half = 1 << (bits.bits() - 13);
            let page = u64::from(u.arbitrary::<u32>()?) % (half - GIB);
            // All from the middle on have the sign's bits.
            let high = u.arbitrary::<bool>()?;
            let page = if high { (1 << 52) - half + page } else { page };
            let align = order.min(size.order());
            Ok((page >> align << (align + 12), size))
        })
        .collect()
}
