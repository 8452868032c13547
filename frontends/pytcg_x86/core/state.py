"""The CPU state as a table: one row a register; everything else asks it for offsets.

The arithmetic flags live in five slots, each cheap to store and to test, so that no flag ever
needs to know which instruction made it:

    ZF = (flag_z == 0)      SF = sign of flag_s      PF = even parity of flag_s's low byte
    CF = flag_c (0 or 1)    OF = flag_o (0 or 1)     AF = bit 4 of (flag_x ^ flag_s)

An addition stores its sign-extended result in flag_z and flag_s, both carries, and a ^ b in flag_x.
`eflags` keeps the other bits (IF, DF, IOPL, …); its arithmetic bits are always 0.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from pytcg.exec.layout import EXEC_ENV, ExecEnv
from pytcg.ir.layout import Rows, Struct


class Seg(IntEnum):
    """Index of a segment register in the seg_* arrays (the encoding's order, then LDTR and TR)."""

    ES = 0
    CS = 1
    SS = 2
    DS = 3
    FS = 4
    GS = 5
    LDTR = 6
    TR = 7


NEAR: Rows = [
    ("gpr", "u64", 16),                # rax rcx rdx rbx rsp rbp rsi rdi r8…r15
    ("zero", "u64"),                   # always 0: the base or index of an address that has none
    ("flag_z", "u64"), ("flag_s", "u64"),
    ("flag_c", "u8"), ("flag_o", "u8"), ("flag_x", "u8"), ("cpl", "u8"),
    ("eflags", "u32"),
]  # fmt: skip
ENV = Struct("Env", [
    ("seg_base", "u64", 8),
    ("seg_limit", "u32", 8),           # in bytes (granularity applied)
    ("seg_attr", "u32", 8),            # descriptor bits 40-47, and G D/B L AVL at bits 12-15
    ("seg_sel", "u16", 8),
    ("gdtr_base", "u64"), ("idtr_base", "u64"), ("gdtr_limit", "u32"), ("idtr_limit", "u32"),
    ("cr0", "u64"), ("cr2", "u64"), ("cr3", "u64"), ("cr4", "u64"),
    ("efer", "u64"), ("star", "u64"), ("lstar", "u64"), ("cstar", "u64"), ("fmask", "u64"),
    ("kernel_gs_base", "u64"), ("sysenter_cs", "u64"), ("sysenter_esp", "u64"),
    ("sysenter_eip", "u64"), ("pat", "u64"), ("misc_enable", "u64"), ("tsc_aux", "u64"),
    ("pkru", "u32"),
    ("mtrr", "u64", 28),               # by `msr.mtrr_slot`
    ("dr", "u64", 8), ("debugctl", "u64"),
    ("pmc", "u64", 3), ("pmc_control", "u64"), ("pmc_global", "u64"),  # `system.counters`
    ("xcr0", "u64"), ("tsc_offset", "u64"),
    ("intr_line", "u32"), ("nmi_pending", "u32"),
    ("nmi_blocked", "u32"),            # since one was delivered: until the next IRET
    ("smi_pending", "u32"), ("smm", "u32"), ("smbase", "u32"),  # `system.smm`
    ("task_switch", "u32"), ("task_error", "u32"),  # a task switch is under way (`system.task`)
    ("delivering", "u32"),             # an exception's delivery is under way: 1 + its vector
    ("stop_exceptions", "u32"),        # no usable handler: stop instead of escalating
    ("a20_mask", "u64"),
    # What large pages in each TLB cover, and from 3 on what global ones do.
    ("large_base", "u64", 6), ("large_mask", "u64", 6),
    ("xmm", "u128", 16),
    ("ymm_high", "u128", 16),
    ("fp_register", "u64", 16),        # by physical register: significand (MMX), sign and exponent
    ("mxcsr", "u32"), ("host_mxcsr", "u32"),
    ("fp_control", "u16"), ("fp_status", "u16"),  # TOP is kept in fp_top
    ("fp_tag", "u8", 8),               # 1: empty, by physical register
    ("fp_top", "u32"),
    ("fp_unit", "u32"),                # the control word by which the host's x87 unit computes
    ("fp_opcode", "u16"), ("fp_cs", "u16"), ("fp_ds", "u16"),
    ("fp_last", "u16"),                # the last opcode, which `memory.fp_shown_opcode` may hide
    ("fp_ip", "u64"), ("fp_dp", "u64"),
    # Flags on the way out of a region: what they are the flags of, see `flags_settle`.
    ("kept_tlb", "ptr"),  # the supervisor's TLB that its kept pages are of
    ("cc_kind", "u32"), ("cc_a", "u64"), ("cc_b", "u64"),
    ("monitor_address", "u64"),
    ("fp_ferr", "u32"),                # FERR# has been signalled for the pending x87 exception
    ("host", "ptr", 16),               # callbacks into Python, by `Host`
    ("retired", "u64"),                # instructions that were run, when the budget will be 0
    ("vendor", "u32"),                 # `Vendor`, whose processors' differences are followed
    ("cpuid_features", "u64", 7),      # feature bits decode and control registers depend on
], base=EXEC_ENV, inside={"near": NEAR}, align=64)  # fmt: skip
ENV.alias("rip", "pc")


class Env(ExecEnv):
    """The CPU state as native code sees it."""

    layout = ENV


class Vendor(IntEnum):
    """Makers whose processors differ."""

    OTHER = 0
    INTEL = 1
    AMD = 2


class Host(IntEnum):
    """Index of a Python callback in env.host."""

    READ_PORT = 0
    WRITE_PORT = 1
    ACKNOWLEDGE = 2
    READ_MSR = 3
    WRITE_MSR = 4
    READ_CR8 = 5
    WRITE_CR8 = 6
    CPUID = 7
    TSC = 8
    RANDOM = 9
    READ_PORTS = 10
    WRITE_PORTS = 11
    FPU_ERROR = 12
    SMM = 13


class Flag(IntFlag):
    """EFLAGS bits (SDM vol. 1, 3.4.3)."""

    CF = 1 << 0
    FIXED = 1 << 1
    PF = 1 << 2
    AF = 1 << 4
    ZF = 1 << 6
    SF = 1 << 7
    TF = 1 << 8
    IF = 1 << 9
    DF = 1 << 10
    OF = 1 << 11
    IOPL = 3 << 12
    NT = 1 << 14
    RF = 1 << 16
    VM = 1 << 17
    AC = 1 << 18
    VIF = 1 << 19
    VIP = 1 << 20
    ID = 1 << 21
    ARITHMETIC = CF | PF | AF | ZF | SF | OF


class Xcr0(IntFlag):
    """XCR0's bits and those of XSAVE's header (SDM vol. 1, 13.1)."""

    X87 = 1 << 0
    SSE = 1 << 1
    AVX = 1 << 2
    PKRU = 1 << 9


class Cr0(IntFlag):
    """CR0 (SDM vol. 3, 2.5)."""

    PE = 1 << 0
    MP = 1 << 1
    EM = 1 << 2
    TS = 1 << 3
    ET = 1 << 4
    NE = 1 << 5
    WP = 1 << 16
    AM = 1 << 18
    NW = 1 << 29
    CD = 1 << 30
    PG = 1 << 31


class Cr4(IntFlag):
    """CR4 (SDM vol. 3, 2.5)."""

    VME = 1 << 0
    PVI = 1 << 1
    TSD = 1 << 2
    DE = 1 << 3
    PSE = 1 << 4
    PAE = 1 << 5
    MCE = 1 << 6
    PGE = 1 << 7
    PCE = 1 << 8
    OSFXSR = 1 << 9
    OSXMMEXCPT = 1 << 10
    UMIP = 1 << 11
    LA57 = 1 << 12
    FSGSBASE = 1 << 16
    PCIDE = 1 << 17
    OSXSAVE = 1 << 18
    SMEP = 1 << 20
    SMAP = 1 << 21
    PKE = 1 << 22


class Efer(IntFlag):
    """IA32_EFER (SDM vol. 3, 2.2.1)."""

    SCE = 1 << 0
    LME = 1 << 8
    LMA = 1 << 10
    NXE = 1 << 11


class Mode(IntFlag):
    """What translation depends on; part of a block's identity."""

    CODE32 = 1 << 0      # CS.D
    CODE64 = 1 << 1      # long mode and CS.L
    STACK32 = 1 << 2     # SS.B (clear in 64-bit code, which ignores it)
    USER = 1 << 3        # CPL = 3
    SEGMENTED = 1 << 4   # DS, ES or SS not flat: base, limit or type must be looked at
    NO_FPU = 1 << 5      # CR0.EM or CR0.TS: x87 and MMX raise #NM (or #UD)
    NO_SSE = 1 << 6      # CR4.OSFXSR clear or CR0.EM set: SSE raises #UD
    TASK_SWITCHED = 1 << 7  # CR0.TS: SSE raises #NM
    STEP = 1 << 8        # EFLAGS.TF
    INHIBIT = 1 << 9     # the instruction after STI or MOV SS, or with EFLAGS.RF set
    PROTECTED = 1 << 10  # CR0.PE and not virtual-8086
    VM86 = 1 << 11
    NO_AVX = 1 << 12     # CR4.OSXSAVE clear, or XCR0 without YMM state: AVX raises #UD


class Attr(IntFlag):
    """seg_attr: descriptor bits 40-47 in 0-7, bits 52-55 in 12-15."""

    ACCESSED = 1 << 0
    WRITABLE = 1 << 1    # data; for code: READABLE
    EXPAND_DOWN = 1 << 2  # data; for code: CONFORMING
    CODE = 1 << 3
    S = 1 << 4           # not a system segment
    DPL = 3 << 5
    P = 1 << 7
    AVL = 1 << 12
    L = 1 << 13
    DB = 1 << 14
    G = 1 << 15


class Vector(IntEnum):
    """Exception vectors (SDM vol. 3, 6.3.1)."""

    DE = 0
    DB = 1
    NMI = 2
    BP = 3
    OF = 4
    BR = 5
    UD = 6
    NM = 7
    DF = 8
    TS = 10
    NP = 11
    SS = 12
    GP = 13
    PF = 14
    MF = 16
    AC = 17
    MC = 18
    XM = 19


class MmuIndex(IntEnum):
    """TLBs: user, supervisor, and supervisor accesses that SMAP lets at user pages."""

    KERNEL = 0
    USER = 1
    KERNEL_AC = 2
