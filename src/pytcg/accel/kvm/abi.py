"""KVM's binary interface as one table: structures, ioctls, capabilities, exits (linux/kvm.h)."""

from __future__ import annotations

import ctypes
from enum import IntEnum, IntFlag
from typing import Any, Final

API_VERSION: Final = 12

# A line a structure: fields as name:type or name:type*count. Types are those of `_TYPES`, and
# structures of lines above.
_STRUCTS: Final = """
memory_region  slot:u32 flags:u32 guest_phys_addr:u64 memory_size:u64 userspace_addr:u64
regs           rax:u64 rbx:u64 rcx:u64 rdx:u64 rsi:u64 rdi:u64 rsp:u64 rbp:u64 r8:u64 r9:u64 \
               r10:u64 r11:u64 r12:u64 r13:u64 r14:u64 r15:u64 rip:u64 rflags:u64
segment        base:u64 limit:u32 selector:u16 type:u8 present:u8 dpl:u8 db:u8 s:u8 l:u8 g:u8 \
               avl:u8 unusable:u8 padding:u8
dtable         base:u64 limit:u16 padding:u16*3
sregs          cs:segment ds:segment es:segment fs:segment gs:segment ss:segment tr:segment \
               ldtr:segment gdtr:dtable idtr:dtable cr0:u64 cr2:u64 cr3:u64 cr4:u64 cr8:u64 \
               efer:u64 apic_base:u64 interrupt_bitmap:u64*4
vcpu_events    exception_injected:u8 exception_nr:u8 exception_has_error_code:u8 \
               exception_pending:u8 exception_error_code:u32 interrupt_injected:u8 \
               interrupt_nr:u8 interrupt_soft:u8 interrupt_shadow:u8 nmi_injected:u8 \
               nmi_pending:u8 nmi_masked:u8 nmi_pad:u8 sipi_vector:u32 flags:u32 smm:u8 \
               smi_pending:u8 smm_inside_nmi:u8 latched_init:u8 triple_fault_pending:u8 \
               reserved:u8*26 exception_has_payload:u8 exception_payload:u64
debugregs      db:u64*4 dr6:u64 dr7:u64 flags:u64 reserved:u64*9
guest_debug    control:u32 pad:u32 debugreg:u64*8
msr_entry      index:u32 reserved:u32 data:u64
xcr            xcr:u32 reserved:u32 value:u64
xcrs           nr_xcrs:u32 flags:u32 xcrs:xcr*16 padding:u64*16
xsave          region:u8*4096
cpuid_entry    function:u32 index:u32 flags:u32 eax:u32 ebx:u32 ecx:u32 edx:u32 padding:u32*3
counted        count:u32 padding:u32
interrupt      irq:u32
mp_state       mp_state:u32
signal_mask    len:u32
run            request_interrupt_window:u8 immediate_exit:u8 padding1:u8*6 exit_reason:u32 \
               ready_for_interrupt_injection:u8 if_flag:u8 flags:u16 cr8:u64 apic_base:u64 \
               exit:u8*256 valid_regs:u64 dirty_regs:u64
exit_io        direction:u8 size:u8 port:u16 count:u32 data_offset:u64
exit_mmio      phys_addr:u64 data:u64 len:u32 is_write:u8
exit_debug     exception:u32 pad:u32 pc:u64 dr6:u64 dr7:u64
exit_fail      reason:u64 cpu:u32
exit_internal  suberror:u32 ndata:u32 data:u64*16
exit_system    type:u32 ndata:u32 data:u64*16
exit_eoi       vector:u8
enable_cap     cap:u32 flags:u32 args:u64*4 pad:u8*64
irq_level      irq:u32 level:u32
pic            chip_id:u32 pad:u32 last_irr:u8 irr:u8 imr:u8 isr:u8 priority_add:u8 irq_base:u8 \
               read_reg_select:u8 poll:u8 special_mask:u8 init_state:u8 auto_eoi:u8 \
               rotate_on_auto_eoi:u8 special_fully_nested_mode:u8 init4:u8 elcr:u8 elcr_mask:u8 \
               rest:u8*496
ioapic         chip_id:u32 pad:u32 base_address:u64 ioregsel:u32 id:u32 irr:u32 padding:u32 \
               redirtbl:u64*24 rest:u8*296
lapic          regs:u32*256
pit_channel    count:u32 latched_count:u16 count_latched:u8 status_latched:u8 status:u8 \
               read_state:u8 write_state:u8 write_latch:u8 rw_mode:u8 mode:u8 bcd:u8 gate:u8 \
               count_load_time:u64
pit            channels:pit_channel*3 flags:u32 reserved:u32*9
reinject       pit_reinject:u8 reserved:u8*31
pit_config     flags:u32 pad:u32*15
route          gsi:u32 type:u32 flags:u32 pad:u32 words:u32*8
msi            address_lo:u32 address_hi:u32 data:u32 flags:u32 devid:u32 pad:u8*12
irqfd          fd:u32 gsi:u32 flags:u32 resamplefd:u32 pad:u8*16
ioeventfd      datamatch:u64 addr:u64 len:u32 fd:u32 flags:u32 pad:u8*36
clock          clock:u64 flags:u32 pad0:u32 realtime:u64 host_tsc:u64 pad:u32*4
dirty_log      slot:u32 pad:u32 bitmap:u64
"""
_TYPES: Final[dict[str, Any]] = {
    "u8": ctypes.c_uint8, "u16": ctypes.c_uint16, "u32": ctypes.c_uint32, "u64": ctypes.c_uint64,
}  # fmt: skip


def _make_structs(table: str) -> dict[str, Any]:
    made = dict(_TYPES)
    for line in table.replace("\\\n", " ").split("\n"):
        if not line:
            continue
        name, *fields = line.split()
        rows = []
        for text in fields:
            field, _, kind = text.partition(":")
            kind, _, count = kind.partition("*")
            rows.append((field, made[kind] * int(count) if count else made[kind]))
        made[name] = type(f"kvm_{name}", (ctypes.Structure,), {"_fields_": rows})
    return made


STRUCTS: Final = _make_structs(_STRUCTS)
"""Structures by their names without kvm_."""

# A line an ioctl: name, direction (none: a plain number), number, what it hands over.
_IOCTLS: Final = """
GET_API_VERSION         none  00
CREATE_VM               none  01
CHECK_EXTENSION         none  03
GET_VCPU_MMAP_SIZE      none  04
GET_SUPPORTED_CPUID     both  05 counted
CREATE_VCPU             none  41
SET_USER_MEMORY_REGION  write 46 memory_region
GET_DIRTY_LOG           write 42 dirty_log
SET_TSS_ADDR            none  47
SET_IDENTITY_MAP_ADDR   write 48 u64
CREATE_IRQCHIP          none  60
IRQ_LINE                write 61 irq_level
GET_IRQCHIP             both  62 pic
SET_IRQCHIP             read  63 pic
SET_GSI_ROUTING         write 6a counted
REINJECT_CONTROL        none  71
IRQFD                   write 76 irqfd
CREATE_PIT2             write 77 pit_config
IOEVENTFD               write 79 ioeventfd
SET_CLOCK               write 7b clock
GET_CLOCK               read  7c clock
RUN                     none  80
GET_REGS                read  81 regs
SET_REGS                write 82 regs
GET_SREGS               read  83 sregs
SET_SREGS               write 84 sregs
INTERRUPT               write 86 interrupt
GET_MSRS                both  88 counted
SET_MSRS                write 89 counted
SET_SIGNAL_MASK         write 8b signal_mask
GET_LAPIC               read  8e lapic
SET_LAPIC               write 8f lapic
SET_CPUID2              write 90 counted
GET_MP_STATE            read  98 mp_state
SET_MP_STATE            write 99 mp_state
NMI                     none  9a
SET_GUEST_DEBUG         write 9b guest_debug
GET_VCPU_EVENTS         read  9f vcpu_events
SET_VCPU_EVENTS         write a0 vcpu_events
GET_PIT2                read  9f pit
SET_PIT2                write a0 pit
GET_DEBUGREGS           read  a1 debugregs
SET_DEBUGREGS           write a2 debugregs
GET_TSC_KHZ             none  a3
ENABLE_CAP              write a3 enable_cap
GET_XSAVE               read  a4 xsave
SET_XSAVE               write a5 xsave
SIGNAL_MSI              write a5 msi
GET_XCRS                read  a6 xcrs
SET_XCRS                write a7 xcrs
"""
_DIRECTIONS: Final = {"none": 0, "write": 1, "read": 2, "both": 3}
_KVMIO: Final = 0xAE


def _make_ioctls(table: str) -> dict[str, int]:
    made = {}
    for line in table.split("\n"):
        if line:
            name, direction, number, *struct = line.split()
            size = ctypes.sizeof(STRUCTS[struct[0]]) if struct else 0
            made[name] = _DIRECTIONS[direction] << 30 | size << 16 | _KVMIO << 8 | int(number, 16)
    return made


IOCTLS: Final = _make_ioctls(_IOCTLS)
"""Request numbers by their names without KVM_."""


class Cap(IntEnum):
    """Capabilities (KVM_CAP_…) that are asked for."""

    IRQCHIP = 0
    USER_MEMORY = 3
    SET_TSS_ADDR = 4
    EXT_CPUID = 7
    IRQ_ROUTING = 25
    IRQFD = 32
    PIT2 = 33
    PIT_STATE2 = 35
    IOEVENTFD = 36
    VCPU_EVENTS = 41
    SET_IDENTITY_MAP_ADDR = 37
    DEBUGREGS = 50
    XSAVE = 55
    XCRS = 56
    SIGNAL_MSI = 77
    READONLY_MEM = 81
    SPLIT_IRQCHIP = 121
    IMMEDIATE_EXIT = 136


class ExitCode(IntEnum):
    """KVM_EXIT_…: why KVM_RUN returned."""

    UNKNOWN = 0
    EXCEPTION = 1
    IO = 2
    HYPERCALL = 3
    DEBUG = 4
    HLT = 5
    MMIO = 6
    IRQ_WINDOW_OPEN = 7
    SHUTDOWN = 8
    FAIL_ENTRY = 9
    INTR = 10
    SET_TPR = 11
    INTERNAL_ERROR = 17
    SYSTEM_EVENT = 24
    IOAPIC_EOI = 26


class MemoryFlag(IntFlag):
    """kvm_userspace_memory_region's flags."""

    LOG_DIRTY_PAGES = 1
    READONLY = 2


class DebugFlag(IntFlag):
    """kvm_guest_debug's control."""

    ENABLE = 1
    SINGLESTEP = 2
    USE_SW_BP = 1 << 16
    USE_HW_BP = 1 << 17


def struct(name: str) -> Any:
    """A new structure of that name, zeroed."""
    return STRUCTS[name]()


def counted(name: str, rows: int) -> Any:
    """A structure of a count and so many rows of another: kvm_cpuid2, kvm_msrs."""
    kind = type(f"kvm_{name}_list", (ctypes.Structure,), {
        "_fields_": [("count", ctypes.c_uint32), ("padding", ctypes.c_uint32),
                     ("rows", STRUCTS[name] * rows)]})  # fmt: skip
    made: Any = kind()
    made.count = rows
    return made
