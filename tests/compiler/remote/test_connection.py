from __future__ import annotations

import pytest

from skipc.compiler.errors import RemoteError
from skipc.compiler.remote.connection import Device, last_lines, one_line
from skipc.compiler.remote.device import check_device


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            "-oProxyCommand=x",
            "me@-oProxyCommand=x",
            "-l@edge",
            "ssh://-x",
            "me@",
            "@edge",
        ),
        *("edge here", "edge\n", "$(x)", "`x`", "a;b", "a|b", "a&b", "a'b", 'a"b', "a\x1bb"),
    ],
)
def test_hosts_that_ssh_could_mistake_are_refused(host: str) -> None:
    with pytest.raises(RemoteError, match="not a host that ssh can be given"):
        Device(host)


@pytest.mark.parametrize("host", ["edge", "me@edge", "ssh://me@edge:22", "::1", "me@10.0.0.2"])
def test_hosts_are_given_to_ssh_as_they_are(host: str) -> None:
    arguments = Device(host).arguments(["true"])
    assert arguments[-3:] == ["--", host, "true"]
    assert arguments[:6] == ["ssh", "-T", "-a", "-x", "-o", "BatchMode=yes"]


def test_options_come_after_ours_because_ssh_takes_the_first() -> None:
    arguments = Device("edge", ("Port=22", "BatchMode=no")).arguments(["true"])
    assert arguments.index("BatchMode=yes") < arguments.index("BatchMode=no")


@pytest.mark.parametrize("option", ["", "Port", "=22", "-F=x", "Port 22", "a b=c"])
def test_options_of_another_form_are_refused(option: str) -> None:
    with pytest.raises(RemoteError, match="expected an option of ssh as NAME=VALUE"):
        Device("edge", (option,))


def test_every_word_is_quoted() -> None:
    words = ["tar", "-C", "a 'b'; rm -rf $HOME", "--", "`x`"]
    assert Device("edge").arguments(words)[-1] == (
        "tar -C 'a '\"'\"'b'\"'\"'; rm -rf $HOME' -- '`x`'"
    )


@pytest.mark.parametrize("command", [(), ("",), ("-i", "skipc")])
def test_commands_that_are_none_are_refused(command: tuple[str, ...]) -> None:
    with pytest.raises(RemoteError, match="not a command"):
        Device("edge", command=command)


def test_a_machine_without_ssh_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("empty")))
    with pytest.raises(RemoteError, match="Install the OpenSSH client"):
        check_device(Device("edge"))


def test_what_a_device_says_cannot_steer_the_terminal() -> None:
    assert one_line(b"\x1b[2J\xffred\r\n") == "?[2J\ufffdred"
    assert last_lines(b"a\n\nb\nc\nd\n") == "b c d"
    assert len(last_lines(b"x" * 9999)) == 300
