"""CPU models compared with QEMU's: signature, vendor, last leaves and every feature bit.

What QEMU says it can't do itself still belongs to its model. `REASONS` has all that differs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from machine.qemu_cpuid import Answers, answers, kernel
from pytcg_x86.system.cpumodels import MODELS
from pytcg_x86.system.features import FEATURES, Word, feature_name

pytestmark = pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is gone")

REASONS = {
    "svm": "nested virtualisation is not there",
    "nrip-save": "the same",
    "acpi": "the thermal monitor's MSRs are not there",
    "topoext": "AMD's leaves of cache and core topology are not there",
    "ibpb": "no speculation to be barred",
    "amd-stibp": "the same",
    "perfctr-core": "AMD's performance counters are not there",
}
"""Features that QEMU's models have and ours have not."""
OWN = {"base", "max", "x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4"}
"""Models that aren't QEMU's, or not meant to be the same."""
FEW = {"486", "qemu32", "qemu64", "coreduo", "Haswell", "EPYC-Rome"}
WHERE = {
    (Word.BASIC, 0): ((1, 0), 3), (Word.BASIC, 1): ((1, 0), 2),
    (Word.EXTENDED, 0): ((7, 0), 1), (Word.EXTENDED, 1): ((7, 0), 2),
    (Word.AMD, 0): ((0x8000_0001, 0), 3), (Word.AMD, 1): ((0x8000_0001, 0), 2),
    (Word.POWER, 0): ((0x8000_0007, 0), 3), (Word.POWER, 1): ((6, 0), 0),
    (Word.LATER, 0): ((7, 0), 3), (Word.LATER, 1): ((7, 1), 0),
    (Word.XSAVE, 0): ((0xD, 1), 0), (Word.XSAVE, 1): ((0x8000_0008, 0), 1),
}  # fmt: skip
"""Leaf and register of each half of a feature word."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cpuid") / "kernel"
    path.write_bytes(kernel())
    return path


def features(found: Answers) -> set[str]:
    """The names of the bits in leaves that the processor says it has."""
    last, last_extended = found[0, 0][0], found[0x8000_0000, 0][0]
    names = set()
    for name, (word, bit) in FEATURES.items():
        place = WHERE.get((word, bit // 32))
        if place is None:
            continue
        (leaf, _), register = place
        there = leaf <= last if leaf < 0x8000_0000 else leaf <= last_extended < 0x8001_0000
        if there and found[place[0]][register] >> bit % 32 & 1:
            names.add(name)
    return names


def name_of(feature: str) -> str:
    try:
        return feature_name(feature)
    except ValueError:
        return feature


@pytest.mark.parametrize("model", [
    model if model in FEW else pytest.param(model, marks=pytest.mark.slow)
    for model in MODELS if model not in OWN
])  # fmt: skip
def test_a_model_is_qemu_s(model: str, image: Path) -> None:
    found, lacking = answers(model, image)
    identity, ours = MODELS[model]
    theirs = features(found) | {name_of(feature) for feature in lacking}
    assert theirs - ours <= REASONS.keys()
    assert ours - theirs == set()
    vendor = b"".join(found[0, 0][n].to_bytes(4, "little") for n in (1, 3, 2)).decode()
    assert (vendor, found[1, 0][0]) == (identity.vendor, identity.signature)
    assert found[0, 0][0] == identity.last_leaf
    if identity.last_extended > 0x8000_0000:
        assert found[0x8000_0000, 0][0] == identity.last_extended
