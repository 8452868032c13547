"""Command lines as getopt_long reads them: options and words mixed, long names abbreviated.

Our own, as the standard module's import of gettext takes longer than most small commands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class OptionError(Exception):
    """An option that can't be understood; ``what`` is one of the class's words for it."""

    UNKNOWN, AMBIGUOUS, MISSING, EXTRA = "unknown", "ambiguous", "missing", "extra"

    def __init__(self, what: str, word: str, name: str) -> None:
        super().__init__(what)
        self.what = what
        self.word = word  # as it stands on the command line
        self.name = name  # without dashes and value


Given = list[tuple[str, str]]


def parse(argv: Sequence[str], wanted: Mapping[str, bool]) -> tuple[Given, list[str]]:
    """(name, value) of the options in order, and the other words. Raises OptionError.

    ``wanted`` says of each name, a letter or a long one, whether it takes a value.
    """
    given: Given = []
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if word.startswith("--"):
            given.append(_parse_long(word, wanted, rest))
        elif word.startswith("-") and len(word) > 1:
            given += _parse_short(word, wanted, rest)
        else:
            words.append(word)
    return given, words


def _parse_long(word: str, wanted: Mapping[str, bool], rest: list[str]) -> tuple[str, str]:
    name, equals, value = word[2:].partition("=")
    found = [option for option in wanted if len(option) > 1 and option.startswith(name)]
    if name in found:
        found = [name]
    if len(found) != 1:
        raise OptionError(OptionError.AMBIGUOUS if found else OptionError.UNKNOWN, word, name)
    full = found[0]
    if wanted[full] and not equals:
        if not rest:
            raise OptionError(OptionError.MISSING, word, full)
        value = rest.pop(0)
    elif equals and not wanted[full]:
        raise OptionError(OptionError.EXTRA, word, full)
    return full, value


def _parse_short(word: str, wanted: Mapping[str, bool], rest: list[str]) -> Given:
    given: Given = []
    text = word[1:]
    while text:
        name, text = text[0], text[1:]
        if name not in wanted:
            raise OptionError(OptionError.UNKNOWN, word, name)
        value = ""
        if wanted[name]:
            if not text and not rest:
                raise OptionError(OptionError.MISSING, word, name)
            value, text = text or rest.pop(0), ""
        given.append((name, value))
    return given
