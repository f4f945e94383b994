// SPDX-License-Identifier: GPL-2.0
//! Where C calls in: KVM's hooks and the delayed kick.
//!
//! Each entry point turns its pointers into values that live as long as the call, and passes on.
//! Contracts discharged: kvm_age.h, "struct kvm_age_ops"; shim.h, "one delayed kick per VM".

use crate::ffi_sysfs::{self, SYSFS_OPS};
use crate::hypercall::{Buffer, Call};
use crate::knobs::Which;
use crate::kvm::{AttachedKvm, Entry, Kvm, Memslots, Registration, Table, Vcpu};
use crate::shim::{Dir, Kicker, Tree};
use crate::vm::Vm;
use crate::{bindings, hypercall};
use core::ptr::{addr_of, addr_of_mut};
use core::sync::atomic::Ordering;
use gvahint_core::addr::Level;
use gvahint_core::counters::Counter;
use gvahint_core::log::Scope;
use gvahint_core::plan::{Kick, Pass, Verdict};
use gvahint_core::wire::Errno;
use kernel::error::from_result;
use kernel::ffi::{c_int, c_long, c_void};
use kernel::prelude::*;

/// What `kvm->age.priv` of an attached VM points to.
///
/// The order of the fields matters: the directory and the kicker point to the VM's state, and both
/// wait, when dropped, until nobody uses it through them.
struct Attached {
    _dir: Dir,
    kicker: Kicker,
    vm: Pin<KBox<Vm>>,
}

impl Attached {
    /// The state behind a hook's VM.
    ///
    /// # Safety
    ///
    /// Only in a hook, and not in detach(): that is called when no hook runs any more, so that the
    /// state is good for `'a`.
    unsafe fn of<'a>(kvm: Kvm<'a>) -> Option<&'a Self> {
        let ptr = kvm.private().load(Ordering::Acquire).cast::<Self>();
        // SAFETY: null or set by `attach`; see above.
        unsafe { ptr.as_ref() }
    }

    fn kick(&self, kick: Kick) {
        match kick {
            Kick::No => (),
            Kick::Now => self.vm.kick(),
            Kick::Within(ms) => self.kicker.arm(ms),
        }
    }
}

fn try_attach(kvm: Kvm<'_>) -> Result {
    // SAFETY: `detach` drops it.
    let attached_kvm = unsafe { AttachedKvm::new(kvm) };
    let vm = Vm::new(attached_kvm)?;
    let data = core::ptr::from_ref::<Vm>(&vm).cast_mut().cast::<c_void>();
    // SAFETY: `data` is pinned and dropped after the kicker.
    let kicker = unsafe { Kicker::new(data, fire) }?;
    // SAFETY: `data` is pinned and dropped after the directory; KVM is unregistered, which detaches
    // all VMs, before the tree goes.
    let dir = unsafe { Dir::new(data, vm.id()) }?;
    let attached = KBox::new(
        Attached {
            _dir: dir,
            kicker,
            vm,
        },
        GFP_KERNEL_ACCOUNT,
    )?;
    let ptr = KBox::into_raw(attached).cast::<c_void>();
    kvm.private().store(ptr, Ordering::Release);
    Ok(())
}

/// # Safety
///
/// KVM's alone to call: see attach() in kvm_age.h.
unsafe extern "C" fn attach(kvm: *mut bindings::kvm) -> c_int {
    // SAFETY: kvm_age.h: alive during the call.
    let kvm = unsafe { Kvm::from_raw(kvm) };
    from_result(|| {
        try_attach(kvm.ok_or(EINVAL)?).inspect_err(|error| {
            pr_warn!("a VM is aged as without the module, for lack of memory: {error:?}\n");
        })?;
        Ok(0)
    })
}

/// # Safety
///
/// KVM's alone to call: see detach() in kvm_age.h.
unsafe extern "C" fn detach(kvm: *mut bindings::kvm) {
    // SAFETY: kvm_age.h: alive during the call.
    let Some(kvm) = (unsafe { Kvm::from_raw(kvm) }) else {
        return;
    };
    let ptr = kvm.private().swap(core::ptr::null_mut(), Ordering::AcqRel);
    if !ptr.is_null() {
        // SAFETY: set by `try_attach` from `into_raw`, swapped out by us; kvm_age.h: no hook of
        // this VM runs or will run.
        drop(unsafe { KBox::from_raw(ptr.cast::<Attached>()) });
    }
}

/// The module's part of a notifier call's context.
///
/// # Safety
///
/// `ctx` must be the argument of the hook that runs.
unsafe fn pass_of(ctx: *mut bindings::kvm_age_ctx) -> Pass {
    // SAFETY: kvm_age.h: lives on the notifier's stack, ours alone.
    let words = unsafe { addr_of!((*ctx).priv_).read() };
    Pass { words }
}

/// # Safety
///
/// As [`pass_of`].
unsafe fn which_of(ctx: *mut bindings::kvm_age_ctx) -> Which {
    // SAFETY: kvm_age.h: lives on the notifier's stack; KVM's, set before the first hook.
    let which = unsafe { addr_of!((*ctx).which).read() };
    if which == bindings::KVM_AGE_CLEAR_YOUNG {
        Which::ClearYoung
    } else {
        Which::ClearFlushYoung
    }
}

/// # Safety
///
/// KVM's alone to call: see keep() in kvm_age.h.
unsafe extern "C" fn keep(
    kvm: *mut bindings::kvm,
    ctx: *mut bindings::kvm_age_ctx,
    gfn: bindings::gfn_t,
    level: c_int,
) -> bool {
    // SAFETY: kvm_age.h: alive during the call.
    let kvm = unsafe { Kvm::from_raw(kvm) };
    // SAFETY: in a hook.
    let Some(attached) = kvm.and_then(|kvm| unsafe { Attached::of(kvm) }) else {
        return false;
    };
    // SAFETY: this hook's argument.
    let which = unsafe { which_of(ctx) };
    attached.vm.keep(which, gfn, Level::from_kvm(level))
}

/// # Safety
///
/// KVM's alone to call: see aged() in kvm_age.h.
unsafe extern "C" fn aged(
    kvm: *mut bindings::kvm,
    ctx: *mut bindings::kvm_age_ctx,
    gfn: bindings::gfn_t,
    level: c_int,
) {
    // SAFETY: kvm_age.h: alive during the call.
    let kvm = unsafe { Kvm::from_raw(kvm) };
    // SAFETY: in a hook.
    let Some(attached) = kvm.and_then(|kvm| unsafe { Attached::of(kvm) }) else {
        return;
    };
    // SAFETY: this hook's argument.
    let mut pass = unsafe { pass_of(ctx) };
    // SAFETY: this hook's argument.
    let which = unsafe { which_of(ctx) };
    attached
        .vm
        .aged(&mut pass, which, gfn, Level::from_kvm(level));
    // SAFETY: kvm_age.h: lives on the notifier's stack, ours alone.
    unsafe { addr_of_mut!((*ctx).priv_).write(pass.words) };
}

/// # Safety
///
/// KVM's alone to call: see flush() in kvm_age.h.
unsafe extern "C" fn flush(
    kvm: *mut bindings::kvm,
    ctx: *mut bindings::kvm_age_ctx,
) -> bindings::kvm_age_verdict {
    // SAFETY: kvm_age.h: alive during the call.
    let kvm = unsafe { Kvm::from_raw(kvm) };
    // SAFETY: in a hook.
    let Some(attached) = kvm.and_then(|kvm| unsafe { Attached::of(kvm) }) else {
        return bindings::KVM_AGE_DEFAULT;
    };
    // SAFETY: this hook's argument.
    let mut pass = unsafe { pass_of(ctx) };
    // SAFETY: this hook's argument.
    let which = unsafe { which_of(ctx) };
    // SAFETY: kvm_age.h: lives on the notifier's stack; KVM's, complete when flush() is called.
    let other = unsafe { addr_of!((*ctx).other).read() };
    let outcome = attached.vm.flush(&mut pass, which, other);
    attached.kick(outcome.kick);
    match outcome.verdict {
        Verdict::Handled => bindings::KVM_AGE_HANDLED,
        Verdict::Default => bindings::KVM_AGE_DEFAULT,
    }
}

/// # Safety
///
/// KVM's alone to call: see drain() in kvm_age.h.
unsafe extern "C" fn drain(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: kvm_age.h: alive during the call, on its own thread.
    let Some(vcpu) = (unsafe { Vcpu::from_raw(vcpu) }) else {
        return;
    };
    // SAFETY: in a hook.
    let Some(attached) = vcpu.kvm().and_then(|kvm| unsafe { Attached::of(kvm) }) else {
        return;
    };
    // SAFETY: this is drain().
    let mut entry = unsafe { Entry::new(vcpu) };
    attached.vm.drain(&mut entry);
}

/// # Safety
///
/// KVM's alone to call: see flushed() in kvm_age.h.
unsafe extern "C" fn flushed(vcpu: *mut bindings::kvm_vcpu, scope: bindings::kvm_age_scope) {
    // SAFETY: kvm_age.h: alive during the call, on its own thread.
    let Some(vcpu) = (unsafe { Vcpu::from_raw(vcpu) }) else {
        return;
    };
    // SAFETY: in a hook.
    let Some(attached) = vcpu.kvm().and_then(|kvm| unsafe { Attached::of(kvm) }) else {
        return;
    };
    let scope = if scope == bindings::KVM_AGE_FLUSHED_ROOT {
        Scope::Root
    } else {
        Scope::Context
    };
    attached.vm.flushed(vcpu, scope);
}

/// # Safety
///
/// KVM's alone to call: see hypercall() in kvm_age.h.
unsafe extern "C" fn answer(
    vcpu: *mut bindings::kvm_vcpu,
    op: u64,
    a1: u64,
    buf: *mut c_void,
    len: u32,
) -> c_long {
    // SAFETY: kvm_age.h: alive during the call, on its own thread.
    let vcpu = unsafe { Vcpu::from_raw(vcpu) };
    let cursor = vcpu.map_or(0, |vcpu| vcpu.cursor().load(Ordering::Relaxed));
    let answer = vcpu
        .and_then(Vcpu::kvm)
        .map_or(Errno::NoSys.negative(), |kvm| {
            // SAFETY: in a hook.
            let Some(attached) = (unsafe { Attached::of(kvm) }) else {
                return Errno::NoSys.negative();
            };
            // SAFETY: kvm_age.h: kvm->srcu is held during the call.
            let memslots = unsafe { Memslots::new(kvm) };
            // SAFETY: kvm_age.h: `len` bytes of KVM's own, ours alone during the call; null if 0.
            let Some(buffer) = (unsafe { buffer_of(op, buf, len) }) else {
                return Errno::Inval.negative();
            };
            let in_vain = matches!(buffer, Buffer::Out(_))
                && !vcpu.is_some_and(|vcpu| memslots.take_answer(vcpu));
            let answer = hypercall::answer(
                &attached.vm,
                Call {
                    op,
                    a1,
                    cursor,
                    memslots,
                    buffer,
                    in_vain,
                },
            );
            attached.kick(attached.vm.reported());
            answer
        });
    // Both have 64 bits: nothing is lost.
    c_long::try_from(answer).unwrap_or(-1)
}

/// # Safety
///
/// KVM's alone to call: see invalidate() in kvm_age.h.
unsafe extern "C" fn invalidate(
    kvm: *mut bindings::kvm,
    start: bindings::gfn_t,
    end: bindings::gfn_t,
) {
    // SAFETY: kvm_age.h: alive during the call.
    let kvm = unsafe { Kvm::from_raw(kvm) };
    // SAFETY: in a hook.
    if let Some(attached) = kvm.and_then(|kvm| unsafe { Attached::of(kvm) }) {
        attached.vm.invalidate(start, end);
    }
}

/// # Safety
///
/// Null, or `len` bytes that nobody else touches during `'a`.
unsafe fn buffer_of<'a>(op: u64, buf: *mut c_void, len: u32) -> Option<Buffer<'a>> {
    const WORD: usize = core::mem::size_of::<u64>();
    let ptr = buf.cast::<u64>();
    let len = usize::try_from(len).ok()?;
    if len == 0 {
        return Some(Buffer::None);
    }
    if ptr.is_null() || !ptr.is_aligned() || len % WORD != 0 {
        return None;
    }
    if op >= u64::from(bindings::KVM_AGE_OP_OUT) {
        // SAFETY: what our caller guarantees; aligned and initialised (kvm_age.h: zeroed).
        Some(Buffer::Out(unsafe {
            core::slice::from_raw_parts_mut(ptr, len / WORD)
        }))
    } else {
        // SAFETY: what our caller guarantees; aligned and initialised (kvm_age.h: copied).
        Some(Buffer::In(unsafe {
            core::slice::from_raw_parts(ptr, len / WORD)
        }))
    }
}

/// The delayed kick.
///
/// # Safety
///
/// A [`Kicker`]'s alone to call, with what `try_attach` gave it.
unsafe extern "C" fn fire(data: *mut c_void) {
    // SAFETY: the contract of `Kicker::new`: `try_attach` gave it a `Vm` that outlives it.
    if let Some(vm) = unsafe { data.cast::<Vm>().as_ref() } {
        vm.delayed_kick();
    }
}

static KVM_OPS: Table<bindings::kvm_age_ops> = Table(bindings::kvm_age_ops {
    owner: crate::THIS_MODULE.as_ptr(),
    attach: Some(attach),
    detach: Some(detach),
    keep: Some(keep),
    aged: Some(aged),
    flush: Some(flush),
    drain: Some(drain),
    flushed: Some(flushed),
    hypercall: Some(answer),
    invalidate: Some(invalidate),
});

/// The module at work.  The order of the fields matters: KVM lets go first.
pub(crate) struct Running {
    _registration: Registration,
    _tree: Tree,
}

/// Makes the files and takes over.  For the module's init function, which runs once: hence its
/// argument.
pub(crate) fn start(_module: &'static ThisModule) -> Result<Running> {
    let stats = Counter::ALL.iter().map(|counter| counter.name());
    // SAFETY: once (a second tree would find its name taken); `show` and `store` keep shim.h's
    // contract.
    let tree = unsafe { Tree::new(&SYSFS_OPS.0, stats) }?;
    // SAFETY: the hooks above keep kvm_age.h's contract.
    let registration = unsafe { Registration::new(&KVM_OPS) }?;
    // More is dropped from now on than KVM alone dropped, or whoever wrote the policies meanwhile.
    ffi_sysfs::catch_up_all();
    Ok(Running {
        _registration: registration,
        _tree: tree,
    })
}
