// SPDX-License-Identifier: GPL-2.0

//! What can be wrong with a call, and what the guest is told.

/// Errors as the guest sees them; the values are those of KVM's hypercalls.
///
/// ```
/// use gvahint_core::wire::{Errno, Fault};
/// // Few for the guest to tell apart; a fault names the cause to the operator.
/// assert_eq!(Fault::Memslot.errno(), Errno::Fault);
/// assert_eq!((Fault::GvaAlign.errno(), Fault::Kind.errno()), (Errno::Inval, Errno::Inval));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// `KVM_EPERM`
    Perm,
    /// `KVM_E2BIG`
    TooBig,
    /// `KVM_EFAULT`
    Fault,
    /// `KVM_EINVAL`
    Inval,
    /// `KVM_EOPNOTSUPP`
    OpNotSupp,
    /// `GVAHINT_ESTALE`
    Stale,
    /// `KVM_ENOSYS`
    NoSys,
}

impl Errno {
    /// The positive number.
    ///
    /// ```
    /// use gvahint_core::wire::Errno;
    /// assert_eq!(Errno::Inval.value(), 22);
    /// // KVM's own; it is not Linux' ENOSYS.
    /// assert_eq!(Errno::NoSys.value(), 1000);
    /// ```
    pub const fn value(self) -> i64 {
        match self {
            Errno::Perm => 1,
            Errno::TooBig => 7,
            Errno::Fault => 14,
            Errno::Inval => 22,
            Errno::OpNotSupp => 95,
            Errno::Stale => 116,
            Errno::NoSys => 1000,
        }
    }

    /// The negative number that a hypercall returns.
    ///
    /// ```
    /// use gvahint_core::wire::Errno;
    /// assert_eq!(Errno::Stale.negative(), -116);
    /// ```
    pub const fn negative(self) -> i64 {
        self.value().wrapping_neg()
    }

    /// The error that a hypercall returned, if it is a known one.
    ///
    /// ```
    /// use gvahint_core::wire::Errno;
    /// assert_eq!(Errno::from_answer(-116), Some(Errno::Stale));
    /// assert_eq!(Errno::from_answer(116), None);
    /// ```
    pub const fn from_answer(answer: i64) -> Option<Self> {
        match answer {
            -1 => Some(Errno::Perm),
            -7 => Some(Errno::TooBig),
            -14 => Some(Errno::Fault),
            -22 => Some(Errno::Inval),
            -95 => Some(Errno::OpNotSupp),
            -116 => Some(Errno::Stale),
            -1000 => Some(Errno::NoSys),
            _ => None,
        }
    }
}

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

impl Fault {
    /// What the guest is told.
    ///
    /// ```
    /// use gvahint_core::wire::{Errno, Fault};
    /// // Over a limit now; the same call may succeed when there is room.
    /// assert_eq!(Fault::NoRoom.errno(), Errno::TooBig);
    /// // Malformed: it never will.
    /// assert_eq!(Fault::Truncated.errno(), Errno::Inval);
    /// ```
    pub const fn errno(self) -> Errno {
        match self {
            Fault::Stale => Errno::Stale,
            Fault::Memslot => Errno::Fault,
            Fault::TooManyRanges
            | Fault::TooManyGvas
            | Fault::OrderTooLarge
            | Fault::BeyondTable
            | Fault::NoRoom
            | Fault::Rate => Errno::TooBig,
            Fault::Op
            | Fault::Version
            | Fault::Length
            | Fault::NoLinear
            | Fault::PageSize
            | Fault::GpaAlign
            | Fault::GvaAlign
            | Fault::RangeLen
            | Fault::GpaOverflow
            | Fault::GvaOverflow
            | Fault::NotCanonical
            | Fault::Kind
            | Fault::NoGva
            | Fault::UnexpectedGva
            | Fault::Truncated
            | Fault::MapOrder
            | Fault::Step
            | Fault::NoCanary => Errno::Inval,
        }
    }
}

/// What is wrong with a call, and where.
///
/// ```
/// use gvahint_core::{addr::VaBits, linear::LinearList, wire::{Fault, WireError}};
/// // The second of two ranges has no length.
/// let words = [0, 0, 4096, 4096, 0, 0, 0, 4096];
/// let bad = LinearList::parse(&words, VaBits::Bits48).unwrap_err();
/// assert_eq!(bad, WireError { word: Some(6), fault: Fault::RangeLen });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError {
    /// Index of the bad 8-byte word in the buffer; `None`: the call itself.
    pub word: Option<usize>,
    /// What is wrong with it.
    pub fault: Fault,
}

impl WireError {
    /// The call itself is bad.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, linear::LinearList, wire::{Fault, WireError}};
    /// // Three words are no range; none of them is to blame.
    /// let bad = LinearList::parse(&[0; 3], VaBits::Bits48).unwrap_err();
    /// assert_eq!(bad, WireError::call(Fault::Length));
    /// ```
    pub const fn call(fault: Fault) -> Self {
        Self { word: None, fault }
    }

    /// A word of the buffer is bad.
    ///
    /// ```
    /// use gvahint_core::wire::{Fault, WireError};
    /// // Counted in words of 8 bytes, from the buffer's start.
    /// assert_eq!(WireError::at(0, Fault::Kind).word, Some(0));
    /// assert_ne!(WireError::at(0, Fault::Kind), WireError::call(Fault::Kind));
    /// ```
    pub const fn at(word: usize, fault: Fault) -> Self {
        Self {
            word: Some(word),
            fault,
        }
    }

    /// What the guest is told.
    ///
    /// ```
    /// use gvahint_core::wire::{Errno, Fault, WireError};
    /// // Where it was is for the trace; the guest learns what.
    /// assert_eq!(WireError::at(3, Fault::Memslot).errno(), Errno::Fault);
    /// assert_eq!(WireError::call(Fault::Memslot).errno(), Errno::Fault);
    /// ```
    pub const fn errno(&self) -> Errno {
        self.fault.errno()
    }
}
