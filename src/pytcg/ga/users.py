"""Who is logged in, passwords, and SSH keys."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

from pytcg.ga.command import CommandError, command, failed, from_base64
from pytcg.ga.system import run

if TYPE_CHECKING:
    import pwd

    from pytcg.ga.agent import Agent

UTMP = struct.Struct("<hxxi32s4s32s256shhiii4i20x")  # glibc's, on x86-64
USER_PROCESS = 7


@command("guest-get-users")
def get_users(agent: Agent) -> list[dict[str, Any]]:
    """Users with the time of their first login, in seconds."""
    try:
        with open(agent.path("/var/run/utmp"), "rb") as file:
            data = file.read()
    except OSError:
        return []
    first: dict[str, float] = {}
    for row in UTMP.iter_unpack(data[: len(data) // UTMP.size * UTMP.size]):
        if row[0] == USER_PROCESS:
            name = row[4].split(b"\0")[0].decode(errors="replace")
            when = row[9] + row[10] / 1e6
            first[name] = min(first.get(name, when), when)
    return [{"user": name, "login-time": when} for name, when in first.items()]


@command("guest-set-user-password", {"username": str, "password": str, "crypted": bool})
def set_password(agent: Agent, username: str, password: str, *, crypted: bool) -> None:
    """A new password, as text or as it stands in /etc/shadow."""
    secret = from_base64(password)
    if ":" in username or "\n" in username:
        raise CommandError("forbidden characters in username")
    if b"\n" in secret:
        raise CommandError("forbidden characters in new password")
    words = ("/usr/sbin/chpasswd", *(("-e",) if crypted else ()))
    if run(agent, words, username.encode() + b":" + secret + b"\n") != 0:
        raise CommandError("child process has failed to set user password")


def _account(username: str) -> pwd.struct_passwd:
    import pwd

    try:
        return pwd.getpwnam(username)
    except KeyError:
        raise CommandError(f"failed to lookup user '{username}': Success") from None


def _read(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [line.strip() for line in file]
    except OSError as error:
        reason = f"Failed to open file “{path}”: {os.strerror(error.errno or 0)}"
        raise CommandError(f"failed to read '{path}': {reason}") from error


def _write(path: str, lines: list[str], owner: pwd.struct_passwd) -> None:
    """The whole file or none; nobody else may read it."""
    folder = os.path.dirname(path)
    try:
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o700)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        new = f"{path}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(new, flags, 0o600), "w", encoding="utf-8",
                  errors="surrogateescape") as file:  # fmt: skip
            os.fchown(file.fileno(), owner.pw_uid, owner.pw_gid)
            file.writelines(line + "\n" for line in lines)
        os.replace(new, path)
    except OSError as error:
        raise failed(f"failed to write to '{path}'", error) from error


def _keys_path(agent: Agent, owner: pwd.struct_passwd) -> str:
    return agent.path(os.path.join(owner.pw_dir, ".ssh", "authorized_keys"))


@command("guest-ssh-get-authorized-keys", {"username": str})
def get_keys(agent: Agent, username: str) -> dict[str, list[str]]:
    """The user's keys."""
    lines = _read(_keys_path(agent, _account(username)))
    return {"keys": [line for line in lines if line and not line.startswith("#")]}


@command("guest-ssh-add-authorized-keys", {"username": str, "keys": [str], "reset?": bool})
def add_keys(agent: Agent, username: str, keys: list[str], *, reset: bool | None = None
             ) -> None:  # fmt: skip
    """Keys that aren't there yet; ``reset`` drops all others."""
    for key in keys:
        if not key or key.startswith("#") or "\n" in key:
            raise CommandError(f"invalid OpenSSH public key: '{key}'")
    owner = _account(username)
    path = _keys_path(agent, owner)
    kept = _read(path) if not reset and os.path.exists(path) else []
    _write(path, kept + [key for key in dict.fromkeys(keys) if key not in kept], owner)


@command("guest-ssh-remove-authorized-keys", {"username": str, "keys": [str]})
def remove_keys(agent: Agent, username: str, keys: list[str]) -> None:
    """These keys are not the user's any more."""
    owner = _account(username)
    path = _keys_path(agent, owner)
    if os.path.exists(path):
        _write(path, [line for line in _read(path) if line not in keys], owner)
