"""The decoder: guest bytes to records, native code driven by the opcode tree.

An instruction's *form key* says everything that is fixed in its handler: table row, operand,
address, stack and code size, REP prefix, what its address is made of and how its segment is
treated. Registers, immediates and displacements go into the record.
"""

from __future__ import annotations

from pytcg.exec.dispatch import fetch_offset
from pytcg.exec.layout import (
    FORM_HASH_SIZE,
    FORM_SIZE,
    PAGE_MASK,
    PAGE_SIZE,
    RECORD_SIZE,
    TB,
    Branch,
    ExecEnv,
    Form,
    Link,
    Record,
    Tb,
)
from pytcg.exec.logevent import LogEvent
from pytcg.softmmu.access import NO_PAGE
from pytcg_native import (
    NULL,
    address_of,
    call_host,
    i8,
    i16,
    i32,
    i64,
    load8,
    load32,
    native,
    ptr,
    store32,
    symbol,
    u8,
    u16,
    u32,
    u64,
    unlikely,
)
from pytcg_x86.flags import ALL_FLAGS, OPAQUE
from pytcg_x86.opcodes import (
    ADDRESSED,
    ATTR_BIT,
    COMPARES,
    FUSES,
    HAS_J,
    HAS_MODRM,
    JCC,
    SIZES,
    Kind,
    Node,
    opcodes,
)
from pytcg_x86.state import ENV, Env, Mode, Seg

_TABLES = opcodes()
ROOTS, NODES, OPERANDS, ATTRS = (_TABLES.roots, _TABLES.node_table, _TABLES.operands, _TABLES.attrs)

_GPR = ENV.offset("gpr")
_ZERO = ENV.offset("zero")
_XMM = ENV.offset("xmm")
_MMX = ENV.offset("fp_mantissa")

LOCK, END, BRANCH, D64, F64, PROT, REP, FPU, MMX, SSE, STACK = (
    ATTR_BIT[name] for name in
    ("lock", "end", "branch", "d64", "f64", "prot", "rep", "fpu", "mmx", "sse", "stack")
)  # fmt: skip
_INVALID, _NM = 0, 1
_MAX_LENGTH = 15
_NONE, _DISP, _BASE, _SIB = range(4)
_FLAT, _ADD_BASE, _CHECKED = range(3)
_S16, _S32, _S64 = 1, 2, 3  # size codes in a key: 8 << code
_REPZ, _REPNZ = 1, 2
_SIZE_B, _SIZE_W, _SIZE_D, _SIZE_Q = (SIZES.index(c) for c in "bwdq")
_SIZE_V, _SIZE_Z, _SIZE_S, _SIZE_P = (SIZES.index(c) for c in "vzsp")
_HEAD = TB.size

# Key fields: position of each.
KEY_OPERAND, KEY_ADDRESS, KEY_STACK, KEY_CODE = 12, 14, 16, 18
KEY_REP, KEY_EA, KEY_SEGMENT, KEY_SEGMENTED, KEY_LOCK, KEY_DEAD = 20, 22, 24, 26, 27, 28
KEY_SECOND = 32  # row of a superinstruction's second half



# Bytes -----------------------------------------------------------------------------------------


@native
def more_code(env: Env, linear: u64) -> u64:
    """RAM offset of the code's second page; raises its fetch fault."""
    return fetch_offset(env, (linear | (PAGE_SIZE - 1)) + 1)


@native
def fill_fetch(env: Env, linear: u64, offset: u64, physical2: u64) -> None:
    """Copy the 15 bytes that an instruction may have to env.fetch, over a page's end if need be."""
    left: u64 = PAGE_SIZE - (offset & (PAGE_SIZE - 1))
    for i in range(u64(0), u64(_MAX_LENGTH)):
        if i < left:
            env.fetch[i] = load8(ptr(env.ram), offset + i)
        elif physical2 != NO_PAGE:
            env.fetch[i] = load8(ptr(env.ram), physical2 + (i - left))
        else:
            env.fetch[i] = 0


@native(inline=True)
def fetch16(env: Env, at: u64) -> u64:
    return u64(env.fetch[at]) | u64(env.fetch[at + 1]) << 8


@native(inline=True)
def fetch32(env: Env, at: u64) -> u64:
    return fetch16(env, at) | fetch16(env, at + 2) << 16


@native(inline=True)
def fetch64(env: Env, at: u64) -> u64:
    return fetch32(env, at) | fetch32(env, at + 4) << 32


# Operands --------------------------------------------------------------------------------------


@native(inline=True)
def gpr_offset(number: u32, byte: bool, rex: u32) -> u16:
    """Offset in the state of a general register; AH…BH for bytes 4-7 without REX."""
    if byte and rex == 0 and number >= 4:
        return u16(_GPR + (number - 4) * 8 + 1)
    return u16(_GPR + number * 8)


@native(inline=True)
def put_register(rec: Record, slot: u32, value: u16) -> None:
    if slot == 0:
        rec.a = value
    else:
        rec.b = value


@native
def address16(rec: Record, rm: u32) -> None:
    """Base and index of a 16-bit ModRM (SDM vol. 2, table 2-1); the segment by default."""
    base: u32 = 3 if rm < 2 or rm == 7 else 5
    if rm == 4:
        base = 6
    elif rm == 5:
        base = 7
    rec.base = u16(_GPR + base * 8)
    rec.segment = Seg.SS if base == 5 else Seg.DS
    if rm < 4:
        rec.index = u16(_GPR + (6 + (rm & 1)) * 8)


@native
def decode_address(env: Env, rec: Record, at: u64, modrm: u32, rex: u32, asize: u32) -> u64:
    """The memory operand of a ModRM byte: record fields; the result is the new position, with the
    kind of address in bits 8-9 and bit 10 set if it is relative to rIP."""
    mod: u32 = modrm >> 6
    rm: u32 = modrm & 7
    kind: u64 = _BASE
    rec.segment = Seg.DS
    rec.shift = 0
    if asize == _S16:
        if mod == 0 and rm == 6:
            rec.disp = fetch16(env, at)
            return (at + 2) | _DISP << 8
        address16(rec, rm)
        kind = _SIB if rm < 4 else _BASE
        if mod == 1:
            rec.disp = u64(i64(i8(env.fetch[at])))
            return (at + 1) | kind << 8
        rec.disp = 0
        if mod == 2:
            rec.disp = u64(i64(i16(u16(fetch16(env, at)))))
            return (at + 2) | kind << 8
        return at | kind << 8
    where: u64 = at
    no_base: bool = False
    if rm == 4:
        sib: u32 = env.fetch[where]
        where += 1
        index: u32 = (sib >> 3 & 7) | (rex & 2) << 2
        rm = sib & 7
        if index != 4:
            kind = _SIB
            rec.index = u16(_GPR + index * 8)
            rec.shift = u8(sib >> 6)
        no_base = rm == 5 and mod == 0
    elif mod == 0 and rm == 5:
        rec.disp = u64(i64(i32(u32(fetch32(env, where)))))
        if (env.mode & Mode.CODE64) != 0:
            return (where + 4) | _DISP << 8 | 1 << 10
        return (where + 4) | _DISP << 8
    if no_base:
        rec.base = _ZERO
    else:
        rec.base = u16(_GPR + (rm | (rex & 1) << 3) * 8)
        # rBP and rSP as base mean the stack segment; r12 and r13 do not.
        if (rm == 4 or rm == 5) and (rex & 1) == 0:
            rec.segment = Seg.SS
    if mod == 1:
        rec.disp = u64(i64(i8(env.fetch[where])))
        return (where + 1) | kind << 8
    rec.disp = 0
    if mod == 2 or no_base:
        rec.disp = u64(i64(i32(u32(fetch32(env, where)))))
        where += 4
        if no_base and kind == _BASE:
            kind = _DISP
    return where | kind << 8


@native
def immediate(env: Env, at: u64, size: u32, osize: u32) -> u64:
    """An immediate's value (sign-extended where the manual says so)."""
    if size == _SIZE_B:
        return env.fetch[at]
    if size == _SIZE_S:
        return u64(i64(i8(env.fetch[at])))
    if size == _SIZE_W:
        return fetch16(env, at)
    if size == _SIZE_D:
        return fetch32(env, at)
    if size == _SIZE_Q:
        return fetch64(env, at)
    if osize == _S16:
        return u64(i64(i16(u16(fetch16(env, at)))))
    if osize == _S64 and size == _SIZE_V:
        return fetch64(env, at)
    return u64(i64(i32(u32(fetch32(env, at)))))


@native
def immediate_length(size: u32, osize: u32) -> u64:
    if size < _SIZE_V:  # b, w, d, q
        return u64(1) << (size - _SIZE_B)
    if size == _SIZE_S:
        return 1
    if osize == _S16:
        return 2
    if osize == _S64 and size == _SIZE_V:
        return 8
    return 4


# One instruction -------------------------------------------------------------------------------


@native
def find_row(env: Env, opcode_map: u32, opcode: u32, modrm: u32, mandatory: u32) -> u32:
    """Walk the opcode tree; the row's number."""
    node: u32 = ROOTS[opcode_map * 256 + opcode]
    while (node >> 24) != Node.LEAF:
        kind: u32 = node >> 24
        child: u32 = 0
        if kind == Node.PREFIX:
            child = mandatory
        elif kind == Node.REG:
            child = modrm >> 3 & 7
        elif kind == Node.MOD:
            child = u32(modrm >= 0xC0)
        elif kind == Node.RM:
            child = modrm & 7
        else:
            child = u32((env.mode & Mode.CODE64) != 0)
        node = NODES[(node & 0xFF_FFFF) + child]
    return node & 0xFF_FFFF


@native
def blocked_row(env: Env, row: u32) -> u32:
    """The row to use instead where the mode forbids this one: #UD or #NM (SDM vol. 3, 2.5)."""
    attrs: u32 = ATTRS[row]
    mode: u32 = env.mode
    if (attrs & PROT) != 0 and (mode & Mode.PROTECTED) == 0:
        return _INVALID
    if (attrs & FPU) != 0 and (mode & Mode.NO_FPU) != 0:
        return _NM
    if (attrs & MMX) != 0 and (mode & Mode.NO_FPU) != 0:
        return _NM if (mode & Mode.TASK_SWITCHED) != 0 else _INVALID
    if (attrs & SSE) != 0:
        if (mode & Mode.NO_SSE) != 0:
            return _INVALID
        if (mode & Mode.TASK_SWITCHED) != 0:
            return _NM
    return row


@native(inline=True)
def code_size(mode: u32) -> u32:
    if (mode & Mode.CODE64) != 0:
        return _S64
    return _S32 if (mode & Mode.CODE32) != 0 else _S16


@native(inline=True)
def stack_size(mode: u32) -> u32:
    if (mode & Mode.CODE64) != 0:
        return _S64
    return _S32 if (mode & Mode.STACK32) != 0 else _S16


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
            rep = _REPZ
        elif opcode == 0xF2:
            rep = _REPNZ
        elif (opcode & 0xE7) == 0x26:
            if code != _S64:
                override = opcode >> 3 & 3
        elif opcode == 0x64 or opcode == 0x65:
            override = opcode - 0x60
        elif code == _S64 and (opcode & 0xF0) == 0x40:
            # Only a REX directly before the opcode counts.
            rex = opcode
            following: u32 = env.fetch[at]
            if is_prefix(following):
                rex = 0
        else:
            break
        if at >= _MAX_LENGTH:
            rec.length = _MAX_LENGTH + 1
            return _INVALID
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
    if opcode_map == 0 and is_vex(mode, code, opcode, modrm):
        rec.length = u8(vex_length(env, at, opcode, code, address_override))
        return _INVALID
    mandatory: u32 = 1 if operand_override else 0
    if rep == _REPZ:
        mandatory = 2
    elif rep == _REPNZ:
        mandatory = 3
    lookup: u32 = opcode
    if opcode_map == 0 and opcode == 0x90 and (rex & 1) != 0:
        lookup = 0x91  # XCHG r8, rAX, not NOP
    row: u32 = find_row(env, opcode_map, lookup, modrm, mandatory)
    attrs: u32 = ATTRS[row]
    osize: u32 = _S32 if code != _S16 else _S16
    if operand_override:
        osize = _S16 if code != _S16 else _S32
    if code == _S64:
        by_default: bool = (attrs & D64) != 0 and not operand_override
        if (rex & 8) != 0 or (attrs & F64) != 0 or by_default:
            osize = _S64
    asize: u32 = code
    if address_override:
        asize = _S16 if code == _S32 else _S32
    # MOV to and from control and debug registers ignores mod.
    memory: bool = False
    ea: u32 = _NONE
    relative: bool = False
    if (attrs & HAS_MODRM) != 0 or (row == _INVALID and opcode_map != 0):
        at += 1
        if modrm < 0xC0 and not (opcode_map == 1 and (opcode & 0xFC) == 0x20):
            memory = True
            found: u64 = decode_address(env, rec, at, modrm, rex, asize)
            at = found & 0xFF
            ea = u32(found >> 8 & 3)
            relative = (found >> 10) != 0
    slot: u32 = 0
    first_immediate: bool = True
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
            put_register(rec, slot, u16(_XMM + field * 16))
            slot += 1
        elif kind == Kind.P or ((kind == Kind.Q or kind == Kind.N) and not memory):
            mm: u32 = modrm >> 3 & 7 if kind == Kind.P else modrm & 7
            put_register(rec, slot, u16(_MMX + mm * 8))
            slot += 1
        elif kind == Kind.S:
            put_register(rec, slot, u16(modrm >> 3 & 7))
            slot += 1
        elif kind == Kind.C or kind == Kind.D:
            put_register(rec, slot, u16((modrm >> 3 & 7) | (rex & 4) << 1))
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
            wide: u64 = 2 if osize == _S16 else 4
            offset: u64 = fetch16(env, at) if osize == _S16 else fetch32(env, at)
            rec.imm = offset | fetch16(env, at + wide) << 32
            at += wide + 2
        elif kind == Kind.O:
            memory = True
            ea = _DISP
            rec.segment = Seg.DS
            if asize == _S16:
                rec.disp = fetch16(env, at)
                at += 2
            elif asize == _S32:
                rec.disp = fetch32(env, at)
                at += 4
            else:
                rec.disp = fetch64(env, at)
                at += 8
        elif kind == Kind.X or kind == Kind.Y:
            rec.segment = Seg.DS
    if at > _MAX_LENGTH:
        rec.length = _MAX_LENGTH + 1
        return _INVALID
    rec.length = u8(at)
    if relative:
        rec.disp += pc + at
    if lock and ((attrs & LOCK) == 0 or not memory):
        row = _INVALID
    row = blocked_row(env, row)
    if (attrs & HAS_J) != 0:
        target: u64 = pc + at + rec.imm
        if osize == _S16:
            target &= 0xFFFF
        elif code != _S64:
            target &= 0xFFFF_FFFF
        rec.imm = target
    key: u64 = row | osize << KEY_OPERAND | code << KEY_CODE
    if (attrs & STACK) != 0:
        key |= u64(stack_size(mode)) << KEY_STACK
    if ea != _NONE or (attrs & ADDRESSED) != 0:
        if override != 8:
            rec.segment = u8(override)
        key |= asize << KEY_ADDRESS | ea << KEY_EA
        key |= u64(segment_kind(mode, rec.segment)) << KEY_SEGMENT
    if (mode & Mode.SEGMENTED) != 0 and (attrs & (STACK | ADDRESSED)) != 0:
        key |= 1 << KEY_SEGMENTED
    if (attrs & REP) != 0:
        key |= rep << KEY_REP
    return key


@native(inline=True)
def is_prefix(byte: u32) -> bool:
    return ((byte & 0xE7) == 0x26 or (byte & 0xFC) == 0x64 or byte == 0xF0
            or (byte & 0xFE) == 0xF2 or (byte & 0xF0) == 0x40)  # fmt: skip


@native(inline=True)
def segment_kind(mode: u32, segment: u8) -> u32:
    """How a form treats its memory operand's segment."""
    if (mode & Mode.CODE64) != 0:
        return _ADD_BASE if segment >= Seg.FS else _FLAT
    if (mode & Mode.SEGMENTED) != 0 or segment >= Seg.FS or segment == Seg.CS:
        return _CHECKED
    return _FLAT


@native
def vex_length(env: Env, at: u64, opcode: u32, code: u32, address_override: bool) -> u64:
    """Length of a VEX or EVEX instruction, which has no row yet, so that #UD comes at its end."""
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
                asize = _S16 if code == _S32 else _S32
            scrap: Record = Record(address_of(env.scratch[0]))
            where = decode_address(env, scrap, where, modrm, 0, asize) & 0xFF
    if opcode_map == 3 or (opcode_map == 1 and has_vex_immediate(operation)):
        where += 1
    return where if where <= _MAX_LENGTH else u64(_MAX_LENGTH + 1)


@native(inline=True)
def is_vex(mode: u32, code: u32, opcode: u32, following: u32) -> bool:
    """C4, C5 and 62 are LES, LDS and BOUND where those can be: with a memory operand, or real."""
    if opcode != 0xC4 and opcode != 0xC5 and opcode != 0x62:
        return False
    return code == _S64 or (following >= 0xC0 and (mode & Mode.PROTECTED) != 0)


@native(inline=True)
def has_vex_immediate(operation: u32) -> bool:
    return ((operation >= 0x70 and operation <= 0x73) or operation == 0xC2
            or (operation >= 0xC4 and operation <= 0xC6))  # fmt: skip


# Forms -----------------------------------------------------------------------------------------


@native
def form_index(env: ExecEnv, key: u64) -> u32:
    """A form's number, given out on first sight."""
    at: u64 = (key * 0x9E37_79B9_7F4A_7C15) >> 50
    while True:
        slot: ptr = ptr(env.form_hash) + (at << 2)
        index: u32 = load32(slot)
        if index == 0:
            index = u32(env.form_count)
            env.form_count += 1
            Form(env.form_list + u64(index) * FORM_SIZE).key = key
            store32(slot, 0, index)
            return index
        if Form(env.form_list + u64(index) * FORM_SIZE).key == key:
            return index
        at = (at + 1) & (FORM_HASH_SIZE - 1)


@native(inline=True)
def bind_form(env: ExecEnv, rec: Record, key: u64) -> None:
    rec.form = form_index(env, key)
    code: ptr = ptr(form_at(env, rec.form).code)
    rec.code = code if code != NULL else symbol("record_missing")


@native(inline=True)
def form_at(env: ExecEnv, index: u32) -> Form:
    return Form(env.form_list + u64(index) * FORM_SIZE)


@native
def improve(env: ExecEnv, rec: Record, key: u64) -> None:
    """Use a better form if it is compiled; otherwise it is compiled with the next batch."""
    index: u32 = form_index(env, key)
    code: ptr = ptr(form_at(env, index).code)
    if code != NULL:
        rec.form = index
        rec.code = code


@native
def improve_block(env: ExecEnv, tb: Tb) -> None:
    """Superinstructions and dead flags, from the block's last instruction to its first."""
    count: u64 = tb.insns
    live: u64 = ALL_FLAGS
    after: u32 = 0
    for i in range(u64(0), count):
        at: u64 = count - 1 - i
        rec: Record = Record(tb + (_HEAD + at * RECORD_SIZE))
        key: u64 = form_at(env, rec.form).key
        attrs: u32 = ATTRS[key & 0xFFF]
        effects: u64 = form_at(env, rec.form).effects
        if form_at(env, rec.form).code == NULL:
            effects = OPAQUE
        writes: u64 = effects >> 8 & ALL_FLAGS
        if (attrs & FUSES) != 0 and (after & JCC) != 0 and i == 1:
            register_only: bool = (key >> KEY_EA & 3) == _NONE
            if register_only or (attrs & COMPARES) != 0:
                improve(env, rec, key | (form_at(env, Record(rec + RECORD_SIZE).form).key & 0xFFF)
                        << KEY_SECOND)
        elif writes != 0 and (writes & live) == 0:
            improve(env, rec, key | 1 << KEY_DEAD)
        live = (live & ~writes) | (effects & ALL_FLAGS)
        if (effects & OPAQUE) != 0:
            live = ALL_FLAGS
        after = attrs


# A block ---------------------------------------------------------------------------------------


@native
def link_record(env: Env, tb: Tb, record: ptr, slot: ptr, pc: u64) -> None:
    """A record that finds the successor at ``pc``, chaining it in if on the block's page."""
    link: Link = Link(record)
    link.pc = pc
    link.slot = slot
    plain: bool = (env.mode & (Mode.STEP | Mode.INHIBIT)) == 0 and tb.physical2 == NO_PAGE
    same: bool = ((env.code_base + pc) ^ (env.code_base + tb.pc)) & env.linear_mask & PAGE_MASK == 0
    link.code = symbol("tb_chain") if plain and same else symbol("tb_jump")


@native
def end_block(env: Env, tb: Tb, rec: ptr, records: u32, pc: u64) -> u32:
    """End a block that goes on at ``pc``; returns the number of records added."""
    Branch(rec).code = symbol("tb_goto")
    Branch(rec).pc = pc
    Branch(rec).taken = rec + RECORD_SIZE
    Record(rec).position = u8(tb.insns)
    link_record(env, tb, rec + RECORD_SIZE, address_of(Branch(rec).taken), pc)
    return 2


@native
def guest_translate_block(env: Env, tb: Tb, linear: u64, offset: u64, limit: u32) -> None:
    """See `pytcg.exec.dispatch`."""
    mode: u32 = env.mode
    tb.code = symbol("tb_head")
    most: u32 = limit
    if (mode & (Mode.STEP | Mode.INHIBIT)) != 0:
        most = 1
        tb.code = symbol("tb_head_shadow") if (mode & Mode.INHIBIT) != 0 else symbol("tb_head_step")
    pc: u64 = tb.pc
    first_left: u64 = PAGE_SIZE - (offset & (PAGE_SIZE - 1))
    done: u64 = 0
    records: u32 = 0
    tb.insns = 0
    open_end: bool = True
    while open_end:
        rec: Record = Record(tb + (_HEAD + u64(records) * RECORD_SIZE))
        if env.until_set != 0 and env.until == pc:
            rec.code = symbol("tb_until")
            rec.pc = pc
            rec.position = u8(tb.insns)
            records += 1
            break
        if tb.insns >= most or done >= first_left:
            records += end_block(env, tb, ptr(rec), records, pc)
            break
        fill_fetch(env, linear + done, offset + done, NO_PAGE)
        key: u64 = decode_insn(env, rec, pc)
        if done + u64(rec.length) > first_left:
            if tb.insns > 0:
                records += end_block(env, tb, ptr(rec), records, pc)
                break
            tb.physical2 = more_code(env, linear) if first_left < _MAX_LENGTH else NO_PAGE
            fill_fetch(env, linear, offset, tb.physical2)
            key = decode_insn(env, rec, pc)
        rec.pc = pc
        rec.position = u8(tb.insns)
        if unlikely(rec.length > _MAX_LENGTH):
            rec.code = symbol("record_too_long")
            records += 1
            tb.insns += 1
            done += _MAX_LENGTH
            break
        bind_form(env, rec, key)
        records += 1
        tb.insns += 1
        done += rec.length
        attrs: u32 = ATTRS[key & 0xFFF]
        target: u64 = rec.imm
        pc = wrap_pc(env, pc + rec.length)
        after: ptr = rec + RECORD_SIZE
        if (attrs & HAS_J) != 0:
            Branch(rec).taken = after
            Branch(rec).fall = after + RECORD_SIZE
            link_record(env, tb, after, address_of(Branch(rec).taken), target)
            link_record(env, tb, after + RECORD_SIZE, address_of(Branch(rec).fall), pc)
            Record(after).position = u8(tb.insns)
            Record(after + RECORD_SIZE).position = u8(tb.insns)
            records += 2
            open_end = False
        elif (attrs & (END | BRANCH)) != 0 or (key & 0xFFF) < 2:
            open_end = False
    tb.records = records
    tb.size = u16(done)
    if tb.insns > 1:
        improve_block(env, tb)
    if unlikely(env.log != 0):
        log_block(env, tb)


@native
def log_block(env: Env, tb: Tb) -> None:
    """Report a new block, and have it report when it is entered."""
    if (env.log & LogEvent.ENTER) != 0:
        tb.code = symbol("tb_head_trace")
    if (env.log & LogEvent.BLOCK) != 0:
        call_host(ptr(env.log_event), "void", u32(LogEvent.BLOCK), ptr(tb), u64(0), u64(0))


@native(inline=True)
def wrap_pc(env: Env, pc: u64) -> u64:
    if (env.mode & Mode.CODE64) != 0:
        return pc
    return pc & 0xFFFF_FFFF if (env.mode & Mode.CODE32) != 0 else pc & 0xFFFF

