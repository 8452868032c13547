"""One instruction: guest bytes to a record and a form key, native code driven by the opcode tree.

What is fixed in a form's handler goes into the key (`formkey`); registers, immediates and
displacements go into the record.
"""

from __future__ import annotations

from pytcg.exec.layout import Record
from pytcg_native import address_of, i8, i16, i64, native, u8, u16, u32, u64
from pytcg_x86.core.state import ENV, Env, Mode, Seg
from pytcg_x86.decode.fetch import MAX_LENGTH, fetch16, fetch32, fetch64
from pytcg_x86.decode.formkey import (
    ADD_BASE,
    CHECKED,
    EA_BASE,
    EA_DISP,
    EA_NONE,
    FLAT,
    INVALID,
    KEY_ADDRESS,
    KEY_CODE,
    KEY_EA,
    KEY_LENGTH,
    KEY_OPERAND,
    KEY_REP,
    KEY_SEGMENT,
    KEY_SEGMENTED,
    KEY_STACK,
    NM,
    RELATIVE,
    REPNZ,
    REPZ,
    SIZE16,
    SIZE32,
    SIZE64,
)
from pytcg_x86.decode.modrm import (
    decode_address,
    gpr_at,
    gpr_offset,
    immediate,
    immediate_length,
    put_register,
)
from pytcg_x86.decode.opcodes import (
    ADDRESSED,
    ATTR_BIT,
    HAS_J,
    HAS_MODRM,
    HAS_VVVV,
    SIZES,
    VEX_MAP,
    Kind,
    Node,
    opcodes,
)
from pytcg_x86.system.features import FEATURES as FEATURE_BITS

_TABLES = opcodes()
ROOTS, NODES, OPERANDS, ATTRS = (_TABLES.roots, _TABLES.node_table, _TABLES.operands, _TABLES.attrs)
FEATURES, WITHOUT = _TABLES.features, _TABLES.without

_XMM = ENV.offset("xmm")
_MMX = ENV.offset("fp_register")
_SIZE_B = SIZES.index("b")
_AMD, _CR8 = FEATURE_BITS["cr8legacy"][0], 1 << FEATURE_BITS["cr8legacy"][1]

LOCK, D64, F64, PROT, REP, FPU, MMX, SSE, STACK, AVX, LIG, VSIB = (
    ATTR_BIT[name] for name in
    ("lock", "d64", "f64", "prot", "rep", "fpu", "mmx", "sse", "stack", "avx", "lig", "vsib")
)  # fmt: skip


@native
def find_row(env: Env, opcode_map: u32, opcode: u32, modrm: u32, selectors: u32) -> u32:
    """Walk the opcode tree; the row's number.

    ``selectors`` has the mandatory prefix in bits 0-1, VEX.L in bit 2 and VEX.W in bit 3.
    """
    node: u32 = ROOTS[opcode_map * 256 + opcode]
    while (node >> 24) != Node.LEAF:
        kind: u32 = node >> 24
        child: u32 = 0
        if kind == Node.PREFIX:
            child = selectors & 3
        elif kind == Node.REG:
            child = modrm >> 3 & 7
        elif kind == Node.MOD:
            child = u32(modrm >= 0xC0)
        elif kind == Node.RM:
            child = modrm & 7
        elif kind == Node.LENGTH:
            child = selectors >> 2 & 1
        elif kind == Node.WIDE:
            child = selectors >> 3 & 1
        else:
            child = u32((env.mode & Mode.CODE64) != 0)
        node = NODES[(node & 0xFF_FFFF) + child]
    return node & 0xFF_FFFF


@native(inline=True)
def has_feature(env: Env, number: u32) -> bool:
    """Whether CPUID tells of a feature, by its number in `FEATURES`."""
    index: u64 = u64(number) - 1
    return (env.cpuid_features[index >> 6] >> (index & 63) & 1) != 0


@native
def present_row(env: Env, row: u32) -> u32:
    """``row`` if the processor has it, else the one that its encoding means without it."""
    first: u32 = FEATURES[row * 2]
    if first == 0 or has_feature(env, first):
        return row
    second: u32 = FEATURES[row * 2 + 1]
    if second != 0 and has_feature(env, second):
        return row
    return WITHOUT[row]


@native
def blocked_row(env: Env, row: u32) -> u32:
    """The row to use instead where the mode forbids this one: #UD or #NM (SDM vol. 3, 2.5)."""
    attrs: u32 = ATTRS[row]
    mode: u32 = env.mode
    if (attrs & PROT) != 0 and (mode & Mode.PROTECTED) == 0:
        return INVALID
    if (attrs & FPU) != 0 and (mode & Mode.NO_FPU) != 0:
        return NM
    if (attrs & MMX) != 0 and (mode & Mode.NO_FPU) != 0:
        return NM if (mode & Mode.TASK_SWITCHED) != 0 else INVALID
    if (attrs & AVX) != 0:
        if (mode & Mode.NO_AVX) != 0:
            return INVALID
        if (mode & Mode.TASK_SWITCHED) != 0:
            return NM
    if (attrs & SSE) != 0:
        if (mode & Mode.NO_SSE) != 0:
            return INVALID
        if (mode & Mode.TASK_SWITCHED) != 0:
            return NM
    return row


@native(inline=True)
def code_size(mode: u32) -> u32:
    if (mode & Mode.CODE64) != 0:
        return SIZE64
    return SIZE32 if (mode & Mode.CODE32) != 0 else SIZE16


@native(inline=True)
def stack_size(mode: u32) -> u32:
    if (mode & Mode.CODE64) != 0:
        return SIZE64
    return SIZE32 if (mode & Mode.STACK32) != 0 else SIZE16


@native
def decode_insn(env: Env, rec: Record, pc: u64) -> u64:
    """Decode the instruction in env.fetch; fills ``rec`` and returns its form key.

    rec.length above 15 means that the bytes are no instruction that short: #GP. A direct
    transfer's target is left in rec.imm.
    """
    mode: u32 = env.mode
    code: u32 = code_size(mode)
    at: u64 = 0
    rex: u32 = 0
    operand_override: bool = False
    address_override: bool = False
    lock: bool = False
    rep: u32 = 0
    override: u32 = 8
    rec.shift = 0
    rec.segment = Seg.DS  # also of implicit operands (XLAT, MASKMOVQ); records are reused
    opcode: u32 = 0
    while True:
        opcode = env.fetch[at]
        at += 1
        if opcode == 0x66:
            operand_override = True
        elif opcode == 0x67:
            address_override = True
        elif opcode == 0xF0:
            lock = True
        elif opcode == 0xF3:
            rep = REPZ
        elif opcode == 0xF2:
            rep = REPNZ
        elif (opcode & 0xE7) == 0x26:
            if code != SIZE64:
                override = opcode >> 3 & 3
        elif opcode == 0x64 or opcode == 0x65:
            override = opcode - 0x60
        elif code == SIZE64 and (opcode & 0xF0) == 0x40:
            # Only a REX directly before the opcode counts.
            rex = opcode
            following: u32 = env.fetch[at]
            if is_prefix(following):
                rex = 0
        else:
            break
        if at >= MAX_LENGTH:
            rec.length = MAX_LENGTH + 1
            return INVALID
    opcode_map: u32 = 0
    if opcode == 0x0F:
        opcode = env.fetch[at]
        at += 1
        opcode_map = 1
        if opcode == 0x38 or opcode == 0x3A:
            opcode_map = 2 if opcode == 0x38 else 3
            opcode = env.fetch[at]
            at += 1
    modrm: u32 = env.fetch[at]
    selectors: u32 = 1 if operand_override else 0
    if rep == REPZ:
        selectors = 2
    elif rep == REPNZ:
        selectors = 3
    vvvv: u32 = 0
    vex: bool = opcode_map == 0 and is_vex(mode, code, opcode, modrm)
    if vex:
        rec.length = u8(vex_length(env, at, opcode, code, address_override))
        if opcode == 0x62 or lock or rex != 0 or selectors != 0 or rec.length > MAX_LENGTH:
            return INVALID
        last: u32 = modrm  # the byte with vvvv, L and pp
        at += 1
        opcode_map = 1
        rex = 0x40 | (~modrm >> 5 & 4)
        if opcode == 0xC4:
            rex = 0x40 | (~modrm >> 5 & 7)
            opcode_map = modrm & 0x1F
            last = env.fetch[at]
            at += 1
            if opcode_map == 0 or opcode_map > 3:
                return INVALID
            selectors = last >> 4 & 8
        vvvv = ~last >> 3 & 15
        if code != SIZE64:
            rex = 0
            vvvv &= 7
        elif (selectors & 8) != 0:
            rex |= 8
        selectors |= (last & 7)
        opcode_map += VEX_MAP
        opcode = env.fetch[at]
        at += 1
        modrm = env.fetch[at]
    lookup: u32 = opcode
    if opcode_map == 0 and opcode == 0x90 and (rex & 1) != 0:
        lookup = 0x91  # XCHG r8, rAX, not NOP
    row: u32 = find_row(env, opcode_map, lookup, modrm, selectors)
    attrs: u32 = ATTRS[row]
    if vex and (row == INVALID or ((attrs & HAS_VVVV) == 0 and vvvv != 0)):
        return INVALID
    osize: u32 = SIZE32 if code != SIZE16 else SIZE16
    if operand_override:
        osize = SIZE16 if code != SIZE16 else SIZE32
    if code == SIZE64:
        by_default: bool = (attrs & D64) != 0 and not operand_override
        if (rex & 8) != 0 or (attrs & F64) != 0 or by_default:
            osize = SIZE64
    asize: u32 = code
    if address_override:
        asize = SIZE16 if code == SIZE32 else SIZE32
    # MOV to and from control and debug registers ignores mod.
    memory: bool = False
    ea: u32 = EA_NONE
    relative: bool = False
    if (attrs & HAS_MODRM) != 0 or (row == INVALID and opcode_map != 0):
        at += 1
        if modrm < 0xC0 and not (opcode_map == 1 and (opcode & 0xFC) == 0x20):
            memory = True
            found: u64 = decode_address(env, rec, at, modrm, rex, asize)
            first: u64 = at
            at = found & 0xFF
            ea = u32(found >> 8 & 3)
            relative = (found >> 10) != 0
            if (attrs & VSIB) != 0:
                if asize == SIZE16 or (modrm & 7) != 4:
                    return INVALID
                sib: u32 = env.fetch[first]
                rec.index = i16(_XMM + ((sib >> 3 & 7) | (rex & 2) << 2) * 16)
                rec.shift = u8(sib >> 6)
                ea = EA_DISP if ea == EA_DISP else EA_BASE
    slot: u32 = 0
    first_immediate: bool = True
    registers: u64 = 0  # VEX's third and fourth, in an immediate's upper half
    for i in range(u32(0), u32(4)):
        word: u32 = OPERANDS[row * 4 + i]
        kind: u32 = word >> 8
        size: u32 = word & 0xFF
        if kind == Kind.NONE:
            break
        if (kind == Kind.E or kind == Kind.R) and not memory:
            rm: u32 = (modrm & 7) | (rex & 1) << 3
            put_register(rec, slot, gpr_offset(rm, size == _SIZE_B, rex))
            slot += 1
        elif kind == Kind.G:
            reg: u32 = (modrm >> 3 & 7) | (rex & 4) << 1
            put_register(rec, slot, gpr_offset(reg, size == _SIZE_B, rex))
            slot += 1
        elif kind == Kind.Z:
            number: u32 = (opcode & 7) | (rex & 1) << 3
            put_register(rec, slot, gpr_offset(number, size == _SIZE_B, rex))
            slot += 1
        elif kind == Kind.V or ((kind == Kind.W or kind == Kind.U) and not memory):
            field: u32 = (modrm >> 3 & 7) | (rex & 4) << 1
            if kind != Kind.V:
                field = (modrm & 7) | (rex & 1) << 3
            put_register(rec, slot, i16(_XMM + field * 16))
            slot += 1
        elif kind == Kind.H:
            registers |= u64(_XMM + vvvv * 16) << 32
        elif kind == Kind.B:
            registers |= u64(u16(gpr_at(vvvv))) << 32
        elif kind == Kind.L:
            fourth: u32 = env.fetch[at] >> 4
            if code != SIZE64:
                fourth &= 7
            registers |= u64(_XMM + fourth * 16) << 48
            at += 1
        elif kind == Kind.P or ((kind == Kind.Q or kind == Kind.N) and not memory):
            mm: u32 = modrm >> 3 & 7 if kind == Kind.P else modrm & 7
            put_register(rec, slot, i16(_MMX + mm * 16))
            slot += 1
        elif kind == Kind.S:
            put_register(rec, slot, i16(modrm >> 3 & 7))
            slot += 1
        elif kind == Kind.C or kind == Kind.D:
            system: u32 = (modrm >> 3 & 7) | (rex & 4) << 1
            if lock and kind == Kind.C and system == 0 and (env.cpuid_features[_AMD] & _CR8) != 0:
                system = 8  # LOCK MOV CR0: AMD's other name of it (APM vol. 3)
                lock = False
            put_register(rec, slot, i16(system))
            slot += 1
        elif kind == Kind.I or kind == Kind.J:
            value: u64 = immediate(env, at, size, osize)
            if kind == Kind.J and size == _SIZE_B:
                value = u64(i64(i8(u8(value))))
            at += immediate_length(size, osize)
            if first_immediate:
                rec.imm = value
            else:
                rec.imm = (rec.imm & 0xFFFF_FFFF) | value << 32
            first_immediate = False
        elif kind == Kind.A:
            wide: u64 = 2 if osize == SIZE16 else 4
            offset: u64 = fetch16(env, at) if osize == SIZE16 else fetch32(env, at)
            rec.imm = offset | fetch16(env, at + wide) << 32
            at += wide + 2
        elif kind == Kind.O:
            memory = True
            ea = EA_DISP
            if asize == SIZE16:
                rec.disp = fetch16(env, at)
                at += 2
            elif asize == SIZE32:
                rec.disp = fetch32(env, at)
                at += 4
            else:
                rec.disp = fetch64(env, at)
                at += 8
    if at > MAX_LENGTH:
        rec.length = MAX_LENGTH + 1
        return INVALID
    rec.length = u8(at)
    if vex:
        rec.imm = registers if first_immediate else (rec.imm & 0xFFFF_FFFF) | registers
    if opcode_map == 0 and (opcode & 0xF8) == 0xD8:
        rec.imm = (opcode & 7) << 8 | modrm  # what the x87 may keep as its last opcode
    if relative:
        rec.disp += pc + at
        rec.shift = RELATIVE
    if lock and ((attrs & LOCK) == 0 or not memory):
        row = INVALID
    row = blocked_row(env, present_row(env, row))
    if (attrs & HAS_J) != 0:
        target: u64 = pc + at + rec.imm
        if osize == SIZE16:
            target &= 0xFFFF
        elif code != SIZE64:
            target &= 0xFFFF_FFFF
        rec.imm = target
    key: u64 = row | osize << KEY_OPERAND | code << KEY_CODE
    if (attrs & STACK) != 0:
        key |= u64(stack_size(mode)) << KEY_STACK
    if ea != EA_NONE or (attrs & ADDRESSED) != 0:
        if override != 8:
            rec.segment = u8(override)
        key |= asize << KEY_ADDRESS | ea << KEY_EA
        key |= u64(segment_kind(mode, rec.segment)) << KEY_SEGMENT
    if (mode & Mode.SEGMENTED) != 0 and (attrs & (STACK | ADDRESSED)) != 0:
        key |= 1 << KEY_SEGMENTED
    if (attrs & REP) != 0:
        key |= rep << KEY_REP
    if vex and (attrs & (AVX | LIG)) == AVX:
        key |= u64(selectors >> 2 & 1) << KEY_LENGTH
    return key


@native(inline=True)
def is_prefix(byte: u32) -> bool:
    return ((byte & 0xE7) == 0x26 or (byte & 0xFC) == 0x64 or byte == 0xF0
            or (byte & 0xFE) == 0xF2 or (byte & 0xF0) == 0x40)  # fmt: skip


@native(inline=True)
def segment_kind(mode: u32, segment: u8) -> u32:
    """How a form treats its memory operand's segment."""
    if (mode & Mode.CODE64) != 0:
        return ADD_BASE if segment >= Seg.FS else FLAT
    if (mode & Mode.SEGMENTED) != 0 or segment >= Seg.FS or segment == Seg.CS:
        return CHECKED
    return FLAT


@native
def vex_length(env: Env, at: u64, opcode: u32, code: u32, address_override: bool) -> u64:
    """Length of a VEX or EVEX instruction, so that one without a row raises #UD at its end."""
    opcode_map: u32 = 1
    where: u64 = at + 1
    if opcode == 0xC4:
        opcode_map = env.fetch[at] & 0x1F
        where = at + 2
    elif opcode == 0x62:
        opcode_map = env.fetch[at] & 7
        where = at + 3
    operation: u32 = env.fetch[where]
    where += 1
    if not (opcode_map == 1 and operation == 0x77):
        modrm: u32 = env.fetch[where]
        where += 1
        if modrm < 0xC0:
            asize: u32 = code
            if address_override:
                asize = SIZE16 if code == SIZE32 else SIZE32
            scrap: Record = Record(address_of(env.scratch[0]))
            where = decode_address(env, scrap, where, modrm, 0, asize) & 0xFF
    if opcode_map == 3 or (opcode_map == 1 and has_vex_immediate(operation)):
        where += 1
    return where if where <= MAX_LENGTH else u64(MAX_LENGTH + 1)


@native(inline=True)
def is_vex(mode: u32, code: u32, opcode: u32, following: u32) -> bool:
    """C4, C5 and 62 are LES, LDS and BOUND where those can be: with a memory operand, or real."""
    if opcode != 0xC4 and opcode != 0xC5 and opcode != 0x62:
        return False
    return code == SIZE64 or (following >= 0xC0 and (mode & Mode.PROTECTED) != 0)


@native(inline=True)
def has_vex_immediate(operation: u32) -> bool:
    return ((operation >= 0x70 and operation <= 0x73) or operation == 0xC2
            or (operation >= 0xC4 and operation <= 0xC6))  # fmt: skip
