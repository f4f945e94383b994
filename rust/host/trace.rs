// SPDX-License-Identifier: GPL-2.0
//! What the trace events gvahint:* say (docs/abi/tracing-gvahint).
//!
//! While nobody watches, an event costs a compare and a branch: what it says is gathered out of
//! line.  Values go in here, numbers of shim.h come out.

use crate::bindings;
use crate::hypercall::Answer;
use crate::knobs::Which;
use crate::kvm::Vcpu;
use crate::shim::Event;
use crate::vm::Vm;
use core::sync::atomic::Ordering;
use gvahint_core::addr::{Gfn, Level};
use gvahint_core::canary::{Ask, Step};
use gvahint_core::cast;
use gvahint_core::counters::Counter;
use gvahint_core::log::{Done, Drained, Escalation};
use gvahint_core::plan::{Coverage, Kick, Mark, Outcome, Verdict};
use gvahint_core::policy::{Flush, Policy};
use gvahint_core::wire::{Errno, OP_HELLO};

/// Functions that tell those who watch what their body says.
macro_rules! events {
    ($(
        $(#[$doc:meta])*
        fn $name:ident($($arg:ident: $Arg:ty),+ $(,)?) -> $Event:ident $body:block
    )+) => { $(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name($($arg: $Arg),+) {
            #[cold]
            #[inline(never)]
            fn tell($($arg: $Arg),+) {
                let event: bindings::$Event = $body;
                event.tell();
            }
            if bindings::$Event::is_watched() {
                tell($($arg),+);
            }
        }
    )+ };
}

fn which_number(which: Which) -> u32 {
    match which {
        Which::ClearYoung => bindings::KVM_AGE_CLEAR_YOUNG,
        Which::ClearFlushYoung => bindings::KVM_AGE_CLEAR_FLUSH_YOUNG,
    }
}

events! {
    /// A leaf lost its accessed bit.
    fn aged(vm: &Vm, which: Which, gfn: Gfn, level: Level, coverage: Coverage) -> gvahint_ev_aged {
        let (coverage, reason) = match coverage {
            Coverage::Unasked => (bindings::GVAHINT_UNASKED, None),
            Coverage::Covered => (bindings::GVAHINT_COVERED, None),
            Coverage::Uncovered(reason) => (bindings::GVAHINT_UNCOVERED, Some(reason)),
        };
        bindings::gvahint_ev_aged {
            vm: vm.id(),
            pid: vm.pid(),
            gfn: gfn.raw(),
            level: level.to_kvm(),
            which: which_number(which),
            coverage,
            reason: reason.map_or(bindings::GVAHINT_NONE, |reason| u32::from(reason.to_u8())),
        }
    }

    /// A notifier call ended.
    fn plan(vm: &Vm, which: Which, policy: Policy, other: u32, outcome: Outcome) -> gvahint_ev_plan {
        let uncovered = match policy.flush {
            Flush::Hint => outcome.aged.saturating_sub(outcome.covered),
            _ => 0,
        };
        bindings::gvahint_ev_plan {
            vm: vm.id(),
            pid: vm.pid(),
            which: which_number(which),
            flush: u32::from(policy.flush.to_u8()),
            timing: u32::from(policy.timing.to_u8()),
            aged: outcome.aged,
            covered: outcome.covered,
            uncovered,
            other,
            gvas: outcome.gvas,
            mark: match outcome.mark {
                None => bindings::GVAHINT_MARK_NONE,
                Some(Mark::Context) => bindings::GVAHINT_MARK_CONTEXT,
                Some(Mark::Full) => bindings::GVAHINT_MARK_FULL,
            },
            verdict: match outcome.verdict {
                Verdict::Default => bindings::KVM_AGE_DEFAULT,
                Verdict::Handled => bindings::KVM_AGE_HANDLED,
            },
            kick: match outcome.kick {
                Kick::No => bindings::GVAHINT_KICK_NO,
                Kick::Now => bindings::GVAHINT_KICK_NOW,
                Kick::Within(_) => bindings::GVAHINT_KICK_WITHIN,
            },
            head: vm.log(None).start(),
        }
    }

    /// A vCPU drained, from that cursor on.
    fn drained(vm: &Vm, vcpu: Vcpu<'_>, from: u64, drained: Drained) -> gvahint_ev_flush {
        let kind = match drained.done {
            Done::Nothing => bindings::GVAHINT_FLUSH_NOTHING,
            Done::Gvas => bindings::GVAHINT_FLUSH_GVA,
            Done::Context => bindings::GVAHINT_FLUSH_CONTEXT,
            Done::Full => bindings::GVAHINT_FLUSH_FULL,
        };
        let why = match drained.why {
            None => bindings::GVAHINT_NONE,
            Some(Escalation::Lag) => bindings::GVAHINT_WHY_LAGGED,
            Some(Escalation::TooMany) => bindings::GVAHINT_WHY_TOO_MANY,
            Some(Escalation::Overwritten) => bindings::GVAHINT_WHY_OVERWRITTEN,
            Some(Escalation::Refused) => bindings::GVAHINT_WHY_REFUSED,
        };
        flush(vm, vcpu, from, kind, drained.gvas, why)
    }

    /// A flush of KVM's own served a vCPU, from that cursor on.
    fn superseded(vm: &Vm, vcpu: Vcpu<'_>, from: u64) -> gvahint_ev_flush {
        let (kind, why) = (bindings::GVAHINT_FLUSH_SUPERSEDED, bindings::GVAHINT_NONE);
        flush(vm, vcpu, from, kind, 0, why)
    }

    /// A hypercall with these words was answered.
    fn report(vm: &Vm, op: u64, a1: u64, words: usize, answer: i64) -> gvahint_ev_report {
        bindings::gvahint_ev_report {
            vm: vm.id(),
            pid: vm.pid(),
            op,
            // HELLO carries a version, and answers with the session.
            session: match op {
                OP_HELLO => u32::try_from(answer).unwrap_or(0),
                _ => cast::high_u32(a1),
            },
            words: u32::try_from(words).unwrap_or(u32::MAX),
            answer,
            hints: vm.totals().get(Counter::Hints),
        }
    }

    /// A step of a canary was answered.
    fn canary(vm: &Vm, ask: &Ask, answer: Answer) -> gvahint_ev_canary {
        bindings::gvahint_ev_canary {
            vm: vm.id(),
            pid: vm.pid(),
            gfn: ask.gfn.raw(),
            gva: ask.gva.raw(),
            step: match ask.step {
                Step::Clear => 0,
                Step::Test => 1,
            },
            answer: answer.unwrap_or_else(Errno::negative),
        }
    }
}

fn flush(
    vm: &Vm,
    vcpu: Vcpu<'_>,
    from: u64,
    kind: u32,
    gvas: u32,
    why: u32,
) -> bindings::gvahint_ev_flush {
    bindings::gvahint_ev_flush {
        vm: vm.id(),
        pid: vm.pid(),
        vcpu: vcpu.id(),
        kind,
        gvas,
        why,
        from,
        to: vcpu.cursor().load(Ordering::Relaxed),
    }
}
