"""CPU models: option text, feature bits where the manuals have them, CPUID leaves."""

from __future__ import annotations

import pytest

from pytcg_x86.system.cpumodel import CpuModel, cpu_models
from pytcg_x86.system.cpumodels import MODELS
from pytcg_x86.system.features import FEATURES, IMPLEMENTED, Word


@pytest.mark.parametrize(("name", "word", "bit"), [
    ("fpu", Word.BASIC, 0), ("apic", Word.BASIC, 9), ("sse2", Word.BASIC, 26),
    ("sse3", Word.BASIC, 32), ("cx16", Word.BASIC, 45), ("x2apic", Word.BASIC, 53),
    ("xsave", Word.BASIC, 58), ("hypervisor", Word.BASIC, 63), ("fsgsbase", Word.EXTENDED, 0),
    ("smep", Word.EXTENDED, 7), ("smap", Word.EXTENDED, 20), ("avx512vl", Word.EXTENDED, 31),
    ("umip", Word.EXTENDED, 34), ("la57", Word.EXTENDED, 48), ("syscall", Word.AMD, 11),
    ("nx", Word.AMD, 20), ("rdtscp", Word.AMD, 27), ("lm", Word.AMD, 29),
    ("lahf-lm", Word.AMD, 32), ("abm", Word.AMD, 37), ("invtsc", Word.POWER, 8),
    ("arat", Word.POWER, 34),
])  # fmt: skip
def test_feature_bit(name: str, word: Word, bit: int) -> None:
    assert FEATURES[name] == (word, bit)


def test_models_promise_only_what_there_is() -> None:
    for name in (*MODELS, "host"):
        assert CpuModel.parse(name).features <= IMPLEMENTED


def test_identities_are_qemus() -> None:
    assert CpuModel.parse("486").signature == 0x480
    assert CpuModel.parse("pentium3").cpuid(1, 0)[0] == 0x673
    assert CpuModel.parse("EPYC").signature == 0x0080_0F12
    assert CpuModel.parse("Skylake-Client").signature == 0x0005_06E3
    assert CpuModel.parse("pentium3").cpuid(0, 0)[0] == 3
    assert CpuModel.parse("kvm64").cpuid(0x8000_0000, 0)[0] == 0x8000_0008


def test_identity_can_be_changed() -> None:
    model = CpuModel.parse("max,vendor=AuthenticAMD,family=0x17,model=49,stepping=2,model-id=a,,b")
    _, b, c, d = model.cpuid(0, 0)
    assert b"".join(w.to_bytes(4, "little") for w in (b, d, c)) == b"AuthenticAMD"
    assert model.signature == 0x0083_0F12
    assert model.cpuid(0x8000_0002, 0)[0].to_bytes(4, "little") == b"a,b\0"


def test_what_a_model_lacks_is_told_or_refused() -> None:
    model = CpuModel.parse("x86-64-v4")
    assert "avx512f" in model.missing and "avx512f" not in model.features
    assert "avx512f" not in CpuModel.parse("x86-64-v4,-avx512f").missing
    with pytest.raises(ValueError, match=r"'x86-64-v4' needs what is not implemented: .*avx512bw"):
        CpuModel.parse("x86-64-v4,enforce")
    CpuModel.parse("max,enforce")
    assert CpuModel.parse("max,+vmx,svm=on").missing == {"vmx", "svm"}
    assert not CpuModel.parse("max,+vmx,-vmx").missing


def test_switches_that_mean_something_to_kvm_only() -> None:
    assert CpuModel.parse("max,host-phys-bits,migratable=no,kvm=off,phys-bits=40").features


def test_help_lists_every_model() -> None:
    listed = cpu_models()
    assert {*MODELS, "host"} == set(listed)
    assert "not implemented" in listed["x86-64-v4"]


def test_features_are_added_and_removed() -> None:
    model = CpuModel.parse("qemu64,+smap,-nx,rdtscp=on,sse2=off")
    assert {"smap", "rdtscp"} <= model.features
    assert not {"nx", "sse2"} & model.features
    assert model.cpuid(7, 0)[1] >> 20 & 1
    assert not model.cpuid(0x8000_0001, 0)[3] >> 20 & 1


@pytest.mark.parametrize(("text", "message"), [
    ("pentium9", "no CPU model 'pentium9'"), ("max,+nonsense", "no CPU feature 'nonsense'"),
    ("max,+vmx,enforce", "'max' needs what is not implemented: vmx"),
    ("max,vendor=me", "12 characters"), ("max,phys-bits=52", "phys-bits: '52' is not 40"),
    ("max,family=-1", "no number"), ("max,nx=maybe", "neither on nor off"),
])  # fmt: skip
def test_bad_text(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CpuModel.parse(text)


def test_an_unimplemented_feature_may_be_switched_off() -> None:
    assert "avx" not in CpuModel.parse("max,-avx").features


def test_leaves() -> None:
    model = CpuModel.parse("max")
    last, *words = model.cpuid(0, 0)
    assert last == 0x16
    assert b"".join(words[i].to_bytes(4, "little") for i in (0, 2, 1)) == b"GenuineIntel"
    assert model.cpuid(1, 0)[0] == model.signature == 0x0003_0661
    assert model.cpuid(0x8000_0008, 0)[0] == 0x3028
    brand = b"".join(w.to_bytes(4, "little") for n in (2, 3, 4)
                     for w in model.cpuid(0x8000_0000 + n, 0))  # fmt: skip
    assert brand.rstrip(b"\0") == b"pytcg Virtual CPU"
    assert model.cpuid(0x4000_0000, 0)[1:] == model_signature()
    assert model.cpuid(0x1234, 0) == (0, 0, 0, 0)


def model_signature() -> tuple[int, int, int]:
    text = b"TCGTCGTCGTCG"
    b, c, d = (int.from_bytes(text[i : i + 4], "little") for i in (0, 4, 8))
    return b, c, d


@pytest.mark.parametrize("hz", [2_595_921_337, 800_000_000, 3_999_999_999, 5_700_123_456])
def test_tsc_frequency_is_told_exactly_enough(hz: int) -> None:
    model = CpuModel.parse("max")
    assert model.cpuid(0x15, 0) == (0, 0, 0, 0)
    model.tsc_hz = hz
    denominator, numerator, crystal, _ = model.cpuid(0x15, 0)
    assert abs(crystal * numerator / denominator - hz) < hz * 5e-6
    assert crystal // 1000 * numerator < 1 << 32
    assert model.cpuid(0x16, 0)[0] == round(hz / 1e6)


def test_base_has_no_features() -> None:
    assert CpuModel.parse("base").feature_words() == [0] * len(Word)
