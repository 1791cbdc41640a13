/* switch_x86_64.S - the context switch: callee-saved registers and control words only.
 *
 * void fen__switch(void **save_sp, void *to_sp, uint64_t control)
 *
 * MXCSR and the x87 control word are part of the System V callee-saved state. They are kept, but
 * loading them is slow and almost always they are the same on both sides: compared first. The
 * caller reads them (fen__control), early, beside other slow instructions: stmxcsr takes 4 ns
 * alone and nothing beside a rdtsc. */
/* Callee-saved registers, in the order that view.c and fen-gdb.py know. */
.macro SAVE
    pushq   %rbp
    pushq   %rbx
    pushq   %r12
    pushq   %r13
    pushq   %r14
    pushq   %r15
.endm
.macro LOAD
    popq    %r15
    popq    %r14
    popq    %r13
    popq    %r12
    popq    %rbx
    popq    %rbp
.endm

    .text
    .globl  fen__switch
    .hidden fen__switch
    .type   fen__switch, @function
    .balign 16
fen__switch:
    .cfi_startproc
    SAVE
    pushq   %rdx
    movq    %rsp, (%rdi)
    movq    %rsi, %rsp
    cmpq    %rdx, (%rsp)
    jne     2f
1:  addq    $8, %rsp
    LOAD
    ret
2:  ldmxcsr (%rsp)
    fldcw   4(%rsp)
    jmp     1b
    .cfi_endproc
    .size   fen__switch, . - fen__switch

/* void fen__begin(void **save_sp, void *top, uint64_t control, void *arg, void (*fn)(void *))
 *
 * The same to a stack that nobody has been on: fn(arg) begins there, with the control words as they
 * are. Jumped to, not called: so the processor's stack of return addresses is, when the new fiber
 * has ended and fen__resume goes back to who began it, as that one left it, and each return on its
 * way up is predicted (5 ns each). */
    .globl  fen__begin
    .hidden fen__begin
    .type   fen__begin, @function
    .balign 16
fen__begin:
    .cfi_startproc
    SAVE
    pushq   %rdx
    movq    %rsp, (%rdi)
    leaq    -16(%rsi), %rsp
    leaq    fen__context_end(%rip), %rax
    pushq   %rax
    xorl    %ebp, %ebp
    movq    %rcx, %rdi
    jmpq    *%r8
    .cfi_endproc
    .size   fen__begin, . - fen__begin

/* fen__resume(void *to_sp, uint64_t control), jumped to: away from a stack for good. */
    .globl  fen__resume
    .hidden fen__resume
    .type   fen__resume, @function
    .balign 16
fen__resume:
    .cfi_startproc
    movq    %rdi, %rsp
    cmpq    %rsi, (%rsp)
    jne     2f
1:  addq    $8, %rsp
    LOAD
    ret
2:  ldmxcsr (%rsp)
    fldcw   4(%rsp)
    jmp     1b
    .cfi_endproc
    .size   fen__resume, . - fen__resume

/* bool fen__jump(void **save_sp, void *to_sp, bool value)
 *
 * The same between two functions that differ: returns `value` on the other stack, from the
 * fen__jump that was left there. A ret would be predicted to go to this call's place and goes to
 * another (5 ns), so it is a jump, which is predicted by where it went before. Called as the last
 * thing of a function it takes that one's return address. The control words are read here: nothing
 * slow is beside. */
    .globl  fen__jump
    .hidden fen__jump
    .type   fen__jump, @function
    .balign 32
fen__jump:
    .cfi_startproc
    SAVE
    subq    $8, %rsp
    stmxcsr (%rsp)
    fnstcw  4(%rsp)
    movl    (%rsp), %r8d
    movzwl  4(%rsp), %ecx
    movl    %edx, %eax
    movq    %rsp, (%rdi)
    movq    %rsi, %rsp
    cmpl    %r8d, (%rsp)
    jne     2f
    cmpw    %cx, 4(%rsp)
    jne     2f
1:  addq    $8, %rsp
    LOAD
    popq    %rcx
    jmpq    *%rcx
2:  ldmxcsr (%rsp)
    fldcw   4(%rsp)
    jmp     1b
    .cfi_endproc
    .size   fen__jump, . - fen__jump

/* First code of a context: r12 = function, r13 = argument, set by fen__context_init. */
    .globl  fen__context_entry
    .hidden fen__context_entry
    .type   fen__context_entry, @function
    .balign 16
fen__context_entry:
    .cfi_startproc
    .cfi_undefined rip
    xorl    %ebp, %ebp
    movq    %r13, %rdi
    callq   *%r12
fen__context_end: /* where fen__begin says that it was called from */
    ud2
    .cfi_endproc
    .size   fen__context_entry, . - fen__context_entry
    .section .note.GNU-stack,"",@progbits
