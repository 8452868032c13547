"""The names of all registers, for editors and type checkers; made from their table.

`python tests/library/test_register_names.py` makes it.
"""

from __future__ import annotations


class RegisterNames:
    """Registers as attributes: all are whole numbers."""

    rax: int; eax: int; ax: int; al: int; ah: int; rcx: int; ecx: int; cx: int  # noqa: E702
    cl: int; ch: int; rdx: int; edx: int; dx: int; dl: int; dh: int; rbx: int  # noqa: E702
    ebx: int; bx: int; bl: int; bh: int; rsp: int; esp: int; sp: int; spl: int  # noqa: E702
    rbp: int; ebp: int; bp: int; bpl: int; rsi: int; esi: int; si: int; sil: int  # noqa: E702
    rdi: int; edi: int; di: int; dil: int; r8: int; r8d: int; r8w: int; r8b: int  # noqa: E702
    r9: int; r9d: int; r9w: int; r9b: int; r10: int; r10d: int; r10w: int; r10b: int  # noqa: E702
    r11: int; r11d: int; r11w: int; r11b: int; r12: int; r12d: int; r12w: int  # noqa: E702
    r12b: int; r13: int; r13d: int; r13w: int; r13b: int; r14: int; r14d: int  # noqa: E702
    r14w: int; r14b: int; r15: int; r15d: int; r15w: int; r15b: int; es: int  # noqa: E702
    es_base: int; es_limit: int; es_attr: int; cs: int; cs_base: int; cs_limit: int  # noqa: E702
    cs_attr: int; ss: int; ss_base: int; ss_limit: int; ss_attr: int; ds: int  # noqa: E702
    ds_base: int; ds_limit: int; ds_attr: int; fs: int; fs_base: int; fs_limit: int  # noqa: E702
    fs_attr: int; gs: int; gs_base: int; gs_limit: int; gs_attr: int; ldtr: int  # noqa: E702
    ldtr_base: int; ldtr_limit: int; ldtr_attr: int; tr: int; tr_base: int  # noqa: E702
    tr_limit: int; tr_attr: int; gdtr_base: int; gdtr_limit: int; idtr_base: int  # noqa: E702
    idtr_limit: int; dr0: int; dr1: int; dr2: int; dr3: int; dr4: int; dr5: int  # noqa: E702
    dr6: int; dr7: int; cr0: int; cr2: int; cr3: int; cr4: int; efer: int; star: int  # noqa: E702
    lstar: int; cstar: int; fmask: int; kernel_gs_base: int; sysenter_cs: int  # noqa: E702
    sysenter_esp: int; sysenter_eip: int; pat: int; xcr0: int; tsc_aux: int  # noqa: E702
    mxcsr: int; fp_control: int; xmm0: int; xmm1: int; xmm2: int; xmm3: int; xmm4: int  # noqa: E702
    xmm5: int; xmm6: int; xmm7: int; xmm8: int; xmm9: int; xmm10: int; xmm11: int  # noqa: E702
    xmm12: int; xmm13: int; xmm14: int; xmm15: int; rip: int; eip: int; ip: int  # noqa: E702
    fcw: int; rflags: int; eflags: int; flags: int; cpl: int; fsw: int; ftw: int  # noqa: E702
    ymm0: int; ymm1: int; ymm2: int; ymm3: int; ymm4: int; ymm5: int; ymm6: int  # noqa: E702
    ymm7: int; ymm8: int; ymm9: int; ymm10: int; ymm11: int; ymm12: int; ymm13: int  # noqa: E702
    ymm14: int; ymm15: int; st0: int; st1: int; st2: int; st3: int; st4: int; st5: int  # noqa: E702
    st6: int; st7: int; mm0: int; mm1: int; mm2: int; mm3: int; mm4: int; mm5: int  # noqa: E702
    mm6: int; mm7: int; cf: int; pf: int; af: int; zf: int; sf: int; tf: int; if_: int  # noqa: E702
    df: int; of: int; nt: int; rf: int; vm: int; ac: int; vif: int; vip: int; id: int  # noqa: E702
    iopl: int; cr8: int  # noqa: E702
