"""What runs sequences: engines of ours, KVM, the host CPU, Unicorn."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from capstone import x86

from pytcg.accel.kvm.library import EmulationError
from pytcg.cpu import Context, Cpu
from pytcg.engines import EngineError
from pytcg.errors import CpuError
from pytcg.fuzz import hostcpu
from pytcg.fuzz.generate import Rules, Sequence
from pytcg.fuzz.state import CODE, DATA, DATA_SIZE, EMPTY, NAMES, REGISTERS, XMM, Outcome
from pytcg_x86.system.cpumodel import CpuModel

OURS = ("threaded", "auto", "jit", "python", "kvm")
ENGINES = (*OURS, "host", "unicorn")
_PAGE = 0x1000
_SINGLE = 1000  # instructions, more than any sequence has


_FEATURES = {x86.X86_GRP_3DNOW: "3dnow", x86.X86_GRP_ADX: "adx", x86.X86_GRP_AES: "aes",
             x86.X86_GRP_AVX: "avx", x86.X86_GRP_AVX2: "avx2", x86.X86_GRP_BMI: "bmi1",
             x86.X86_GRP_BMI2: "bmi2", x86.X86_GRP_F16C: "f16c", x86.X86_GRP_FMA: "fma",
             x86.X86_GRP_FMA4: "fma4", x86.X86_GRP_PCLMUL: "pclmulqdq",
             x86.X86_GRP_SHA: "sha-ni", x86.X86_GRP_SSE4A: "sse4a",
             x86.X86_GRP_TBM: "tbm", x86.X86_GRP_XOP: "xop"}  # fmt: skip


def rules(names: list[str]) -> Rules:
    """What not to ask these engines together."""
    ours = CpuModel.parse("max").features
    answers: list[Callable[[str], bool]] = []
    if set(names) & {*OURS} - {"kvm"}:
        answers.append(lambda feature: feature in ours)
    if set(names) & {"host", "kvm"}:
        answers.append(lambda feature: hostcpu.has(hostcpu.LINUX_NAMES.get(feature, feature)))
    groups = {group for group, feature in _FEATURES.items()
              if len({answer(feature) for answer in answers}) > 1}  # fmt: skip
    return Rules("unicorn" in names, frozenset(groups), all(answer("gfni") for answer in answers))


@cache
def runner(name: str) -> Callable[[Sequence], Outcome]:
    """What runs sequences on an engine; CpuError for one there is not, or not here."""
    if name in OURS:
        return _processor(name)
    if name == "host":
        return _host()
    if name == "unicorn":
        return _unicorn_module()
    raise CpuError(f"no engine {name!r}: {', '.join(ENGINES)} are there")


def _processor(engine: str) -> Callable[[Sequence], Outcome]:
    try:
        cpu = Cpu(engine=engine)
    except EngineError as error:
        raise CpuError(f"{engine}: {error}") from None
    cpu.map(CODE & -_PAGE, _PAGE)
    cpu.map(DATA, DATA_SIZE)
    context = cpu.save_context()
    return lambda sequence: _ours(cpu, context, sequence, pushes=engine == "kvm")


def _ours(cpu: Cpu, context: Context, sequence: Sequence, *, pushes: bool) -> Outcome:
    """``pushes``: KVM has pushed a frame where ours stops at an exception."""
    cpu.restore_context(context)
    code = b"".join(sequence.code)
    cpu.write(CODE, code)
    cpu.write(DATA, sequence.data)
    cpu.regs.write(sequence.start)
    try:
        stop = cpu.run(CODE, CODE + len(code), max_insns=_SINGLE)
    except EmulationError:  # KVM beneath a hypervisor lacks some instructions
        return Outcome({}, b"", answered=False)
    registers = dict(zip(NAMES, cpu.regs.read(NAMES), strict=True))
    tags = registers["ftw"]
    registers["ftw"] = sum(EMPTY << 2 * n for n in range(8) if tags >> 2 * n & 3 == EMPTY)
    failure = "" if stop.kind in ("until", "exception") else f"an end by {stop.kind}"
    data = cpu.read(DATA, DATA_SIZE)
    if pushes and stop.vector is not None:
        data = b""
    return Outcome(registers, data, stop.vector, failure)


def _host() -> Callable[[Sequence], Outcome]:
    from pytcg.fuzz.hostserver import HostServer

    if not hostcpu.available():
        raise CpuError("host: this is no Linux on x86-64")
    server = HostServer()
    return lambda sequence: server.run(b"".join(sequence.code), sequence.start, sequence.data)


def _unicorn_module() -> Callable[[Sequence], Outcome]:
    try:
        import unicorn
    except ImportError:
        raise CpuError("Unicorn is not installed (pip install unicorn)") from None
    return lambda sequence: _unicorn(unicorn, sequence)


def _unicorn(module: Any, sequence: Sequence) -> Outcome:
    from pytcg.unicorn import x86_const as const

    mu = module.Uc(module.UC_ARCH_X86, module.UC_MODE_64)
    mu.mem_map(CODE & -_PAGE, _PAGE)
    mu.mem_map(DATA, DATA_SIZE)
    code = b"".join(sequence.code)
    mu.mem_write(CODE, code)
    mu.mem_write(DATA, sequence.data)
    numbers = {name: getattr(const, f"UC_X86_REG_{name.upper()}") for name in
               (*REGISTERS, *XMM, "mxcsr")}  # fmt: skip
    numbers["rflags"] = const.UC_X86_REG_EFLAGS
    for name, number in numbers.items():
        mu.reg_write(number, sequence.start[name])
    vector = None
    try:
        mu.emu_start(CODE, CODE + len(code), 0, _SINGLE)
    except module.UcError as error:
        vector = {module.UC_ERR_INSN_INVALID: 6}.get(error.errno, -1)
    del numbers["mxcsr"]  # Unicorn collects SSE's flags elsewhere
    return Outcome({name: mu.reg_read(number) for name, number in numbers.items()},
                   bytes(mu.mem_read(DATA, DATA_SIZE)), vector)  # fmt: skip
