"""What management programs probe by; results are of their declared types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from monitor.qemu_monitor import QEMU, ask_qemu
from monitor.station import Station
from pytcg.monitor.probing import list_device_properties

Make = Callable[[str], Station]
OWN = {"index", "iobase", "irq"}  # QEMU lists those of isa-serial, but for these, too


def test_types_and_their_properties(station: Make) -> None:
    made = station("")
    types = {row["name"]: row for row in made.run("qom-list-types", abstract=True)}
    assert types["virtio-blk-pci"]["parent"] == "pci-device" and "virtio-net-pci" not in types
    devices = {row["name"] for row in made.run("qom-list-types", implements="device")}
    assert {"virtio-blk-pci", "ide-hd", "max-x86_64-cpu"} <= devices
    assert not {"memory-backend-file", "device"} & devices
    names = {row["name"] for row in made.run("device-list-properties", typename="ide-hd")}
    assert {"drive", "serial", "wwn"} <= names
    assert made.refused("device-list-properties", typename="nix") == "Device 'nix' not found"
    assert made.run("qom-list-properties", typename="memory-backend-file")
    features = made.run("qom-list-properties", typename="max-x86_64-cpu")
    assert "lm" in {row["name"] for row in features}


def test_processors(station: Make) -> None:
    made = station("")
    models = {row["name"]: row for row in made.run("query-cpu-definitions")}
    assert models["max"]["typename"] == "max-x86_64-cpu"
    told = made.run("query-cpu-model-expansion", type="full", model={"name": "max"})["model"]
    assert told["name"] == "max" and told["props"]["sse2"] is True
    told = made.run("query-cpu-model-expansion", type="static",
                    model={"name": "max", "props": {"sse2": False}})["model"]  # fmt: skip
    assert told["props"]["sse2"] is False
    refused = made.refused("query-cpu-model-expansion", type="full", model={"name": "nix"})
    assert refused == "The CPU definition 'nix' is unknown."
    assert made.run("query-hotpluggable-cpus")[0]["type"] == "max-x86_64-cpu"


@pytest.mark.parametrize("name", [
    "query-current-machine", "query-chardev-backends", "query-iothreads", "query-mice",
    "query-tpm-models", "query-tpm-types", "query-command-line-options", "query-commands",
    "query-version", "query-machines", "query-memory-size-summary", "query-qmp-schema",
    "query-cpus-fast", "query-chardev", "query-migrate", "query-migrate-capabilities",
    "query-vnc", "query-vnc-servers", "query-jobs", "query-block-jobs", "query-block-exports",
    "query-name", "query-uuid", "query-kvm", "query-target", "query-status", "query-yank",
])  # fmt: skip
def test_results_are_of_their_types(station: Make, name: str) -> None:
    station("").run(name)


def test_an_option_has_parameters(station: Make) -> None:
    made = station("")
    told = made.run("query-command-line-options", option="drive")
    assert {"if", "file", "readonly"} <= {row["name"] for row in told[0]["parameters"]}
    assert made.refused("query-command-line-options", option="x") == "Invalid option name: x"


@pytest.mark.skipif(QEMU is None, reason="needs QEMU to compare with")
def test_properties_are_qemus() -> None:
    names = ("virtio-blk-pci", "scsi-hd", "ide-hd", "ide-cd", "edu", "isa-serial")
    asked: list[dict[str, Any]] = [
        {"execute": "device-list-properties", "arguments": {"typename": name}} for name in names]
    for name, answer in zip(names, ask_qemu(["-machine", "none"], asked), strict=True):
        ours = {row["name"] for row in list_device_properties(None, name)}
        assert ours <= {row["name"] for row in answer["return"]} | OWN, name
