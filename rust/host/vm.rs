// SPDX-License-Identifier: GPL-2.0
//! A VM's state, and what the hooks do with it: no unsafe, no decision that the core could take.
//!
//! Hooks under mmu_lock and the drain only read: atomics, and the [`Store`] under RCU.  The
//! [`Guest`], what hypercalls work on, is under a mutex that no hook under mmu_lock takes.

use crate::arena::Arena;
use crate::grow::{self, Numbers};
use crate::knobs::{self, Overrides, Which};
use crate::kvm::{self, AttachedKvm, Entry, Kvm, Vcpu};
use crate::rcu::{Guard, Slot};
use crate::shim::{self, now_ms, relax};
use crate::store::Store;
use crate::trace;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use gvahint_core::addr::{Gfn, Level, VaBits};
use gvahint_core::canary::{Canary, Watch};
use gvahint_core::counters::{Copies, Counter, Counters};
use gvahint_core::log::{Log, Scope};
use gvahint_core::owed;
use gvahint_core::plan::{self, Env, Kick, Outcome, Pass, Reason};
use gvahint_core::policy::{Policy, PolicyCell, Timing};
use gvahint_core::pool::WriterState;
use gvahint_core::session::{Lease, LeaseState, Rate, SessionState};
use gvahint_core::wire::{CANARY_PER_SECOND, WANTED_PER_SECOND};
use kernel::prelude::*;
use kernel::sync::{new_mutex, Mutex};

/// The number of the next VM; never reused.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What hypercalls work on.
pub(crate) struct Guest {
    /// Who may report.
    pub(crate) session: SessionState,
    /// How often it may ask what is wanted.
    pub(crate) wanted_rate: Rate,
    /// The canary under way.
    pub(crate) canary: Option<Canary>,
    /// How often it may begin one.
    pub(crate) canary_rate: Rate,
    /// What goes with the [`Store`] for whoever changes it.
    pub(crate) writer: WriterState,
    /// What the numbers of its nodes may be.
    pub(crate) numbers: Numbers,
}

/// A VM that the module is attached to.
#[pin_data]
pub(crate) struct Vm {
    id: u64,
    kvm: AttachedKvm,
    va_bits: Option<VaBits>,
    can_flush_gva: bool,
    overrides: Overrides,
    counters: Copies,
    lease: Lease,
    /// A canary's accessed bit did not come back.
    degraded: AtomicBool,
    /// The canary's page.
    watch: Watch,
    /// Pages aged since the last kick.
    pending: AtomicU32,
    store: Slot<Store>,
    #[pin]
    guest: Mutex<Guest>,
}

impl Vm {
    /// The state of a VM that nothing is known of.
    pub(crate) fn new(kvm: AttachedKvm) -> Result<Pin<KBox<Self>>> {
        let vm = KBox::pin_init(
            pin_init!(Self {
                id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                kvm,
                va_bits: kvm::va_bits(),
                can_flush_gva: kvm::can_flush_gva(),
                overrides: Overrides::none(),
                counters: Copies::new(),
                lease: Lease::new(),
                degraded: AtomicBool::new(false),
                watch: Watch::new(),
                pending: AtomicU32::new(0),
                store: Slot::empty(),
                guest <- new_mutex!(
                    Guest {
                        session: SessionState::NONE,
                        wanted_rate: Rate::new(WANTED_PER_SECOND),
                        canary: None,
                        canary_rate: Rate::new(CANARY_PER_SECOND),
                        writer: WriterState::new(),
                        numbers: Numbers::new(),
                    },
                    "gvahint_guest"
                ),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        // An earlier module may have logged what only its ring could tell.
        vm.resync();
        Ok(vm)
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn pid(&self) -> i32 {
        self.kvm.get().pid()
    }

    /// What holds for it now.
    pub(crate) fn policy(&self, which: Which) -> Policy {
        self.overrides.policy(which)
    }

    pub(crate) fn overrides(&self, which: Which) -> &PolicyCell {
        self.overrides.of(which)
    }

    /// Where this CPU counts.
    pub(crate) fn counters(&self) -> &Counters {
        self.counters.on(shim::cpu())
    }

    /// What all CPUs have counted.
    pub(crate) fn totals(&self) -> &Copies {
        &self.counters
    }

    /// How wide gVAs are on this host.
    pub(crate) fn va_bits(&self) -> Option<VaBits> {
        self.va_bits
    }

    /// How long hints hold; hypercalls change it.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whether hints are not to be used, for a canary has shown that they do not work.
    pub(crate) fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Relaxed)
    }

    /// Says so, or that it is to be seen.
    pub(crate) fn set_degraded(&self, degraded: bool) {
        self.degraded.store(degraded, Ordering::Relaxed);
    }

    /// Whether this host's CPUs drop single gVAs.
    pub(crate) fn can_flush_gva(&self) -> bool {
        self.can_flush_gva
    }

    /// Who is told that the canary's page is aged.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// The VM.
    pub(crate) fn kvm(&self) -> Kvm<'_> {
        self.kvm.get()
    }

    /// Where the storage is; hypercalls change it, and what is in it.
    pub(crate) fn store(&self) -> &Slot<Store> {
        &self.store
    }

    /// What serialises the hypercalls.
    pub(crate) fn guest(&self) -> &Mutex<Guest> {
        &self.guest
    }

    /// Makes every vCPU that lags flush everything.
    pub(crate) fn resync(&self) {
        self.log(None).resync();
    }

    /// Makes every vCPU flush everything at its next entry.
    pub(crate) fn flush_once(&self) {
        let guard = Guard::new();
        let store = self.store.get(&guard);
        let hints = store.map(Store::hints);
        plan::flush_all(self.log(store), hints.as_ref(), self.counters());
    }

    /// The same at once: vCPUs are kicked.
    pub(crate) fn catch_up(&self) {
        self.flush_once();
        self.kick();
    }

    /// Why hints are used or not, in a word.
    pub(crate) fn state(&self) -> &'static str {
        let tunables = knobs::TUNABLES.load();
        match self.lease.state(now_ms(), tunables.lease_ms) {
            LeaseState::Live if !self.can_flush_gva => "no-gva-flush",
            LeaseState::Live if self.is_degraded() => "degraded",
            LeaseState::Live if tunables.calibration.instead().is_some() => "calibration-failed",
            state => state.name(),
        }
    }

    pub(crate) fn log<'a>(&'a self, store: Option<&'a Store>) -> Log<'a> {
        let words = self.kvm.get().log_words();
        let ring = store.map_or(&[][..], Store::ring);
        Log::new(words.head, words.full, words.context, ring)
    }

    fn env<'a>(&'a self, which: Which, store: Option<&'a Store>, now: u64) -> Env<'a, Arena> {
        let tunables = knobs::TUNABLES.load();
        Env {
            policy: self.policy(which),
            tunables,
            log: self.log(store),
            hints: self.lease.check(now, tunables.lease_ms).and_then(|()| {
                match self.is_degraded() {
                    true => Err(Reason::Degraded),
                    false => store.map(Store::hints).ok_or(Reason::NoSession),
                }
            }),
            can_flush_gva: self.can_flush_gva,
            counters: self.counters(),
            wanted: store.map(Store::wanted),
            kept: store.map(Store::kept),
        }
    }

    /// A leaf is young: shall it stay so?  Atomic context.
    pub(crate) fn keep(&self, which: Which, gfn: u64, level: Option<Level>) -> bool {
        let (Some(gfn), Some(level)) = (Gfn::new(gfn), level) else {
            return false;
        };
        let now = now_ms();
        let guard = Guard::new();
        let env = self.env(which, self.store.get(&guard), now);
        plan::keep(&env, gfn, level, now)
    }

    /// A leaf's accessed bit was cleared.  Atomic context.
    pub(crate) fn aged(&self, pass: &mut Pass, which: Which, gfn: u64, level: Option<Level>) {
        // Physical addresses end long before.
        let Some(gfn) = Gfn::new(gfn) else { return };
        let level = level.unwrap_or(Level::L1G);
        self.watch.aged(gfn, level);
        let now = now_ms();
        let guard = Guard::new();
        let env = self.env(which, self.store.get(&guard), now);
        let coverage = plan::aged(pass, &env, gfn, level, now);
        trace::aged(self, which, gfn, level, coverage);
    }

    /// A notifier call ends.  Atomic context.
    pub(crate) fn flush(&self, pass: &mut Pass, which: Which, other: u32) -> Outcome {
        let guard = Guard::new();
        let env = self.env(which, self.store.get(&guard), now_ms());
        let outcome = plan::finish(pass, &env, other, &self.pending);
        trace::plan(self, which, env.policy, other, outcome);
        outcome
    }

    /// A guest's call ends, which may have told that pages moved: who has to drain for that.
    pub(crate) fn reported(&self) -> Kick {
        let guard = Guard::new();
        let store = self.store.get(&guard);
        let log = self.log(store);
        let due = store.is_some_and(|s| owed::reported(log, &s.hints(), self.counters()));
        let is_now = |which| self.policy(which).timing == Timing::Now;
        match knobs::TUNABLES.load().max_delay_ms {
            ms @ 1.. if due => Kick::Within(ms),
            0 if due && (is_now(Which::ClearYoung) || is_now(Which::ClearFlushYoung)) => Kick::Now,
            _ => Kick::No,
        }
    }

    /// Makes the vCPUs drain.
    pub(crate) fn kick(&self) {
        self.counters().add(Counter::Kicks, 1);
        self.kvm.get().kick();
    }

    /// The same for those that have not come by within `max_delay_ms`.
    pub(crate) fn delayed_kick(&self) {
        self.pending.store(0, Ordering::Relaxed);
        self.kick();
    }

    /// A vCPU that has not seen everything is about to enter the guest.  IRQs are off.
    pub(crate) fn drain(&self, entry: &mut Entry<'_>) {
        let cursor = entry.vcpu().cursor();
        let from = cursor.load(Ordering::Relaxed);
        let guard = Guard::new();
        let max_gvas = knobs::TUNABLES.load().max_gvas_per_entry;
        let drained = self
            .log(self.store.get(&guard))
            .drain(cursor, max_gvas, entry);
        self.counters().drained(&drained);
        trace::drained(self, entry.vcpu(), from, drained);
    }

    /// KVM is about to flush a vCPU for reasons of its own.
    pub(crate) fn flushed(&self, vcpu: Vcpu<'_>, scope: Scope) {
        let from = vcpu.cursor().load(Ordering::Relaxed);
        if self.log(None).superseded(vcpu.cursor(), scope) {
            self.counters().add(Counter::Superseded, 1);
            trace::superseded(self, vcpu, from);
        }
    }

    /// The frames `start..end` are memory no more.  Sleeps.
    pub(crate) fn invalidate(&self, start: u64, end: u64) {
        let mut guest = self.guest.lock();
        self.watch.forget(start, end);
        self.forget(&mut guest, start, end);
        grow::reap(self, &mut guest);
        self.count(&guest);
    }

    /// Drops the hints of the frames `start..end`, a piece at a time.  Sleeps.
    pub(crate) fn forget(&self, guest: &mut Guest, start: u64, end: u64) {
        /// Frames at a time: a second of work would be too long for others.
        const PIECE: u64 = 1 << 18;
        let mut at = start;
        while at < end {
            let next = at.saturating_add(PIECE).min(end);
            let guard = Guard::new();
            let Some(store) = self.store.get(&guard) else {
                return;
            };
            let mut writer = store.writer(&mut guest.writer);
            writer.revoke(at, next.saturating_sub(at));
            if writer.hints() == 0 {
                return;
            }
            drop(guard);
            relax();
            at = next;
        }
    }

    /// Shows what the table holds, and has KVM ask about page tables if it holds any to keep.
    pub(crate) fn count(&self, guest: &Guest) {
        let guard = Guard::new();
        let bytes = self.store.get(&guard).map(|s| s.bytes(&guest.writer));
        self.counters.set(Counter::Bytes, bytes.unwrap_or(0));
        self.counters.set(Counter::Hints, guest.writer.hints());
        let kept = guest.writer.kept();
        self.counters.set(Counter::KeptPages, kept);
        self.kvm.get().set_keep(kept > 0);
    }
}
