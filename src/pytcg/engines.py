"""Where engine, guest and board meet: nothing else of `pytcg` names a front-end or a back-end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pytcg.exec.room import USUAL, CodeRoom
from pytcg.exec.vcpu import Vcpu

if TYPE_CHECKING:
    from pytcg.accel.kvm.vcpu import KvmVcpu
    from pytcg.cpu import Cpu
    from pytcg.exec.bus import CpuBus
    from pytcg.log import Log
    from pytcg.softmmu.address_map import AddressMap
    from pytcg_region.explore import Explored
    from pytcg_x86.core.cpu import Engine, X86Cpu


TIERS = ("auto", "threaded", "jit", "python")
"""Engines: threaded code with hot blocks compiled, without, every block compiled, plain Python."""
KVM = "kvm"
"""The library's engine beside those: the host's own processor."""


class EngineError(Exception):
    """Native code can't be had: a cache that is not to be trusted, or a compiler that died."""


def make_engine(tier: str) -> Engine:
    """The process's engine of that name; ValueError for one there is not."""
    if tier in ("auto", "threaded", "jit", KVM):
        from pytcg_llvm.cache import CacheError
        from pytcg_threaded.engine import ThreadedEngine
        from pytcg_threaded.worker import WorkerError

        try:
            engine = ThreadedEngine.shared()
            if tier == "threaded":
                engine.stencil_at_once()
            return engine
        except (CacheError, WorkerError) as error:
            raise EngineError(str(error)) from error
    if tier == "python":
        from pytcg_python.engine import PythonEngine

        return PythonEngine.shared()
    raise ValueError(f"no engine {tier!r}: {', '.join((*TIERS, KVM))} are the engines")


def attach_regions(processor: X86Cpu, tier: str, log: Log | None) -> None:
    """Let hot blocks be compiled (``auto``), or every block (``jit``); the log may show them."""
    if tier in ("auto", "jit"):
        from pytcg_region.service import shared_service

        service = shared_service(processor, processor.room.regions)
        if log is not None and log.items:
            from pytcg_region.dump import region_dumper

            service.show = region_dumper(log)
        processor.attach_regions(service, at_once=tier == "jit")


def write_perf_map(processor: X86Cpu) -> None:
    """Let perf know native code by name, what is compiled later too; EngineError."""
    from pytcg_threaded.engine import ThreadedEngine

    engine = processor.engine
    if not isinstance(engine, ThreadedEngine):
        raise EngineError("tier=python has no native code for perf to know")
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    code = processor.buffers.get("code")
    spaces = {"stitched": (code.address, code.size)} if code is not None else {}
    try:
        engine.linker.write_perf_map(path, spaces)
    except OSError as error:
        raise EngineError(f"cannot write '{path}': {error.strerror}") from None


def explore(cpu: Cpu, start: int) -> Explored:
    """What the engine makes of the code at ``start``: see `pytcg_region.explore`. CpuError."""
    from pytcg_region.explore import explore_region

    return explore_region(cpu._cpu, cpu._find_block, cpu.read, start)


def attach_kvm(processor: X86Cpu) -> None:
    """Let KVM run it; EngineError if there is none."""
    from pytcg.accel.kvm.cpuid import model_rows
    from pytcg.accel.kvm.device import Kvm, KvmError
    from pytcg.accel.kvm.library import LibraryKvm

    try:
        kvm = Kvm()
        rows = model_rows(processor.model, kvm.supported_cpuid())
        processor.accelerator = LibraryKvm(kvm, processor, rows)
    except KvmError as error:
        raise EngineError(str(error)) from error


def make_vcpu(memory: AddressMap, bus: CpuBus, *, model: str, tier: str, log: Log,
              tb_size: int = 0, perf: bool = False) -> Vcpu:  # fmt: skip
    """A vCPU of CPU model ``model`` on the engine ``tier`` (one of `TIERS`).

    ``tb_size``: bytes for translated code, 0 for as many as is usual. ValueError for a model,
    feature or engine there is not; EngineError.
    """
    from pytcg_threaded.tsc import tsc_frequency
    from pytcg_x86.core.cpu import X86Cpu
    from pytcg_x86.system.cpuid import CpuModel

    parsed = CpuModel.parse(model)
    parsed.tsc_hz = tsc_frequency()
    room = CodeRoom.of(tb_size) if tb_size else USUAL
    processor = X86Cpu(make_engine(tier), memory, bus, parsed, room)
    attach_regions(processor, tier, log)
    if perf:
        write_perf_map(processor)
    if log.items:
        from pytcg_threaded.dump import dump_form

        processor.attach_log(log, dump_form)
    return Vcpu(processor)


def make_kvm_vcpu(memory: AddressMap, bus: CpuBus, *, model: str, irqchip: str = "on") -> KvmVcpu:
    """A vCPU on KVM; the models "host" and "max" are all that KVM offers.

    ``irqchip``: which interrupt controllers are the kernel's: "on" (all), "split", "off".

    ValueError for a model or feature there is not; `pytcg.accel.kvm.device.KvmError`.
    """
    from pytcg.accel.kvm.core import KvmCpu
    from pytcg.accel.kvm.cpuid import cut_words, host_rows, model_rows
    from pytcg.accel.kvm.device import Kvm
    from pytcg.accel.kvm.vcpu import KvmVcpu
    from pytcg_x86.core.reset import StateTable
    from pytcg_x86.system.cpumodel import CpuModel

    kvm = Kvm()
    parsed = CpuModel.parse(model)
    table = StateTable(parsed.signature)
    supported, lapic = kvm.supported_cpuid(), irqchip != "off"
    rows = (host_rows(supported, lapic=lapic) if model in ("host", "max")
            else model_rows(parsed, supported, lapic=lapic))  # fmt: skip
    table.features = cut_words(parsed.feature_words(), rows)
    core = KvmCpu(kvm, memory, table.state, table.regs, rows, irqchip=irqchip)
    return KvmVcpu(core, table, memory, bus)


def cpu_warning(model: str) -> str | None:
    """What a CPU model lacks here, in words; ValueError for one there is not."""
    from pytcg_x86.system.cpumodel import CpuModel

    parsed = CpuModel.parse(model)
    if not parsed.missing or not parsed.check:
        return None
    return f"CPU model {parsed.name}: not implemented: {', '.join(sorted(parsed.missing))}"


def cpu_models() -> dict[str, str]:
    """CPU models, each with a description, for `-cpu help`."""
    from pytcg_x86.system import cpumodel

    return cpumodel.cpu_models()


def cpu_features(name: str) -> dict[str, bool]:
    """Every feature there is, and whether a model has it; ValueError for no such model."""
    from pytcg_x86.system.cpumodel import CpuModel
    from pytcg_x86.system.features import IMPLEMENTED

    features = CpuModel.parse(name).features
    return {each: each in features for each in sorted(IMPLEMENTED | features)}


def cpu_missing(name: str) -> list[str]:
    """Features that a model has and this emulator has not."""
    from pytcg_x86.system.cpumodel import CpuModel

    return sorted(CpuModel.parse(name).missing)
