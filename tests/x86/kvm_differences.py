"""Where a case can't run on KVM, or must differ there: `skip_on_kvm` says why."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from pytcg.accel.kvm.device import Kvm, KvmError

BENEATH: Final = Path("/sys/module/kvm_pvm").exists()
"""KVM without the processor's help, beneath a hypervisor: an emulator runs what is privileged."""

TABLES: Final = "KVM runs with tables of ours: a frame is pushed even if no handler is there"
DESIGN: Final = {
    "test_stack_overrun_is_ss": TABLES,
    "test_address[kvm-mov rsp, 0x800000000010; push rax-12]": TABLES,
    "test_sgdt_and_lgdt": "KVM runs with tables of ours: SGDT tells where",
    "test_int_beyond_the_idt_is_gp_with_the_idt_bit": "KVM runs with an IDT of ours",
}
GATE: Final = "the emulator can't do INT, which is injected as an event: gates aren't checked"
EMULATOR: Final = "the emulator lacks the instruction"
BENEATH_ONLY: Final = {
    "test_user_int_nulls_ss_and_iretq_goes_back": GATE,
    "test_handler_must_be_64_bit_code": GATE,
    "test_32_bit_gate_types_do_not_exist": GATE,
    "test_page_fault_while_delivering_a_page_fault_is_a_double_fault": "it delivers by itself",
    "test_syscall_and_sysret": "SYSCALL is the host's own",
    "test_tf_traps_syscall_and_sysret_by_what_it_is_behind_them": "SYSCALL is the host's own",
    "test_iretq_to_user_keeps_the_base_of_a_segment_it_nulls": "IRET is the emulator's",
    "test_return_to_user_takes_the_rpl_of_null_selectors": EMULATOR,
    "test_sysret_to_a_non_canonical_address_faults_at_level_0": "SYSRET is the emulator's",
    "test_sysenter_and_sysexit": "RF of a frame differs",
    "test_sysenter_with_a_null_cs": EMULATOR,
    "test_fsgsbase_needs_cr4": "CR4.FSGSBASE isn't honoured, WRFSBASE lacks",
    "test_msr_reads_back[kvm-3221225731-7-tsc_aux]": "TSC_AUX is hidden with RDTSCP",
    "test_msr_refuses[kvm-631-2]": "a PAT that is wrong is taken",
    "test_tsc_runs_and_can_be_set": EMULATOR,
    "test_tsd_keeps_users_from_the_tsc": "user code reads the host's TSC",
    "test_64_bit_call_gate": EMULATOR,
    "test_iret_returns_behind_int": EMULATOR,
    "test_16_bit_gate_pushes_words": GATE,
    "test_user_int_switches_to_the_tss_stack_and_iret_switches_back": GATE,
    "test_user_may_not_use_a_privileged_gate": GATE,
    "test_into_traps_only_on_overflow": EMULATOR,
    "test_benign_exception_and_fault_are_handled_one_after_the_other": GATE,
    "test_bad_inner_stack_is_ts_with_its_selector": GATE,
    "test_far_jump_beyond_the_limit": EMULATOR,
    "test_far_jump_to_a_wrong_descriptor[kvm-139-13-72]": EMULATOR,
    "test_call_gate_copies_parameters_and_retf_returns_to_user": EMULATOR,
    "test_call_gate_checks_its_dpl": EMULATOR,
    "test_return_to_user_nulls_privileged_data_segments": EMULATOR,
    "test_lar_lsl_verr_verw": EMULATOR,
    "test_lar_of_nothing_clears_zf_and_keeps_the_register": EMULATOR,
    "test_arpl": EMULATOR,
}


def opens() -> bool:
    try:
        Kvm()
    except KvmError:
        return False
    return True


KVM: Final = pytest.param("kvm", marks=pytest.mark.skipif(not opens(), reason="no /dev/kvm opens"))


def skip_on_kvm(request: pytest.FixtureRequest) -> None:
    """Skip a case that this KVM can't answer."""
    name = request.node.name
    plain = name.partition("[")[0]
    for table in (DESIGN, BENEATH_ONLY) if BENEATH else (DESIGN,):
        if reason := table.get(name) or table.get(plain):
            pytest.skip(f"kvm: {reason}")
