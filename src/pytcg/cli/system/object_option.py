"""-object: memory backends, entropy, secrets, TLS credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.block.options import parse_keyval
from pytcg.cli.system.drive_options import json_values
from pytcg.cli.system.option_values import OptionError, listing

if TYPE_CHECKING:
    from pytcg.cli.system.option_values import Options


def set_object(options: Options, text: str) -> None:
    """-object KIND,id=NAME,…, or the same as JSON; OptionError."""
    from pytcg.machine.objects import KINDS, ObjectError, check

    values = (json_values("-object", text) if text.startswith("{")
              else parse_keyval(text, implied="qom-type"))  # fmt: skip
    if values.get("qom-type") in ("help", "?"):
        raise listing("List of user creatable objects:",
                      {name: row.help for name, row in KINDS.items()})  # fmt: skip
    try:
        check(values)
    except ObjectError as error:
        raise OptionError(f"-object {text}: {error}") from None
    if any(other["id"] == values["id"] for other in options.objects):
        raise OptionError(f"-object {text}: attempt to add duplicate property '{values['id']}'")
    options.objects.append(values)


def read_secret(options: Options, ident: str) -> bytes:
    """What a secret holds; OptionError."""
    from pytcg.machine.objects import ObjectError
    from pytcg.machine.objects import read_secret as read

    values = next((each for each in options.objects
                   if each["id"] == ident and each["qom-type"] == "secret"), None)  # fmt: skip
    if values is None:
        raise OptionError(f"No secret with id '{ident}'")
    try:
        return read(values)
    except ObjectError as error:
        raise OptionError(str(error)) from None
