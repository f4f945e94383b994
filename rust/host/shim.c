// SPDX-License-Identifier: GPL-2.0
/*
 * C for what the kernel crate of 6.12 has no abstraction for: see shim.h,
 * which holds the contracts.  No policy, no state but one delayed work per VM.
 */
#include <linux/jiffies.h>
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/workqueue.h>

#include "shim.h"

/*
 * KVM exports the hooks to us alone.  6.12 spells that as a namespace and does
 * not know yet that a module need not import its own.
 */
MODULE_INFO(import_ns, "module:gvahint");

struct kvm_age *gvahint_kvm_age(struct kvm *kvm)
{
	return &kvm->age;
}

struct kvm *gvahint_vcpu_kvm(struct kvm_vcpu *vcpu)
{
	return vcpu->kvm;
}

u64 *gvahint_vcpu_cursor(struct kvm_vcpu *vcpu)
{
	return &vcpu->age_cursor;
}

bool gvahint_vcpu_takes_answer(struct kvm_vcpu *vcpu)
{
	gpa_t gpa = vcpu->arch.regs[VCPU_REGS_RDX];
	struct kvm_memory_slot *slot = gfn_to_memslot(vcpu->kvm, gpa_to_gfn(gpa));

	return kvm_is_visible_memslot(slot) && !(slot->flags & KVM_MEM_READONLY);
}

u32 gvahint_vcpu_id(struct kvm_vcpu *vcpu)
{
	return vcpu->vcpu_id;
}

u64 gvahint_now_ms(void)
{
	return jiffies64_to_msecs(get_jiffies_64());
}

u32 gvahint_cpu(void)
{
	return raw_smp_processor_id();
}

u32 gvahint_random(void)
{
	return get_random_u32();
}

void gvahint_cond_resched(void)
{
	cond_resched();
}

void gvahint_rcu_read_lock(void)
{
	rcu_read_lock();
}

void gvahint_rcu_read_unlock(void)
{
	rcu_read_unlock();
}

void gvahint_synchronize_rcu(void)
{
	synchronize_rcu();
}

struct gvahint_kicker {
	struct delayed_work work;
	void *vm;
	gvahint_vm_fn fn;
};

static void gvahint_kicker_run(struct work_struct *work)
{
	struct gvahint_kicker *kicker;

	kicker = container_of(to_delayed_work(work), struct gvahint_kicker, work);
	kicker->fn(kicker->vm);
}

struct gvahint_kicker *gvahint_kicker_new(void *vm, gvahint_vm_fn fn)
{
	struct gvahint_kicker *kicker = kzalloc(sizeof(*kicker), GFP_KERNEL_ACCOUNT);

	if (!kicker)
		return NULL;
	INIT_DELAYED_WORK(&kicker->work, gvahint_kicker_run);
	kicker->vm = vm;
	kicker->fn = fn;
	return kicker;
}

void gvahint_kicker_arm(struct gvahint_kicker *kicker, u32 ms)
{
	/* unbound: the CPU that ages may be one that a vCPU shall have for itself */
	queue_delayed_work(system_unbound_wq, &kicker->work, msecs_to_jiffies(ms));
}

void gvahint_kicker_free(struct gvahint_kicker *kicker)
{
	cancel_delayed_work_sync(&kicker->work);
	kfree(kicker);
}
