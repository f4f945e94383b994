// SPDX-License-Identifier: GPL-2.0
//! CANARY: a guest asks whether an accessed bit comes back once one gVA was dropped.
//!
//! Under the VM's mutex.  mmu_lock, which KVM takes to look at the bit, nests inside it.

use crate::hypercall::{revive, Answer, Call};
use crate::kvm::LeafOp;
use crate::rcu::Guard;
use crate::shim::now_ms;
use crate::trace;
use crate::vm::{Guest, Vm};
use gvahint_core::addr::VaBits;
use gvahint_core::canary::{Ask, Canary, Seen, Step, CAME_BACK, INCONCLUSIVE, LOST};
use gvahint_core::counters::Counter;
use gvahint_core::wire::{Errno, Fault};

/// Answers a call of either step.  Sleeps.
pub(crate) fn answer(vm: &Vm, guest: &mut Guest, call: Call<'_>, bits: VaBits) -> Answer {
    let admitted = guest.session.admit(call.a1);
    admitted.map_err(|error| error.errno())?;
    if !guest.session.sealed {
        return Err(Fault::NoLinear.errno());
    }
    let ask = Ask::parse(call.buffer.received(), bits).map_err(|error| error.errno())?;
    if !vm.can_flush_gva() {
        return Err(Errno::OpNotSupp);
    }
    let answer = match ask.step {
        Step::Clear if !call.memslots.contain(ask.gfn.raw(), 1) => Err(Fault::Memslot.errno()),
        Step::Clear => clear(vm, guest, &ask),
        Step::Test => test(vm, guest, &ask, call.cursor),
    };
    trace::canary(vm, &ask, answer);
    let answer = answer?;
    revive(vm, |lease, now| lease.renew(now));
    Ok(answer)
}

/// Clears the bit, then publishes the gVA: in this order, as ageing does.
fn clear(vm: &Vm, guest: &mut Guest, ask: &Ask) -> Answer {
    let admitted = guest.canary_rate.admit(now_ms());
    admitted.map_err(|error| error.errno())?;
    give_up(vm, guest);
    // Before the bit is cleared: who ages the page from here on is seen.
    vm.watch().arm(ask.gfn);
    let Some(was_young) = vm.kvm().leaf(ask.gfn, LeafOp::Clear) else {
        vm.watch().disarm();
        return Ok(INCONCLUSIVE);
    };
    let guard = Guard::new();
    let log = vm.log(vm.store().get(&guard));
    if log.append_gva(ask.gva) {
        vm.counters().add(Counter::AppendedGva, 1);
    } else {
        log.append_context();
        vm.counters().add(Counter::AppendedContext, 1);
    }
    // A vCPU may have come by for another page, and found this gVA in its way, not yet published.
    vm.kick();
    guest.canary = Some(Canary::begin(ask, was_young, log.start()));
    Ok(CAME_BACK)
}

fn test(vm: &Vm, guest: &mut Guest, ask: &Ask, cursor: u64) -> Answer {
    let canary = guest.canary.ok_or(Fault::NoCanary.errno())?;
    canary.is_of(ask).map_err(|error| error.errno())?;
    guest.canary = None;
    // The bit first: mmu_lock orders it with whoever ages the page.
    let young = vm.kvm().leaf(canary.gfn, LeafOp::Test);
    let aged = vm.watch().is_aged();
    vm.watch().disarm();
    let judged = canary.judge(Seen {
        aged,
        cursor,
        young,
    });
    if judged.hand_back {
        vm.kvm().leaf(canary.gfn, LeafOp::Set);
    }
    if judged.answer == LOST {
        vm.counters().add(Counter::CanaryLost, 1);
        vm.set_degraded(true);
        // What was aged by hints until now may look idle for good.
        vm.catch_up();
    }
    Ok(judged.answer)
}

/// Ends a canary without a second step.
pub(crate) fn give_up(vm: &Vm, guest: &mut Guest) {
    vm.watch().disarm();
    if let Some(canary) = guest.canary.take() {
        if canary.gives_back() {
            vm.kvm().leaf(canary.gfn, LeafOp::Set);
        }
    }
}
