"""``json:`` image names: of nodes, and read, with what QEMU's parser takes beyond plain JSON."""

from __future__ import annotations

import json
import re

from pytcg.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytcg.block.device import BlockDevice

# Strings may be in single quotes too, which a shell's double quotes leave alone.
_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")
_SPECIAL = re.compile(r'\\.|"', re.DOTALL)
_MEANING = {"\\'": "'", '"': '\\"'}


def parse_json_text(text: str) -> Any:
    """The value of a JSON text; ValueError, in QEMU's words, if it is none."""
    text = _STRING.sub(_in_double_quotes, text)
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(_in_qemus_words(error, text)) from None


def json_name(options: dict[str, Any]) -> str:
    """The name of a node that has no shorter one."""
    return "json:" + json.dumps(options)


def options_of(device: BlockDevice) -> dict[str, Any]:
    """The options that open a node again, as far as names tell."""
    if device.filename.startswith("json:"):
        tree: dict[str, Any] = json.loads(device.filename[len("json:") :])
        return tree
    if device.file is None:
        return {"driver": device.format_name, "filename": device.filename}
    return {"driver": device.format_name, "file": options_of(device.file)}


def _in_qemus_words(error: json.JSONDecodeError, text: str) -> str:
    if not text.strip():
        return "Expecting a JSON value"
    if error.msg == "Extra data":
        return "Expecting at most one JSON value"
    if word := _WORD.match(text, error.pos):
        return f"JSON parse error, invalid keyword '{word[0]}'"
    return f"JSON parse error, {error.msg[0].lower()}{error.msg[1:]}"


def _in_double_quotes(found: re.Match[str]) -> str:
    inner = _SPECIAL.sub(lambda part: _MEANING.get(part[0], part[0]), found[0][1:-1])
    return f'"{inner}"'


def _refuse_constant(word: str) -> None:  # NaN and Infinity, which Python takes
    raise ValueError(f"JSON parse error, invalid keyword '{word}'")
