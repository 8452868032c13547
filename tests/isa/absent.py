"""Instruction sets that are not there, and why."""

from __future__ import annotations

ABSENT = {
    "AVX-512, AVX10, AMX, APX": "not asked for yet; CPUID denies them",
    "VMX, SVM, SMX, SGX, TDX": "nested virtualisation and enclaves are not asked for",
    "TSX (HLE, RTM)": "transactions would have to roll back; processors have dropped them",
    "CET (shadow stacks, ENDBR as such)": "ENDBR is a NOP; shadow stacks would have to be whole",
    "MPX": "dropped by processors and systems; its opcodes are NOPs",
    "FMA4, XOP, TBM, LWP": "AMD's processors of one generation only; dropped since",
    "Key Locker, UINTR, ENQCMD, WAITPKG, PCONFIG": "no guest needs them; CPUID denies them",
    "VIA PadLock": "another vendor's; CPUID denies it",
    "LOADALL": "undocumented; processors up to the 386 only",
}
