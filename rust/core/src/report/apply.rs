// SPDX-License-Identifier: GPL-2.0

//! Taking the sets of a REPORT over into the table.

use super::Sets;
use crate::node::Nodes;
use crate::wire::{Errno, WireError};
use crate::writer::Writer;

/// How far a REPORT got.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{report::Applied, wire::{Fault, WireError}};
/// // Frame 5 is KERNEL_ONLY, frame 6 is of no kind.
/// let refused = Some(WireError::at(1, Fault::Kind));
/// let applied = vm.report(&[5 | 2 << 46, 6]);
/// assert_eq!(applied, Applied { sets: 1, refused, wanted: 0 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Applied {
    /// Sets taken over.
    pub sets: u32,
    /// The set after these, if it was not taken over.
    pub refused: Option<WireError>,
    /// So many nodes have to be handed in before it goes on; 0: it is done.
    pub wanted: u32,
}

impl Applied {
    /// What the guest is told: the number of sets, or what was wrong with the first.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::wire::Errno;
    /// // What is wrong with a set is told once it comes first.
    /// assert_eq!(vm.report(&[5 | 2 << 46, 6]).answer(), Ok(1));
    /// assert_eq!(vm.report(&[6]).answer(), Err(Errno::Inval));
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the first set if it was refused.
    pub fn answer(&self) -> Result<u32, Errno> {
        match self.refused {
            Some(error) if self.sets == 0 => Err(error.errno()),
            _ => Ok(self.sets),
        }
    }
}

/// Takes sets over into the table until the end, the first bad one, or a lack
/// of nodes: see [`crate::pool::WriterState::wanted`]. Call it again with the
/// same `sets` then, and `before`, the sets of the calls before.
///
/// `valid(gfn, pages)` tells whether all of a range lies in the memslots. Work
/// is bounded by the buffer: at most 2^[`MAX_ORDER`] slots a word.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::VaBits, report::{apply, Limits, Sets}, wire::{Fault, WireError}};
/// let limits = Limits { bits: VaBits::Bits48, max_gfn: 1 << 27 };
/// let words = [5 | 1 << 46 | 1 << 50, 0x7000, 9 | 1 << 46 | 1 << 50, 0x9000];
/// let mut sets = Sets::new(&words, limits);
/// // The VM's memory ends before frame 8.
/// let applied = apply(&mut sets, 0, &mut vm.writer(), 1_000, |gfn, pages| gfn + pages <= 8);
/// assert_eq!(applied.refused, Some(WireError::at(2, Fault::Memslot)));
/// assert_eq!(vm.lookup(5), Ok(vec![0x7000]));
/// ```
pub fn apply<N: Nodes>(
    sets: &mut Sets<'_>,
    before: u32,
    writer: &mut Writer<'_, N>,
    now_ms: u64,
    mut valid: impl FnMut(u64, u64) -> bool,
) -> Applied {
    let mut applied = Applied {
        sets: before,
        refused: None,
        wanted: 0,
    };
    loop {
        if sets.is_done() {
            return applied;
        }
        if writer.state().wanted() > 0 {
            applied.wanted = writer.state().wanted();
            return applied;
        }
        let at = sets.at;
        let refused = match sets.next(&mut valid) {
            None => return applied,
            Some(Err(error)) => error,
            Some(Ok(set)) => match writer.replace(&set, now_ms) {
                Ok(()) => {
                    applied.sets = applied.sets.saturating_add(1);
                    continue;
                }
                Err(fault) => WireError::at(at, fault),
            },
        };
        applied.refused = Some(refused);
        return applied;
    }
}
