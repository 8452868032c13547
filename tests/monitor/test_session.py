"""A session's own rules: out of band, what a request may hold."""

from __future__ import annotations

from collections.abc import Callable

from monitor.station import Station


def error(answer: dict[str, dict[str, str]]) -> str:
    return answer["error"]["desc"]


def test_out_of_band_as_far_as_a_client_asked_for_it(station: Callable[[str], Station]) -> None:
    made = station("")
    oob = {"exec-oob": "query-yank", "id": 3}
    assert error(made.say(oob)) == "QMP input member 'exec-oob' is unexpected"
    made.client.on_close()
    made.client.on_open()  # the next client
    bad = {"execute": "qmp_capabilities", "arguments": {"enable": ["nix"]}}
    assert error(made.say(bad)) == "Parameter 'null' does not accept value 'nix'"
    assert made.say({"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}) == {
        "return": {}}
    assert made.say(oob) == {"return": [], "id": 3}
    for request, text in (
        ({"exec-oob": "stop"}, "The command stop does not support OOB"),
        ({"exec-oob": "nix"}, "The command nix has not been found"),
        ({"exec-oob": 1}, "QMP input member 'exec-oob' must be a string"),
        ({"exec-oob": "stop", "execute": "stop"},
         "QMP input member 'execute' clashes with 'exec-oob'"),
    ):  # fmt: skip
        assert error(made.say(request)) == text


def test_a_peer_is_hung_up_on(station: Callable[[str], Station]) -> None:
    made = station("-chardev socket,id=s,path={folder}/s,server=on,wait=off -chardev null,id=n")
    assert made.run("query-yank") == [{"type": "chardev", "id": "s"}]
    made.run("yank", instances=[{"type": "chardev", "id": "s"}])
    assert made.refused("yank", instances=[{"type": "chardev", "id": "n"}]) == "Instance not found"
