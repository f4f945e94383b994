// SPDX-License-Identifier: GPL-2.0
//! What a guest asks for: HELLO, LINEAR, REPORT, WANTED, BYE.  CANARY is in canary.rs.
//!
//! All under the VM's mutex, so one call of a VM at a time.  The core checks every word; what is
//! left here is the order of things:
//!
//! - The lease ends before the storage changes and starts after it, so that ageing does not look
//!   at what is half done.
//! - A new ring is put in place only when nobody can append to the old one any more, and after
//!   the log was resynchronised: vCPUs that lag behind that point flush everything.
//! - The old storage is freed before the new one is allocated: a VM never holds two.
//!
//! Work and memory are bounded by the VM's size and its buffer of one page.  A guest that calls
//! all the time spends its own time.

use crate::canary;
use crate::grow::{self, Numbers};
use crate::knobs;
use crate::kvm::Memslots;
use crate::rcu::Guard;
use crate::shim::{now_ms, random};
use crate::store::Store;
use crate::trace;
use crate::vm::{Guest, Vm};
use core::sync::atomic::{AtomicU32, Ordering};
use gvahint_core::addr::VaBits;
use gvahint_core::cast;
use gvahint_core::counters::Counter;
use gvahint_core::kept::leaf_quota;
use gvahint_core::linear::LinearList;
use gvahint_core::policy::Tunables;
use gvahint_core::pool::{keep_quota, WriterState};
use gvahint_core::report::{self, Applied, Limits, Sets};
use gvahint_core::session::{Lease, SessionState};
use gvahint_core::table::Shape;
use gvahint_core::wire::{self, Errno, Fault, Hello, Op};

/// The number of the last session of any VM.
static SESSIONS: AtomicU32 = AtomicU32::new(0);

/// Sets out from a number of chance.  A guest that is rolled back to a session with an earlier module,
/// or with another host, must not find its number in use: its calls would be believed.
pub(crate) fn begin_sessions() {
    SESSIONS.store(random(), Ordering::Relaxed);
}

/// KVM's copy of the guest's buffer.
pub(crate) enum Buffer<'a> {
    /// There is none.
    None,
    /// The guest's words.
    In(&'a [u64]),
    /// Zeroed words, which go to the guest if the call succeeds.
    Out(&'a mut [u64]),
}

impl<'a> Buffer<'a> {
    fn words(&self) -> usize {
        match self {
            Buffer::None => 0,
            Buffer::In(words) => words.len(),
            Buffer::Out(words) => words.len(),
        }
    }

    /// What came in.
    pub(crate) fn received(self) -> &'a [u64] {
        match self {
            Buffer::In(words) => words,
            Buffer::None | Buffer::Out(_) => &[],
        }
    }

    /// Hands `words` out; whether they fitted exactly.
    fn send(self, words: &[u64]) -> bool {
        match self {
            Buffer::Out(buffer) if buffer.len() == words.len() => {
                buffer.copy_from_slice(words);
                true
            }
            _ => false,
        }
    }
}

/// A guest's call.
pub(crate) struct Call<'a> {
    pub(crate) op: u64,
    pub(crate) a1: u64,
    /// How far the vCPU has served the log.
    pub(crate) cursor: u64,
    pub(crate) memslots: Memslots<'a>,
    pub(crate) buffer: Buffer<'a>,
    /// What goes into the buffer does not reach the guest.
    pub(crate) in_vain: bool,
}

/// What a call returns, or why it fails.
pub(crate) type Answer = Result<i64, Errno>;

/// Answers a call.  Sleeps.
pub(crate) fn answer(vm: &Vm, call: Call<'_>) -> i64 {
    let (op, a1, words) = (call.op, call.a1, call.buffer.words());
    let (answer, counter) = dispatch(vm, call);
    let answer = match answer {
        Ok(value) => {
            vm.counters().add(counter, 1);
            value
        }
        Err(errno) => {
            vm.counters().add(Counter::Rejected, 1);
            errno.negative()
        }
    };
    trace::report(vm, op, a1, words, answer);
    answer
}

fn dispatch(vm: &Vm, call: Call<'_>) -> (Answer, Counter) {
    let bytes = u64::try_from(call.buffer.words().saturating_mul(8)).unwrap_or(u64::MAX);
    let op = match Op::parse(call.op, bytes) {
        Ok(op) => op,
        Err(error) => return (Err(error.errno()), Counter::Rejected),
    };
    // KVM would find out when all is done, and a session that nobody knows of has begun.
    if call.in_vain {
        return (Err(Errno::Fault), Counter::Rejected);
    }
    // Without knowing how wide gVAs are nothing can be checked.
    let Some(bits) = vm.va_bits() else {
        return (Err(Errno::OpNotSupp), Counter::Rejected);
    };
    let mut guest = vm.guest().lock();
    match op {
        Op::Hello => (hello(vm, &mut guest, call), Counter::Hello),
        Op::Linear => (linear(vm, &mut guest, call, bits), Counter::Linear),
        Op::Report => (report(vm, &mut guest, call, bits), Counter::Report),
        Op::Wanted => (wanted(vm, &mut guest, call), Counter::Wanted),
        Op::Canary => (canary::answer(vm, &mut guest, call, bits), Counter::Canary),
        Op::Bye => (bye(vm, &mut guest, call.a1), Counter::Bye),
    }
}

fn hello(vm: &Vm, guest: &mut Guest, call: Call<'_>) -> Answer {
    wire::check_version(call.a1).map_err(|error| error.errno())?;
    // As without any hint, not as without a guest that reports: it would take a while until then.
    vm.lease().start(now_ms());
    end(vm, guest);
    let opened = open(vm, guest, call);
    if opened.is_err() {
        vm.lease().end();
    }
    opened
}

/// Begins a session, for which there may have to be room first.
fn open(vm: &Vm, guest: &mut Guest, call: Call<'_>) -> Answer {
    let tunables = knobs::TUNABLES.load();
    let Some((shape, slots, table_bytes)) = sizes(&tunables, call.memslots) else {
        // The guest said HELLO: what it reported is of no use, whatever comes of this.
        drop_store(vm, guest);
        return Err(Errno::TooBig);
    };
    if !reuse_store(vm, guest, shape, slots, table_bytes) {
        drop_store(vm, guest);
        let store = Store::new(shape, slots, table_bytes).map_err(|_| Errno::TooBig)?;
        vm.resync();
        // Gives one back only if two of us were at work; we hold the mutex.
        drop(vm.store().put(store));
    }
    vm.count(guest);

    let words = Hello {
        lease_ms: tunables.lease_ms,
        max_gfn: shape.max_gfn(),
    }
    .to_words();
    if !call.buffer.send(&words) {
        return Err(Errno::Inval);
    }
    let mut counter = SESSIONS.fetch_add(1, Ordering::Relaxed);
    guest.session = SessionState::hello(&mut counter);
    vm.lease().start(now_ms());
    // From here on ages are right: what was aged by hints of another guest, or without any, shows.
    vm.catch_up();
    Ok(i64::from(guest.session.id))
}

/// Table, slots of the ring, and bytes that the table may take; `None` beyond the VM's limit.
fn sizes(tunables: &Tunables, memslots: Memslots<'_>) -> Option<(Shape, usize, u64)> {
    let limit = tunables.byte_limit(memslots.pages());
    let slots = usize::try_from(tunables.log_entries).ok()?;
    let table_bytes = limit.checked_sub(Store::fixed_bytes(slots))?;
    Some((Shape::new(memslots.end())?, slots, table_bytes))
}

/// Keeps the storage if there is one of that size, and it is empty.  Sleeps.
fn reuse_store(vm: &Vm, guest: &mut Guest, shape: Shape, slots: usize, table_bytes: u64) -> bool {
    let guard = Guard::new();
    let store = vm
        .store()
        .get(&guard)
        .filter(|store| store.is(shape, slots, table_bytes) && guest.writer.held() == 0);
    store.is_some()
}

/// Frees the storage.  Sleeps.  What is in the ring is not lost: a vCPU that lags and finds no
/// ring flushes its context.
fn drop_store(vm: &Vm, guest: &mut Guest) {
    drop(vm.store().take());
    guest.writer = WriterState::new();
    guest.numbers = Numbers::new();
    vm.count(guest);
}

fn linear(vm: &Vm, guest: &mut Guest, call: Call<'_>, bits: VaBits) -> Answer {
    guest
        .session
        .admit(call.a1)
        .map_err(|error| error.errno())?;
    let memslots = call.memslots;
    let list = LinearList::parse(call.buffer.received(), bits).map_err(|error| error.errno())?;
    let kept = guest.session.sealed;
    if !has_linear(vm, guest, &list)? {
        grow::grow(vm, guest, guest.writer.wanted());
        guest.writer.set_exhausted(false);
        if let Err(error) = replace_linear(vm, guest, &list) {
            // The old ranges are not true any more, and without new ones the guest begins anew.
            vm.forget(guest, 0, memslots.end());
            guest.session.sealed = false;
            vm.lease().start(now_ms());
            return Err(error);
        }
        grow::reap(vm, guest);
    }
    vm.count(guest);
    guest.session.sealed = true;
    revive(vm, |lease, now| lease.seal(now));
    // LINEAR_KEPT, or 0.
    Ok(i64::from(kept))
}

/// Whether the linear ranges are these.
fn has_linear(vm: &Vm, guest: &mut Guest, list: &LinearList<'_>) -> Result<bool, Errno> {
    let guard = Guard::new();
    let store = vm.store().get(&guard).ok_or(Errno::Stale)?;
    Ok(store.writer(&mut guest.writer).has_linear(list))
}

fn replace_linear(vm: &Vm, guest: &mut Guest, list: &LinearList<'_>) -> Result<bool, Errno> {
    let guard = Guard::new();
    let store = vm.store().get(&guard).ok_or(Errno::Stale)?;
    let mut writer = store.writer(&mut guest.writer);
    writer.set_linear(list).map_err(Fault::errno)
}

fn set_leaf_quota(vm: &Vm, leaves: u64) {
    let guard = Guard::new();
    if let Some(store) = vm.store().get(&guard) {
        store.set_leaf_quota(leaves);
    }
}

fn report(vm: &Vm, guest: &mut Guest, call: Call<'_>, bits: VaBits) -> Answer {
    guest
        .session
        .admit(call.a1)
        .map_err(|error| error.errno())?;
    if !guest.session.sealed {
        return Err(Fault::NoLinear.errno());
    }
    let memslots = call.memslots;
    guest.writer.set_keep_quota(keep_quota(memslots.pages()));
    set_leaf_quota(vm, leaf_quota(memslots.pages()));
    let valid = |gfn, pages| memslots.contain(gfn, pages);
    let applied = apply(vm, guest, call.buffer.received(), bits, valid)?;
    grow::reap_if_enough(vm, guest);
    vm.count(guest);
    vm.counters()
        .add(Counter::SetsApplied, u64::from(applied.sets));
    vm.counters()
        .add(Counter::SetsRefused, u64::from(applied.refused.is_some()));
    vm.counters()
        .add(Counter::SetsShortened, guest.writer.take_shortened());
    let sets = applied.answer()?;
    revive(vm, |lease, now| lease.renew(now));
    Ok(i64::from(sets))
}

/// Takes over what a REPORT says; memory that this needs comes in between.  Sleeps.
fn apply(
    vm: &Vm,
    guest: &mut Guest,
    words: &[u64],
    bits: VaBits,
    valid: impl Fn(u64, u64) -> bool,
) -> Result<Applied, Errno> {
    let now = now_ms();
    let mut sets: Option<Sets<'_>> = None;
    let mut before = 0;
    loop {
        let guard = Guard::new();
        let store = vm.store().get(&guard).ok_or(Errno::Stale)?;
        let max_gfn = store.max_gfn();
        let sets = sets.get_or_insert_with(|| Sets::new(words, Limits { bits, max_gfn }));
        let mut writer = store.writer(&mut guest.writer);
        let applied = report::apply(sets, before, &mut writer, now, &valid);
        drop(guard);
        if applied.wanted == 0 {
            guest.writer.set_exhausted(false);
            return Ok(applied);
        }
        before = applied.sets;
        grow::grow(vm, guest, applied.wanted);
    }
}

/// Tells what was aged without a hint, the latest first, into the words that there are.
fn wanted(vm: &Vm, guest: &mut Guest, call: Call<'_>) -> Answer {
    guest
        .session
        .admit(call.a1)
        .map_err(|error| error.errno())?;
    guest
        .wanted_rate
        .admit(now_ms())
        .map_err(|error| error.errno())?;
    let Buffer::Out(words) = call.buffer else {
        return Err(Errno::Inval);
    };
    let told = {
        let guard = Guard::new();
        let store = vm.store().get(&guard).ok_or(Errno::Stale)?;
        store.wanted().take(words)
    };
    vm.counters()
        .add(Counter::WantedTold, cast::u64_from_usize(told));
    revive(vm, |lease, now| lease.renew(now));
    i64::try_from(told).map_err(|_| Errno::Inval)
}

/// Renews the lease.  If that begins something, pages may have been aged without a flush until now:
/// nothing would ever make them look young again.  So everything is flushed once.
pub(crate) fn revive(vm: &Vm, renew: impl FnOnce(&Lease, u64) -> Lease) {
    let before = renew(vm.lease(), now_ms());
    // Who found it lapsed until it was renewed did so by an earlier clock than this, and knew no
    // newer setting.
    let (now, lease_ms) = (now_ms(), knobs::TUNABLES.load().lease_ms);
    if before.state(now, lease_ms) != vm.lease().state(now, lease_ms) {
        vm.catch_up();
    }
}

fn bye(vm: &Vm, guest: &mut Guest, a1: u64) -> Answer {
    guest.session.admit(a1).map_err(|error| error.errno())?;
    vm.lease().end();
    end(vm, guest);
    drop_store(vm, guest);
    Ok(0)
}

/// The session ends, and with it what its canaries have shown.
fn end(vm: &Vm, guest: &mut Guest) {
    guest.session = SessionState::NONE;
    canary::give_up(vm, guest);
    vm.set_degraded(false);
}
