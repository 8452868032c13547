"""The host side of LLVM: compile module text to an object, link objects, find symbols."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping

import llvmlite.binding as llvm

_lock = threading.Lock()  # llvmlite's own lock is re-entrant only per call


@functools.cache
def _machine() -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # some ops are a line of assembly
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=host_features(), opt=2, reloc="pic",
        codemodel="small", jit=True,
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
        module = llvm.parse_assembly(text)
        module.verify()
        machine = _machine()
        options = llvm.create_pipeline_tuning_options(speed_level=level)
        options.loop_vectorization = options.slp_vectorization = False
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        return bytes(machine.emit_object(module))


def assembly(text: str, *, level: int = 2) -> str:
    """Host assembly of a module, for ``-d out_asm``."""
    with _lock:
        module = llvm.parse_assembly(text)
        machine = _machine()
        options = llvm.create_pipeline_tuning_options(speed_level=level)
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        return str(machine.emit_assembly(module))


class Linker:
    """One JIT process image: objects added to it see the symbols of those before."""

    def __init__(self) -> None:
        _machine()
        self._jit = llvm.create_lljit_compiler(_machine())
        self._libraries: list[llvm.ResourceTracker] = []
        self.symbols: dict[str, int] = {}

    def add(self, name: str, objects: list[bytes], exports: list[str],
            imports: Mapping[str, int] | None = None) -> dict[str, int]:  # fmt: skip
        """Link ``objects``; returns the addresses of ``exports``, importable from then on."""
        builder = llvm.JITLibraryBuilder()
        for image in objects:
            builder.add_object_img(image)
        for symbol, address in {**self.symbols, **(imports or {})}.items():
            builder.import_symbol(symbol, address)
        builder.add_current_process()
        for symbol in exports:
            builder.export_symbol(symbol)
        tracker = builder.link(self._jit, name)
        self._libraries.append(tracker)
        found = {symbol: int(tracker[symbol]) for symbol in exports}
        self.symbols.update(found)
        return found
