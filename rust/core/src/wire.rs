// SPDX-License-Identifier: GPL-2.0

//! The hypercall's words: operations, limits, errors and HELLO's answer.
//!
//! The numbers are those of `include/uapi/gvahint.h`; a test compares them.
//! Ranges of LINEAR are parsed in [`crate::linear`], sets of REPORT in
//! [`crate::report`]. What a guest sends is an allegation, `&[u64]`; what a
//! parser returns is a proof, a type that cannot be made otherwise.

use crate::cast;

mod fault;
pub use fault::{Errno, WireError};

named_enum! {
    /// What is wrong with a call.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, linear::LinearList, wire::Fault};
    /// // A direct map by 2M whose gVA is aligned to 4K only.
    /// let words = [0, 0x1000, 2 << 20, 2 << 20];
    /// let bad = LinearList::parse(&words, VaBits::Bits48).unwrap_err();
    /// assert_eq!((bad.fault, bad.fault.name()), (Fault::GvaAlign, "gva_align"));
    /// ```
    pub enum Fault {
        /// The operation is unknown.
        Op = 0 => "op",
        /// HELLO for another version of the interface.
        Version = 1 => "version",
        /// The buffer is of a length that the operation does not take.
        Length = 2 => "length",
        /// The session or sequence number is stale.
        Stale = 3 => "stale",
        /// REPORT before LINEAR.
        NoLinear = 4 => "no_linear",
        /// The page size of a linear range is none.
        PageSize = 5 => "page_size",
        /// A gpa is misaligned, or a gfn for its order.
        GpaAlign = 6 => "gpa_align",
        /// A gVA is misaligned.
        GvaAlign = 7 => "gva_align",
        /// The length of a linear range is 0 or misaligned.
        RangeLen = 8 => "range_len",
        /// A range of guest-physical memory ends beyond the address width.
        GpaOverflow = 9 => "gpa_overflow",
        /// A range of gVAs wraps.
        GvaOverflow = 10 => "gva_overflow",
        /// A gVA, or the last one of its range, is not canonical.
        NotCanonical = 11 => "not_canonical",
        /// More linear ranges than there may be.
        TooManyRanges = 12 => "too_many_ranges",
        /// A set is of an unknown kind.
        Kind = 13 => "kind",
        /// A MAPPED set without a gVA.
        NoGva = 14 => "no_gva",
        /// A set of another kind with gVAs.
        UnexpectedGva = 15 => "unexpected_gva",
        /// More gVAs than a set may have.
        TooManyGvas = 16 => "too_many_gvas",
        /// A larger order than a set may have.
        OrderTooLarge = 17 => "order_too_large",
        /// The buffer ends within a set.
        Truncated = 18 => "truncated",
        /// A range outside the memslots.
        Memslot = 19 => "memslot",
        /// A range beyond the table's end.
        BeyondTable = 20 => "beyond_table",
        /// The order of a mapping is none.
        MapOrder = 21 => "map_order",
        /// There is no memory left for a set.
        NoRoom = 22 => "no_room",
        /// More calls than the operation's rate allows.
        Rate = 23 => "rate",
        /// CANARY has no such step.
        Step = 24 => "step",
        /// The second step of a canary that is not under way.
        NoCanary = 25 => "no_canary",
    }
}

/// Version of the interface.
pub const ABI_VERSION: u32 = 1;
/// LINEAR: the complete list of linear ranges comes in.
pub const OP_LINEAR: u64 = 1;
/// LINEAR's answer if what was reported before still holds.
pub const LINEAR_KEPT: u64 = 1;
/// REPORT: sets come in.
pub const OP_REPORT: u64 = 2;
/// CANARY: gfn, gVA and step come in; see [`crate::canary`].
pub const OP_CANARY: u64 = 3;
/// BYE: no buffer, everything of this VM is forgotten.
pub const OP_BYE: u64 = 4;
/// From here on the host fills the buffer.
pub const OP_OUT: u64 = 64;
/// HELLO: [`Hello`] goes out; a1 is the ABI version.
pub const OP_HELLO: u64 = 64;
/// WANTED: what was aged without a hint goes out.
pub const OP_WANTED: u64 = 65;
/// Bits of a set's gfn.
pub const SET_GFN_BITS: u32 = 40;
/// Where a set's order starts.
pub const SET_ORDER_SHIFT: u32 = 40;
/// Bits of a set's order.
pub const SET_ORDER_BITS: u32 = 6;
/// Where a set's kind starts.
pub const SET_KIND_SHIFT: u32 = 46;
/// Bits of a set's kind.
pub const SET_KIND_BITS: u32 = 4;
/// Where a set's count starts.
pub const SET_COUNT_SHIFT: u32 = 50;
/// Bits of a set's count.
pub const SET_COUNT_BITS: u32 = 14;
/// Low bits of a gVA word that hold the order of the guest's mapping.
pub const GVA_ORDER_BITS: u32 = 12;

/// Ranges in one LINEAR call.
pub const MAX_LINEAR: usize = 64;
/// gVAs in one set.
pub const MAX_SET_GVAS: usize = 7;
/// Largest order of a set's range.
pub const MAX_ORDER: u32 = 18;
/// Words of HELLO's answer.
pub const HELLO_WORDS: usize = 4;
/// How often a guest is to call at least, in ms.
pub const POLL_MS: u32 = 2_000;

/// WANTED calls that one second allows.
pub const WANTED_PER_SECOND: u32 = 100;

/// Canaries that one second allows.
pub const CANARY_PER_SECOND: u32 = 1;

/// A known operation.
///
/// ```
/// use gvahint_core::wire::{Op, OP_HELLO, OP_OUT};
/// assert_eq!(Op::parse(OP_HELLO, 32), Ok(Op::Hello));
/// // KVM copies blindly; the number tells in which direction.
/// assert!(OP_HELLO >= OP_OUT);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// See [`OP_LINEAR`].
    Linear,
    /// See [`OP_REPORT`].
    Report,
    /// See [`OP_CANARY`].
    Canary,
    /// See [`OP_BYE`].
    Bye,
    /// See [`OP_HELLO`].
    Hello,
    /// See [`OP_WANTED`].
    Wanted,
}

impl Op {
    /// The operation of a0, for a buffer of so many bytes. An empty REPORT is
    /// one: it says nothing and renews the lease.
    ///
    /// ```
    /// use gvahint_core::wire::{Fault, Op, WireError, OP_BYE, OP_REPORT};
    /// assert_eq!(Op::parse(OP_REPORT, 0), Ok(Op::Report));
    /// assert_eq!(Op::parse(OP_BYE, 8), Err(WireError::call(Fault::Length)));
    /// assert_eq!(Op::parse(0, 0), Err(WireError::call(Fault::Op)));
    /// ```
    ///
    /// # Errors
    ///
    /// [`Fault::Op`] or [`Fault::Length`].
    pub fn parse(a0: u64, bytes: u64) -> Result<Self, WireError> {
        let (op, fits) = match a0 {
            OP_LINEAR => (Op::Linear, bytes % 32 == 0),
            OP_REPORT => (Op::Report, bytes % 8 == 0),
            OP_CANARY => (Op::Canary, bytes == 24),
            OP_BYE => (Op::Bye, bytes == 0),
            OP_HELLO => (Op::Hello, bytes == 32),
            OP_WANTED => (Op::Wanted, bytes % 8 == 0 && bytes > 0),
            _ => return Err(WireError::call(Fault::Op)),
        };
        if fits {
            Ok(op)
        } else {
            Err(WireError::call(Fault::Length))
        }
    }
}

/// Checks HELLO's a1.
///
/// ```
/// use gvahint_core::wire::{check_version, Fault, WireError, ABI_VERSION};
/// let ours = u64::from(ABI_VERSION);
/// assert_eq!(check_version(ours), Ok(()));
/// // All 64 bits count.
/// assert_eq!(check_version(1 << 32 | ours), Err(WireError::call(Fault::Version)));
/// ```
///
/// # Errors
///
/// [`Fault::Version`] for any version but ours.
pub fn check_version(a1: u64) -> Result<(), WireError> {
    if a1 == u64::from(ABI_VERSION) {
        Ok(())
    } else {
        Err(WireError::call(Fault::Version))
    }
}

/// What the host expects: `struct gvahint_hello`.
///
/// ```
/// use gvahint_core::wire::Hello;
/// // A guest has five chances to renew a short lease.
/// let words = Hello { lease_ms: 1_000, max_gfn: 1 << 27 }.to_words();
/// assert_eq!(words[1] as u32, 200);
/// // With a long one it is not asked to be slow.
/// let words = Hello { lease_ms: 600_000, max_gfn: 1 << 27 }.to_words();
/// assert_eq!(words[1] as u32, 2_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Without a valid call for so long the VM counts as silent.
    pub lease_ms: u32,
    /// First gfn for which there is no room.
    pub max_gfn: u64,
}

impl Hello {
    /// The structure's four words (32 bytes, little-endian).
    ///
    /// ```
    /// use gvahint_core::wire::Hello;
    /// let words = Hello { lease_ms: 10_000, max_gfn: 0x1000 }.to_words();
    /// assert_eq!(words[0], 10_000 << 32 | 1);
    /// assert_eq!(words[3], 0x1000);
    /// ```
    pub const fn to_words(&self) -> [u64; 4] {
        // Never slower than the lease asks for.
        let poll_ms = if self.lease_ms / 5 < POLL_MS {
            self.lease_ms / 5
        } else {
            POLL_MS
        };
        [
            pair(ABI_VERSION, self.lease_ms),
            pair(poll_ms, cast::low_u32(cast::u64_from_usize(MAX_LINEAR))),
            pair(cast::low_u32(cast::u64_from_usize(MAX_SET_GVAS)), MAX_ORDER),
            self.max_gfn,
        ]
    }
}

const fn pair(low: u32, high: u32) -> u64 {
    cast::u64_from_u32(low) | cast::u64_from_u32(high) << 32
}
