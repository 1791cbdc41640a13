/* switch_aarch64.S - the context switch: x19-x29, lr, d8-d15 and fpcr.
 *
 * void fen__switch(void **save_sp, void *to_sp, uint64_t control): control is x86's, not used
 * bool fen__jump(void **save_sp, void *to_sp, bool value): returns it on the other stack; the
 * same code, since x2 passes through */
/* Callee-saved registers and fpcr, in the order that view.c and fen-gdb.py know; SAVE stores the
 * stack pointer at x0 and changes x9 only, as LOAD does. */
.macro SAVE
    sub     sp, sp, #176
    stp     x19, x20, [sp, #0]
    stp     x21, x22, [sp, #16]
    stp     x23, x24, [sp, #32]
    stp     x25, x26, [sp, #48]
    stp     x27, x28, [sp, #64]
    stp     x29, x30, [sp, #80]
    stp     d8, d9, [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    mrs     x9, fpcr
    str     x9, [sp, #160]
    mov     x9, sp
    str     x9, [x0]
.endm
.macro LOAD
    ldr     x9, [sp, #160]
    msr     fpcr, x9
    ldp     x19, x20, [sp, #0]
    ldp     x21, x22, [sp, #16]
    ldp     x23, x24, [sp, #32]
    ldp     x25, x26, [sp, #48]
    ldp     x27, x28, [sp, #64]
    ldp     x29, x30, [sp, #80]
    ldp     d8, d9, [sp, #96]
    ldp     d10, d11, [sp, #112]
    ldp     d12, d13, [sp, #128]
    ldp     d14, d15, [sp, #144]
    add     sp, sp, #176
.endm

    .text
    .globl  fen__switch
    .hidden fen__switch
    .type   fen__switch, %function
    .globl  fen__jump
    .hidden fen__jump
    .type   fen__jump, %function
    .balign 16
fen__jump:
fen__switch:
    .cfi_startproc
    SAVE
    mov     sp, x1
    LOAD
    mov     x0, x2
    ret
    .cfi_endproc
    .size   fen__jump, . - fen__jump
    .size   fen__switch, . - fen__switch

/* void fen__begin(void **save_sp, void *top, uint64_t control, void *arg, void (*fn)(void *)): to a
 * stack that nobody has been on; control is x86's. See switch_x86_64.S. */
    .globl  fen__begin
    .hidden fen__begin
    .type   fen__begin, %function
    .balign 16
fen__begin:
    .cfi_startproc
    SAVE
    mov     sp, x1
    mov     x29, xzr
    adr     x30, fen__context_end
    mov     x0, x3
    br      x4
    .cfi_endproc
    .size   fen__begin, . - fen__begin

/* fen__resume(void *to_sp, uint64_t control), jumped to: away from a stack for good. */
    .globl  fen__resume
    .hidden fen__resume
    .type   fen__resume, %function
    .balign 16
fen__resume:
    .cfi_startproc
    mov     sp, x0
    LOAD
    ret
    .cfi_endproc
    .size   fen__resume, . - fen__resume

/* First code of a context: x19 = function, x20 = argument. */
    .globl  fen__context_entry
    .hidden fen__context_entry
    .type   fen__context_entry, %function
    .balign 16
fen__context_entry:
    .cfi_startproc
    .cfi_undefined x30
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x20
    blr     x19
fen__context_end: /* where fen__begin says that it was called from */
    brk     #0
    .cfi_endproc
    .size   fen__context_entry, . - fen__context_entry
    .section .note.GNU-stack,"",%progbits
