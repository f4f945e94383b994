// SPDX-License-Identifier: GPL-2.0

//! What can be wrong with a call, and what the guest is told.

use super::Fault;

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
