"""Page walks: what each paging mode maps, permits, marks, and how its faults are reported."""

from __future__ import annotations

import pytest

from x86.protection import (
    CODE,
    DATA,
    HANDLERS,
    INTERRUPT,
    NX,
    PS,
    RW,
    TABLES,
    US,
    A,
    D,
    Machine,
    P,
)

PF, GP, UD = 14, 13, 6
FAR = 0x40_0000
"""A linear address beyond the first large page."""
PAGE = DATA >> 12
G = 1 << 8
ERROR_P, ERROR_W, ERROR_U, ERROR_RSVD, ERROR_I = 1, 2, 4, 8, 16
SMEP, SMAP = 1 << 20, 1 << 21
LOAD, STORE = "mov al, [0x9000]", "mov [0x9000], al"


def long(**pages: int) -> Machine:
    """Long mode; ``DATA`` is the entry of the page at DATA."""
    machine = Machine("long")
    table = machine.map_long()
    for name, entry in pages.items():
        machine.put(table + 8 * (globals()[name] >> 12), entry, 8)
    return machine


def entry(machine: Machine, page: int = PAGE) -> int:
    return machine.get(TABLES + 0x3000 + 8 * page, 8)


def set_entry(machine: Machine, rights: int, page: int = PAGE) -> None:
    machine.put(TABLES + 0x3000 + 8 * page, page << 12 | rights, 8)


# Marks -----------------------------------------------------------------------------------------


def test_a_load_sets_a_on_every_level_and_a_store_sets_d() -> None:
    machine = long()
    machine.run(LOAD + "; hlt")
    assert entry(machine) & (A | D) == A
    for level in range(3):
        assert machine.get(TABLES + level * 0x1000, 8) & (A | D) == A
    machine.run(STORE + "; hlt")
    assert entry(machine) & (A | D) == A | D


def test_a_store_after_a_load_still_sets_d() -> None:
    machine = long()
    machine.run(f"{LOAD}; {STORE}; hlt")
    assert entry(machine) & D


def test_a_refused_access_sets_neither_a_nor_d() -> None:
    machine = long()
    set_entry(machine, P)
    machine.user()
    assert machine.run(LOAD).vector == PF
    assert not entry(machine) & (A | D)


# Permissions -----------------------------------------------------------------------------------

FAULTS = {
    # rights, code, at level 3, CR4 bits, EFLAGS.AC, error code or None
    "absent, load": (0, LOAD, 0, 0, 0, 0),
    "absent, store by user": (0, STORE, 1, 0, 0, ERROR_W | ERROR_U),
    "user load of supervisor page": (P | RW, LOAD, 1, 0, 0, ERROR_P | ERROR_U),
    "user store to read-only": (P | US, STORE, 1, 0, 0, ERROR_P | ERROR_W | ERROR_U),
    "supervisor store to read-only": (P, STORE, 0, 0, 0, ERROR_P | ERROR_W),
    "user load": (P | US, LOAD, 1, 0, 0, None),
    "user store": (P | RW | US, STORE, 1, 0, 0, None),
    "reserved bit": (P | RW | 1 << 51, LOAD, 0, 0, 0, ERROR_P | ERROR_RSVD),
    "fetch from NX": (P | RW | NX, "mov eax, 0x9000; jmp rax", 0, 0, 0, ERROR_P | ERROR_I),
    "load of NX": (P | RW | NX, LOAD, 0, 0, 0, None),
    "SMAP, load": (P | RW | US, LOAD, 0, SMAP, 0, ERROR_P),
    "SMAP, store": (P | RW | US, STORE, 0, SMAP, 0, ERROR_P | ERROR_W),
    "SMAP with AC": (P | RW | US, LOAD, 0, SMAP, 1, None),
    "SMAP, supervisor page": (P | RW, LOAD, 0, SMAP, 0, None),
    "SMAP, STAC": (P | RW | US, f"stac; {LOAD}", 0, SMAP, 0, None),
    "SMAP, CLAC": (P | RW | US, f"stac; {LOAD}; clac; {LOAD}", 0, SMAP, 0, ERROR_P),
}


@pytest.mark.parametrize("name", FAULTS)
def test_access(name: str) -> None:
    rights, text, user, cr4, ac, error = FAULTS[name]
    machine = long()
    code_rights = P | RW | (US if user else 0)
    for page in range(512):
        set_entry(machine, code_rights, page)
    set_entry(machine, rights)
    machine.regs["cr4"] |= cr4
    machine.regs["eflags"] = 2 | ac << 18
    if user:
        machine.user()
    stop = machine.run(text + "; ud2")
    if error is None:
        assert stop.vector == UD
    else:
        assert (stop.vector, stop.error_code) == (PF, error)
        assert stop.address is not None and stop.address >> 12 == PAGE
        assert machine.regs["cr2"] == stop.address


def test_smep_keeps_the_kernel_from_running_user_pages() -> None:
    machine = long()
    for page in range(512):
        set_entry(machine, P | RW, page)
    set_entry(machine, P | RW | US)
    machine.regs["cr4"] |= SMEP
    stop = machine.run("mov eax, 0x9000; jmp rax")
    assert (stop.vector, stop.error_code, stop.rip) == (PF, ERROR_P | ERROR_I, DATA)


@pytest.mark.parametrize(("text", "pushed"), [
    ("mov eax, 0x9000; jmp rax", 0), ("mov eax, 0x9000; call rax", 8),
    ("push 0x9000; ret", 0), (".byte 0xe8; .long 0xffb", 8), (".byte 0xe9; .long 0xffb", 0),
    ("push 8; push 0x9000; retfq", 0),
])  # fmt: skip
def test_a_fetch_fault_belongs_to_the_target(text: str, pushed: int) -> None:
    machine = long()
    set_entry(machine, 0)
    before = machine.regs["rsp"]
    stop = machine.run(text)
    assert (stop.vector, stop.rip, stop.address) == (PF, DATA, DATA)
    assert machine.regs["rsp"] == before - pushed


def test_without_wp_the_kernel_writes_to_read_only_pages() -> None:
    machine = long()
    set_entry(machine, P)
    machine.regs["cr0"] &= ~(1 << 16)
    assert machine.run(STORE + "; hlt").kind == "hlt"


def test_wp_takes_effect_at_once() -> None:
    machine = long()
    set_entry(machine, P)
    machine.regs["cr0"] &= ~(1 << 16)
    stop = machine.run(f"{STORE}; mov rbx, cr0; or ebx, 0x10000; mov cr0, rbx; {STORE}; hlt")
    assert (stop.vector, stop.error_code) == (PF, ERROR_P | ERROR_W)


def test_nx_is_reserved_without_nxe() -> None:
    machine = long()
    machine.regs["efer"] &= ~(1 << 11)
    set_entry(machine, P | RW | NX)
    assert machine.run(LOAD).error_code == ERROR_P | ERROR_RSVD


def test_rights_of_all_levels_are_combined() -> None:
    machine = long()
    machine.put(TABLES + 0x1000, (TABLES + 0x2000) | P | US, 8)
    stop = machine.run(STORE)
    assert (stop.vector, stop.error_code) == (PF, ERROR_P | ERROR_W)


def test_descriptor_tables_are_read_with_supervisor_rights() -> None:
    machine = Machine("long")
    machine.map_long()
    machine.handler(0x80, INTERRUPT | 0x60)
    for page in (1, 2, 3, HANDLERS >> 12, 0xA):  # GDT, IDT, TSS, handlers, stack of level 0
        set_entry(machine, P | RW, page)
    machine.user()
    assert machine.run("int 0x80").kind == "hlt"


def test_an_access_over_a_page_end_faults_on_the_second_page() -> None:
    machine = long()
    set_entry(machine, 0, PAGE + 1)
    stop = machine.run("mov dword ptr [0x9ffe], -1")
    assert (stop.vector, stop.address) == (PF, DATA + 0x1000)
    assert machine.get(DATA + 0xFFE, 2) == 0


# Large pages -----------------------------------------------------------------------------------


def test_2_mib_page() -> None:
    machine = long()
    machine.put(TABLES + 0x2000 + 8 * 2, P | RW | PS, 8)
    machine.put(DATA + 8, 0x1122_3344, 4)
    machine.run(f"mov eax, [{FAR + DATA + 8}]; mov [{FAR + DATA}], eax; hlt")
    assert machine.get(DATA, 4) == 0x1122_3344
    assert machine.get(TABLES + 0x2000 + 8 * 2, 8) == P | RW | PS | A | D


def test_1_gib_page() -> None:
    machine = long()
    machine.put(TABLES + 0x1000 + 8, P | RW | PS, 8)
    machine.put(DATA + 8, 0x1122_3344, 4)
    machine.run(f"mov ebx, {(1 << 30) + DATA}; mov eax, [rbx + 8]; hlt")
    assert machine.regs["rax"] == 0x1122_3344


@pytest.mark.parametrize(("level", "bits"), [(2, 1 << 13), (1, 1 << 21), (0, PS)])
def test_reserved_bits_of_upper_levels(level: int, bits: int) -> None:
    machine = long()
    extra = bits | PS if level else bits
    machine.put(TABLES + level * 0x1000 + 8, P | RW | extra, 8)
    address = 1 << (21 + 9 * (2 - level))
    stop = machine.run(f"mov rbx, {address}; mov al, [rbx]")
    assert (stop.vector, stop.error_code) == (PF, ERROR_P | ERROR_RSVD)


def test_32_bit_paging_and_its_faults() -> None:
    machine = Machine("protected")
    table = machine.map_legacy()
    machine.put(table + 4 * PAGE, 0, 4)
    stop = machine.run(STORE)
    assert (stop.vector, stop.error_code, stop.address) == (PF, ERROR_W, DATA)
    machine.put(table + 4 * PAGE, CODE | P | RW, 4)
    machine.run("mov eax, [0x9000]; hlt")
    assert machine.regs["rax"] == machine.get(CODE, 4)
    assert machine.get(table + 4 * PAGE, 4) & (A | D) == A


def test_4_mib_page_needs_pse() -> None:
    machine = Machine("protected")
    machine.map_legacy()
    machine.put(TABLES + 4, P | RW | PS, 4)
    machine.put(DATA, 0x55, 1)
    machine.regs["cr4"] |= 1 << 4
    machine.run(f"mov al, [{FAR + DATA}]; hlt")
    assert machine.regs["al"] == 0x55
    assert machine.get(TABLES + 4, 4) == P | RW | PS | A


def test_pse36_takes_high_address_bits_from_the_entry() -> None:
    machine = Machine("protected")
    machine.map_legacy()
    machine.regs["cr4"] |= 1 << 4
    machine.cpu.map(1 << 32, 0x10000)
    machine.put((1 << 32) + DATA, 0x66, 1)
    machine.put(TABLES + 4, P | RW | PS | 1 << 13, 4)
    machine.run(f"mov al, [{FAR + DATA}]; hlt")
    assert machine.regs["al"] == 0x66


def test_pae_maps_beyond_4_gib() -> None:
    machine = Machine("protected")
    table = machine.map_pae()
    machine.cpu.map(1 << 32, 0x1000)
    machine.put(1 << 32, 0x77, 1)
    machine.put(table + 8 * PAGE, 1 << 32 | P, 8)
    machine.run(LOAD + "; hlt")
    assert machine.regs["al"] == 0x77


def test_pae_pointer_table_is_checked_when_cr3_is_loaded() -> None:
    machine = Machine("protected")
    machine.map_pae()
    machine.put(TABLES + 0x18, P | RW, 8)
    stop = machine.run("mov eax, cr3; mov cr3, eax")
    assert (stop.vector, stop.error_code) == (GP, 0)


# The TLB ---------------------------------------------------------------------------------------


def test_invlpg_makes_a_new_mapping_seen() -> None:
    machine = long()
    machine.put(DATA, 0x11, 1)
    machine.put(DATA + 0x1000, 0x22, 1)
    slot = TABLES + 0x3000 + 8 * PAGE
    machine.run(f"mov al, [0x9000]; mov qword ptr [{slot}], {DATA + 0x1000 | P | RW};"
                " invlpg [0x9000]; mov bl, [0x9000]; hlt")  # fmt: skip
    assert (machine.regs["al"], machine.regs["bl"]) == (0x11, 0x22)


def test_invlpg_of_one_piece_drops_all_of_a_large_page() -> None:
    machine = long()
    slot = TABLES + 0x2000 + 8 * 2
    machine.put(slot, P | RW | PS, 8)
    machine.put(DATA, 0x11, 1)
    machine.run(f"mov al, [{FAR + DATA}]; mov qword ptr [{slot}], 0; invlpg [{FAR}];"
                f" mov bl, [{FAR + DATA}]; hlt")  # fmt: skip
    assert machine.regs["cr2"] == FAR + DATA


def test_invlpg_makes_new_code_seen() -> None:
    machine = long()
    machine.code("mov al, 1; ret", DATA)
    machine.code("mov al, 2; ret", DATA + 0x1000)
    slot = TABLES + 0x3000 + 8 * PAGE
    machine.run(f"mov ebx, 0x9000; call rbx; mov cl, al; mov qword ptr [{slot}],"
                f" {DATA + 0x1000 | P | RW}; invlpg [rbx]; call rbx; hlt")  # fmt: skip
    assert (machine.regs["cl"], machine.regs["al"]) == (1, 2)


def test_loading_cr3_changes_address_spaces() -> None:
    machine = long()
    other = TABLES + 0x10000
    machine.cpu.write(other, machine.cpu.read(TABLES, 0x4000))
    for level in range(3):
        machine.put(other + level * 0x1000, (other + (level + 1) * 0x1000) | P | RW, 8)
    machine.put(other + 0x3000 + 8 * PAGE, DATA + 0x1000 | P, 8)
    machine.put(DATA, 0x11, 1)
    machine.put(DATA + 0x1000, 0x22, 1)
    machine.run(f"mov al, [0x9000]; mov ebx, {other}; mov cr3, rbx; mov bl, [0x9000]; hlt")
    assert (machine.regs["al"], machine.regs["bl"]) == (0x11, 0x22)


RELOAD = "mov rcx, cr3; mov cr3, rcx"
TOGGLE = "mov rcx, cr4; xor rcx, 0x80; mov cr4, rcx; xor rcx, 0x80; mov cr4, rcx"
FLUSHES = {
    # code, whether it drops global pages
    "MOV CR3": (RELOAD, False),
    "CR4.PGE": (TOGGLE, True),
    "INVLPG": ("invlpg [0x9000]", True),
    "INVPCID address": ("mov ecx, 0; invpcid rcx, [0xa000]", True),
    "INVPCID context": ("mov ecx, 1; invpcid rcx, [0xa000]", False),
    "INVPCID all": ("mov ecx, 2; invpcid rcx, [0xa000]", True),
    "INVPCID all but global": ("mov ecx, 3; invpcid rcx, [0xa000]", False),
}


@pytest.mark.parametrize("pge", [True, False])
@pytest.mark.parametrize("name", FLUSHES)
@pytest.mark.parametrize("what", ["data", "code"])
def test_global_pages_stay_where_the_manual_lets_them(what: str, name: str, pge: bool) -> None:
    """The manual only allows it; that it is so is what makes switches between programs cheap."""
    flush, drops = FLUSHES[name]
    machine = long()
    if pge:
        machine.regs["cr4"] |= 0x80
    set_entry(machine, P | RW | G)
    slot = TABLES + 0x3000 + 8 * PAGE
    machine.put(DATA + 0x1000, 0, 8)  # the INVPCID descriptor: PCID 0
    machine.put(DATA + 0x1008, DATA, 8)
    for page, value in ((DATA, 1), (DATA + 0x2000, 2)):
        if what == "code":
            machine.code(f"mov al, {value}; ret", page)
        else:
            machine.put(page, value, 1)
    look = "call rbx" if what == "code" else "mov al, [rbx]"
    machine.run(f"mov ebx, 0x9000; {look}; mov dl, al; mov qword ptr [{slot}],"
                f" {DATA + 0x2000 | P | RW}; {flush}; {look}; hlt")  # fmt: skip
    stays = pge and not drops
    assert (machine.regs["dl"], machine.regs["al"]) == (1, 1 if stays else 2)


def test_a_large_global_page_is_dropped_whole_by_invlpg_after_a_switch() -> None:
    machine = long()
    machine.regs["cr4"] |= 0x80
    slot = TABLES + 0x2000 + 8 * 2
    machine.put(slot, P | RW | PS | G, 8)
    look = f"mov al, [{FAR + DATA}]"
    machine.run(f"{look}; mov qword ptr [{slot}], 0; {RELOAD}; {look}; invlpg [{FAR}]; {look}; hlt")
    assert machine.regs["cr2"] == FAR + DATA


def test_code_on_a_global_page_is_dropped_when_it_is_written_to_after_a_switch() -> None:
    machine = long()
    machine.regs["cr4"] |= 0x80
    set_entry(machine, P | RW | G)
    machine.code("mov al, 1; ret", DATA)
    machine.run(f"mov ebx, 0x9000; mov byte ptr [0x9800], 0; {RELOAD}; call rbx; mov dl, al;"
                " mov byte ptr [rbx + 1], 2; call rbx; hlt")  # fmt: skip
    assert (machine.regs["dl"], machine.regs["al"]) == (1, 2)


@pytest.mark.parametrize(("kind", "pcid", "address"), [
    (4, 0, 0), (0, 1 << 12, 0), (1, 1, 0), (0, 0, 1 << 62),
])  # fmt: skip
def test_invpcid_refuses(kind: int, pcid: int, address: int) -> None:
    machine = long()
    machine.put(DATA, pcid, 8)
    machine.put(DATA + 8, address, 8)
    stop = machine.run(f"mov ecx, {kind}; invpcid rcx, [0x9000]; hlt")
    assert (stop.vector, stop.error_code) == (GP, 0)


def test_rights_change_with_the_level() -> None:
    machine = long()
    set_entry(machine, P | RW)
    machine.handler(0x80, INTERRUPT | 0x60, code=LOAD + "; iretq")
    machine.user()
    stop = machine.run(f"int 0x80; {LOAD}")
    assert (stop.vector, stop.error_code, stop.rip) == (PF, ERROR_P | ERROR_U, CODE + 2)
