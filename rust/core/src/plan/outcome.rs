// SPDX-License-Identifier: GPL-2.0

//! What comes out of an aged leaf, and of a notifier call.

use super::Reason;

/// What hints say of an aged leaf.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::{Gfn, Level}, plan::*, policy::{Flush, Policy}};
/// vm.map(5, 0, &[0x7000]);
/// let invept = Policy { flush: Flush::Invept, ..Policy::CLEAR_YOUNG };
/// for (policy, gfn, coverage) in [
///     (Policy::CLEAR_YOUNG, 5, Coverage::Covered),
///     (Policy::CLEAR_YOUNG, 6, Coverage::Uncovered(Reason::NoHint)),
///     (invept, 5, Coverage::Unasked),
/// ] {
///     let gfn = Gfn::new(gfn).unwrap();
///     let got = aged(&mut Pass::default(), &vm.env(policy), gfn, Level::L4K, 1_000);
///     assert_eq!(got, coverage);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// The policy does not ask them.
    Unasked,
    /// All gVAs of the leaf are known, and logged; or a flush of the context is.
    Covered,
    /// They are not, and why.
    Uncovered(Reason),
}

/// The entry that ends a notifier call's.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::{Gfn, Level}, plan::*, policy::{Flush, Policy}, sync::AtomicU32};
/// for (flush, mark) in [
///     (Flush::None, None),
///     (Flush::Context, Some(Mark::Context)),
///     (Flush::Invept, Some(Mark::Full)),
/// ] {
///     let env = vm.env(Policy { flush, ..Policy::CLEAR_YOUNG });
///     let mut pass = Pass::default();
///     aged(&mut pass, &env, Gfn::new(5).unwrap(), Level::L4K, 1_000);
///     assert_eq!(finish(&mut pass, &env, 0, &AtomicU32::new(0)).mark, mark);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// CONTEXT: the vCPU's whole VPID.
    Context,
    /// FULL: the VM's EPT.
    Full,
}

/// Who flushes for the pages of this call.
///
/// ```
/// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{plan::*, policy::Policy, sync::AtomicU32};
/// let env = vm.env(Policy::CLEAR_YOUNG);
/// let mut verdict = |other| {
///     finish(&mut Pass::default(), &env, other, &AtomicU32::new(0)).verdict
/// };
/// assert_eq!(verdict(0), Verdict::Handled);
/// // One leaf was young that KVM cannot name: only KVM's own flush reaches it.
/// assert_eq!(verdict(1), Verdict::Default);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// KVM does what it always did.
    Default,
    /// The log says what is to be done.
    Handled,
}

/// When the VM's vCPUs are to be kicked.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::{Gfn, Level}, plan::*, policy::*, sync::AtomicU32};
/// vm.map(5, 0, &[0x7000]);
/// for (timing, kick) in [(Timing::Now, Kick::Now), (Timing::Deferred, Kick::Within(10))] {
///     let env = vm.env(Policy { timing, ..Policy::CLEAR_YOUNG });
///     let mut pass = Pass::default();
///     aged(&mut pass, &env, Gfn::new(5).unwrap(), Level::L4K, 1_000);
///     assert_eq!(finish(&mut pass, &env, 0, &AtomicU32::new(0)).kick, kick);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// Not on behalf of this call.
    No,
    /// At once.
    Now,
    /// After so many ms at the latest, unless there is an earlier kick.
    Within(u32),
}

/// How a notifier call ended: what is to be done, and what was done for it.
///
/// ```
/// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{plan::*, policy::{Policy, Timing}, sync::AtomicU32};
/// // Nothing was young: nobody is disturbed, whatever the timing.
/// let env = vm.env(Policy { timing: Timing::Now, ..Policy::CLEAR_YOUNG });
/// let outcome = finish(&mut Pass::default(), &env, 0, &AtomicU32::new(0));
/// assert_eq!((outcome.aged, outcome.mark, outcome.kick), (0, None, Kick::No));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    /// Who flushes.
    pub verdict: Verdict,
    /// Whether and when to kick.
    pub kick: Kick,
    /// Leaves that lost their accessed bit.
    pub aged: u32,
    /// Of these: covered by hints.
    pub covered: u32,
    /// gVAs that were appended for them.
    pub gvas: u32,
    /// What was appended at the end, behind the gVAs.
    pub mark: Option<Mark>,
}
