"""The host side of LLVM: module text is compiled to an object."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loaded when there is something to compile
    import llvmlite.binding as llvm

_lock = threading.Lock()  # llvmlite's own lock is re-entrant only per call


@functools.cache
def _machine(relocation: str = "pic") -> llvm.TargetMachine:
    """What compiles for this host: code for anywhere, or ("static") for a hole's short values."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # some ops are a line of assembly
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=host_features(), opt=2, reloc=relocation,
        codemodel="small",
    )  # fmt: skip


@functools.cache
def host_features() -> str:
    import llvmlite.binding as llvm

    return str(llvm.get_host_cpu_features().flatten())


@functools.cache
def host_name() -> str:
    """The compiler, the CPU and its features, in LLVM's words."""
    import llvmlite.binding as llvm

    version = ".".join(map(str, llvm.llvm_version_info))
    return f"llvm {version} {llvm.get_host_cpu_name()} {host_features()}"


def compile_module(text: str, *, level: int = 2) -> bytes:
    """Optimise and compile LLVM text; returns an ELF object."""
    with _lock:
        return bytes(_machine().emit_object(_optimised(text, level)))


_GUEST_PASSES = ("sroa", "simplify_cfg", "instruction_combine", "simplify_cfg")
"""What pays for guest code, handlers and regions: a third of -O2's time. (NewGVN, the only value
numbering that llvmlite offers by itself, fails its own assertions on some.)"""


def compile_guest_code(text: str, relocation: str = "pic") -> bytes:
    """Compile the LLVM text of handlers, of a region or of stencils; returns an ELF object."""
    with _lock:
        return bytes(_machine(relocation).emit_object(_guest_code(text, relocation)))


def show_guest_code(text: str) -> tuple[str, str]:
    """The same for people: LLVM text after the passes, and host assembly."""
    with _lock:
        module = _guest_code(text, "pic")
        return str(module), str(_machine().emit_assembly(module))


def _guest_code(text: str, relocation: str) -> llvm.ModuleRef:
    """A module after the passes for guest code; the caller holds the lock."""
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    machine = _machine(relocation)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    manager = llvm.create_new_function_pass_manager()
    for name in _GUEST_PASSES:
        getattr(manager, f"add_{name}_pass")()
    for function in module.functions:
        if not function.is_declaration:
            manager.run(function, builder)
    return module


def _optimised(text: str, level: int) -> llvm.ModuleRef:
    """A module after LLVM's passes; the caller holds the lock."""
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    module.verify()
    machine = _machine()
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module
