"""The schema against QEMU's own, and arguments that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.qemu_monitor import QEMU, ask_qemu
from pytcg.monitor.commands import COMMANDS
from pytcg.monitor.schema.check import Mismatch, check
from pytcg.monitor.schema.events import EVENTS
from pytcg.monitor.schema.introspect import Schema
from pytcg.monitor.schema.types import TYPES, Struct

OURS: list[dict[str, Any]] = Schema().tell(COMMANDS.values(), EVENTS)


def test_it_is_of_the_type_that_it_tells() -> None:
    check(OURS, "[SchemaInfo]")
    names = [entry["name"] for entry in OURS]
    assert len(names) == len(set(names))
    assert {entry["name"] for entry in OURS if entry["meta-type"] == "command"} == set(COMMANDS)


def test_every_declared_type_names_types_that_there_are() -> None:
    Schema().tell(COMMANDS.values(), EVENTS)
    for kind in TYPES.values():
        if isinstance(kind, Struct):
            for name in (*(member.type for member in kind.members), *kind.variants.values()):
                assert name.strip("[]") in TYPES, f"{kind.name}: {name}"


class Difference:
    """What a type of ours says that QEMU's does not, all the way down."""

    def __init__(self, theirs: list[dict[str, Any]]) -> None:
        self.ours = {entry["name"]: entry for entry in OURS}
        self.theirs = {entry["name"]: entry for entry in theirs}
        self.found: list[str] = []
        self._seen: set[tuple[str, str, bool]] = set()

    def type(self, mine: str, yours: str, path: str, *, told: bool) -> None:
        """``told``: a result or an event, which must have what QEMU's always has."""
        if (mine, yours, told) in self._seen:
            return
        self._seen.add((mine, yours, told))
        one, other = self.ours[mine], self.theirs[yours]
        if one["meta-type"] != other["meta-type"]:
            self.found.append(f"{path}: {one['meta-type']}, not {other['meta-type']}")
            return
        match one["meta-type"]:
            case "builtin":
                if mine != yours:
                    self.found.append(f"{path}: {mine}, not {yours}")
            case "enum":
                for value in one["values"]:
                    if value not in other["values"]:
                        self.found.append(f"{path}: there is no {value}")
            case "array":
                self.type(one["element-type"], other["element-type"], f"{path}[]", told=told)
            case "object":
                self.object(one, other, path, told=told)

    def object(self, one: dict[str, Any], other: dict[str, Any], path: str, *, told: bool) -> None:
        mine = {member["name"]: member for member in one["members"]}
        yours = {member["name"]: member for member in other["members"]}
        for name, member in mine.items():
            if name not in yours:
                self.found.append(f"{path}.{name} is not there")
                continue
            if told and "default" in member and "default" not in yours[name]:
                self.found.append(f"{path}.{name} must be there")
            if not told and ("default" in member) != ("default" in yours[name]):
                self.found.append(f"{path}.{name} is optional in one of the two")
            self.type(member["type"], yours[name]["type"], f"{path}.{name}", told=told)
        for name, member in yours.items():
            if name not in mine and "default" not in member:
                self.found.append(f"{path}.{name} is missing")
        cases = {case["case"]: case["type"] for case in other.get("variants", ())}
        if one.get("tag") not in (None, other.get("tag")):
            self.found.append(f"{path}: tag {one.get('tag')}, not {other.get('tag')}")
        for case in one.get("variants", ()):
            if case["case"] in cases:
                self.type(case["type"], cases[case["case"]], f"{path}={case['case']}", told=told)
            else:
                self.found.append(f"{path}: there is no variant {case['case']}")


@pytest.mark.skipif(QEMU is None, reason="needs QEMU to compare with")
def test_what_it_says_is_part_of_what_qemus_says() -> None:
    theirs = ask_qemu(["-machine", "none"], ["query-qmp-schema"])[0]["return"]
    difference = Difference(theirs)
    for entry in OURS:
        if entry["meta-type"] not in ("command", "event"):
            continue
        name = entry["name"]
        other = difference.theirs.get(name)
        if other is None or other["meta-type"] != entry["meta-type"]:
            difference.found.append(f"there is no {entry['meta-type']} {name}")
            continue
        told = entry["meta-type"] == "event"
        difference.type(entry["arg-type"], other["arg-type"], name, told=told)
        if not told:
            difference.type(entry["ret-type"], other["ret-type"], f"{name} returns", told=True)
            if entry.get("allow-oob") != other.get("allow-oob"):
                difference.found.append(f"{name}: out of band in one of the two")
    assert not difference.found


@pytest.mark.parametrize(("value", "kind", "text"), [
    (1, "str", "Invalid parameter type for 'it', expected: string"),
    (True, "int", "Invalid parameter type for 'it', expected: integer"),
    (1 << 64, "int", "Invalid parameter type for 'it', expected: integer"),
    (1 << 32, "uint32", "Parameter 'it' expects uint32_t"),
    ({}, "[str]", "Invalid parameter type for 'it', expected: array"),
    (["a", 1], "[str]", "Invalid parameter type for 'it[1]', expected: string"),
    ("x", "ImageFormat", "Parameter 'it' does not accept value 'x'"),
    (["x"], "[ImageFormat]", "Parameter 'null' does not accept value 'x'"),
    ({}, "KeyValue", "Parameter 'it.type' is missing"),
    ({"type": "qcode"}, "KeyValue", "Parameter 'it.data' is missing"),
    ({"type": "qcode", "data": "a", "x": 1}, "KeyValue", "Parameter 'it.x' is unexpected"),
])  # fmt: skip
def test_what_is_wrong_with_a_value(value: Any, kind: str, text: str) -> None:
    with pytest.raises(Mismatch) as caught:
        check(value, kind, "it")
    assert str(caught.value) == text
