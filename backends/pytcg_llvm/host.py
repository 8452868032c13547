"""The host side of LLVM: compile module text to an object, link objects, find symbols."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from pathlib import Path

import llvmlite.binding as llvm

from pytcg_llvm.elf import Elf

_lock = threading.Lock()  # llvmlite's own lock is re-entrant only per call


@functools.cache
def _machine(code_model: str) -> llvm.TargetMachine:
    """What compiles for this host: code for anywhere, or ("small") for a hole's short values."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # some ops are a line of assembly
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=host_features(), opt=2, reloc="static",
        codemodel=code_model, jit=code_model == "large",
    )  # fmt: skip


@functools.cache
def host_features() -> str:
    return str(llvm.get_host_cpu_features().flatten())


@functools.cache
def host_identity() -> str:
    """What host code depends on besides its source: compiler and CPU."""
    version = ".".join(map(str, llvm.llvm_version_info))
    return f"llvm {version} {llvm.get_host_cpu_name()} {host_features()}"


def compile_module(text: str, *, level: int = 2) -> bytes:
    """Optimise and compile LLVM text; returns an ELF object."""
    with _lock:
        return bytes(_machine("large").emit_object(_optimised(text, level)))


_GUEST_PASSES = ("sroa", "simplify_cfg", "instruction_combine", "simplify_cfg")
"""What pays for guest code, handlers and regions: a third of -O2's time. (NewGVN, the only value
numbering that llvmlite offers by itself, fails its own assertions on some.)"""


def compile_guest_code(text: str, code_model: str = "large") -> bytes:
    """Compile the LLVM text of handlers, of a region or of stencils; returns an ELF object."""
    with _lock:
        module = llvm.parse_assembly(text)
        machine = _machine(code_model)
        builder = llvm.create_pass_builder(
            machine, llvm.create_pipeline_tuning_options(speed_level=2))
        manager = llvm.create_new_function_pass_manager()
        for name in _GUEST_PASSES:
            getattr(manager, f"add_{name}_pass")()
        for function in module.functions:
            if not function.is_declaration:
                manager.run(function, builder)
        return bytes(machine.emit_object(module))


def assembly(text: str, *, level: int = 2) -> str:
    """Host assembly of a module, for ``-d out_asm``."""
    with _lock:
        return str(_machine("large").emit_assembly(_optimised(text, level)))


def _optimised(text: str, level: int) -> llvm.ModuleRef:
    """A module after LLVM's passes; the caller holds the lock."""
    module = llvm.parse_assembly(text)
    module.verify()
    machine = _machine("large")
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def undefined_symbols(objects: list[bytes]) -> set[str]:
    """Names that ELF objects refer to and none of them defines."""
    wanted: set[str] = set()
    defined: set[str] = set()
    for image in objects:
        table = [symbol for symbol in Elf(image).symbols() if symbol.name]
        wanted |= {symbol.name for symbol in table if symbol.section == 0}
        defined |= {symbol.name for symbol in table if symbol.section != 0}
    return wanted - defined


class Linker:
    """One JIT process image: objects added to it see the symbols of those before."""

    def __init__(self) -> None:
        _machine("large")
        self._jit = llvm.create_lljit_compiler(_machine("large"))
        self._libraries: list[llvm.ResourceTracker] = []
        self.symbols: dict[str, int] = {}
        self._lock = threading.Lock()
        self.perf_map: Path | None = None

    def add(self, name: str, objects: list[bytes], exports: list[str],
            imports: Mapping[str, int] | None = None) -> dict[str, int]:  # fmt: skip
        """Link ``objects``; returns the addresses of ``exports``, importable from then on."""
        with self._lock:
            return self._add(name, objects, exports, imports)

    def _add(self, name: str, objects: list[bytes], exports: list[str],
             imports: Mapping[str, int] | None) -> dict[str, int]:  # fmt: skip
        builder = llvm.JITLibraryBuilder()
        for image in objects:
            builder.add_object_img(image)
        known = {**self.symbols, **(imports or {})}
        for symbol in undefined_symbols(objects) & known.keys():
            builder.import_symbol(symbol, known[symbol])
        builder.add_current_process()
        for symbol in exports:
            builder.export_symbol(symbol)
        tracker = builder.link(self._jit, name)
        self._libraries.append(tracker)
        found = {symbol: int(tracker[symbol]) for symbol in exports}
        self.symbols.update(found)
        if self.perf_map is not None:
            self._tell_perf(objects, found)
        return found

    def _tell_perf(self, objects: list[bytes], found: Mapping[str, int]) -> None:
        """Add symbols to the map in which perf looks for code that has no file."""
        assert self.perf_map is not None
        sizes = {symbol.name: symbol.size for image in objects for symbol in Elf(image).symbols()
                 if symbol.section}  # fmt: skip
        with self.perf_map.open("a") as file:
            for name, address in found.items():
                file.write(f"{address:x} {sizes.get(name, 1):x} {name}\n")
