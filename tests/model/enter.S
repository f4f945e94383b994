/* SPDX-License-Identifier: GPL-2.0 */
#include <linux/linkage.h>
#include <asm/nospec-branch.h>

#define HOST_RSP	0x6c14
#define HOST_RIP	0x6c16

	.text
/*
 * int model_enter(struct guest_regs *regs, bool launched)
 * 0 after a VM exit, 1 if the entry failed.
 */
SYM_FUNC_START(model_enter)
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdi
	mov	$HOST_RSP, %eax
	vmwrite	%rsp, %rax
	lea	.Lexit(%rip), %rdx
	mov	$HOST_RIP, %eax
	vmwrite	%rdx, %rax
	test	%sil, %sil
	mov	0(%rdi), %rax
	mov	16(%rdi), %rsi
	mov	24(%rdi), %rdx
	mov	8(%rdi), %rdi
	jnz	.Lresume
	vmlaunch
	jmp	.Lfailed
.Lresume:
	vmresume
.Lfailed:
	pop	%rdi
	mov	$1, %eax
	jmp	.Lout
.Lexit:
	mov	%rdi, %rcx
	pop	%rdi
	mov	%rax, 0(%rdi)
	mov	%rcx, 8(%rdi)
	mov	%rsi, 16(%rdi)
	mov	%rdx, 24(%rdi)
	xor	%eax, %eax
.Lout:
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	RET
SYM_FUNC_END(model_enter)

/* The guest. It has no stack; model_ops has the offset of each enum guest_op. */
	.section .rodata
SYM_DATA_START(model_guest)
.Lnop:
	vmcall
.Lread:
	mov	(%rdi), %rax
	vmcall
.Lchange:			/* a read, another translation, a read */
	mov	(%rdi), %rax
	mov	%rdx, (%rsi)
	mov	(%rdi), %rax
	vmcall
.Lexec:
	jmp	*%rdi
.Linvlpg:
	invlpg	(%rdi)
	vmcall
.Linvpcid:
	invpcid	(%rsi), %rdi
	vmcall
.Lcr3:
	mov	%rdi, %cr3
	vmcall
.Lcr4:
	mov	%rdi, %cr4
	vmcall
.Lsweep:			/* rsi pages from rdi on */
	mov	(%rdi), %rax
	add	$4096, %rdi
	dec	%rsi
	jnz	.Lsweep
	vmcall
.Lread2:			/* rdi twice, in one entry */
	mov	(%rdi), %rax
	mov	(%rdi), %rax
	vmcall
SYM_DATA_END_LABEL(model_guest, SYM_L_GLOBAL, model_guest_end)

SYM_DATA_START(model_ops)
	.byte	.Lnop - .Lnop, .Lread - .Lnop, .Lchange - .Lnop, .Lexec - .Lnop, .Linvlpg - .Lnop
	.byte	.Linvpcid - .Lnop, .Lcr3 - .Lnop, .Lcr4 - .Lnop, .Lsweep - .Lnop, .Lread2 - .Lnop
SYM_DATA_END(model_ops)
