"""``--on``: the real ssh client against a server on loopback."""

from __future__ import annotations

import shlex
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

import skipc.profiles as skipc_profiles
from skipc.runtime import AdaptiveEngine, Bundle
from tests.bundles import write_bundle, write_engines
from tests.command_line import all_files, mistake, skipc, started
from tests.ssh_server import running_server, write_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ssh_server import Server

pytestmark = pytest.mark.skipif(
    shutil.which("ssh") is None or shutil.which("bash") is None,
    reason="needs OpenSSH's client and bash",
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("device")) as server:
        yield server


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """The device as new; whatever a test does, it leaves nothing there."""
    running.reset()
    yield running
    assert running.left() == []


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A bundle whose networks cannot be built, with engines of a target that is not cpu."""
    path = write_bundle(tmp_path / "a toy's.skipc")
    write_engines(path, "other")
    return path


def test_finish_builds_there_and_brings_the_engines_back(work: Path, server: Server) -> None:
    bundle = work / "ckpt.skipc"
    shutil.rmtree(bundle / "engines")
    (bundle / "engines/.cpu.kept").mkdir(parents=True)  # of an interrupted build
    ended = skipc("finish", bundle, "--target", "cpu", *server.on)
    assert ended.code == 0, ended.err
    assert "127.0.0.1: packing fast (2 of 2) ..." in ended.err.splitlines()
    assert "target cpu" in ended.out
    assert sorted(path.name for path in (bundle / "engines").iterdir()) == ["cpu"]
    Bundle.open(bundle).verify_hashes()
    with AdaptiveEngine.open(bundle) as engine:
        assert engine(Bundle.open(bundle).golden_inputs()[0])


def test_build_finishes_there(made: Path, tmp_path: Path, server: Server) -> None:
    out = tmp_path / "b.skipc"
    arguments = ("--front", made / "front.json", "--target", "cpu", "--out", out)
    document = skipc("build", made / "ckpt.pt", *arguments, *server.on, "--json").json()
    assert document["engines"]["cpu"]["format"] == "skipc.engines/2"


def test_build_keeps_the_bundle_where_the_device_fails(
    made: Path, tmp_path: Path, server: Server
) -> None:
    server.install_stub("echo 'Error: no room' >&2; exit 2")
    out = tmp_path / "b.skipc"
    arguments = ("--front", made / "front.json", "--target", "cpu", "--out", out)
    ended = skipc("build", made / "ckpt.pt", *arguments, *server.on)
    assert ended.code == 2
    assert "failed with exit code 2 while running `skipc finish` there: no room" in ended.err
    again = shlex.join(["skipc", "finish", str(out), *server.on])
    assert f"The bundle is written to {out}, without engines. Try again with: {again}" in (
        ended.err
    )
    assert Bundle.open(out).targets() == ()


def test_build_leaves_engines_that_work_where_the_device_fails(
    made: Path, tmp_path: Path, server: Server
) -> None:
    out = tmp_path / "b.skipc"
    shutil.copytree(made / "ckpt.skipc", out)
    before = {path: (out / path).read_bytes() for path in all_files(out) if "." in path}
    server.install_stub("echo 'Error: no room' >&2; exit 2")
    arguments = ("--front", made / "front.json", "--target", "cpu", "--out", out)
    message = mistake("build", made / "ckpt.pt", *arguments, "--overwrite", *server.on)
    assert f"there: no room\nThe bundle at {out} is as it was, with its engines." in message
    after = {path: (out / path).read_bytes() for path in all_files(out) if "." in path}
    assert after == before
    assert all_files(tmp_path)[0] == "b.skipc"


def test_build_asks_the_device_before_anything_else(
    made: Path, tmp_path: Path, server: Server
) -> None:
    (server.folder / "bin" / "skipc").unlink()
    arguments = ("--front", made / "front.json", "--target", "cpu")
    out = tmp_path / "b.skipc"
    message = mistake("build", made / "ckpt.pt", *arguments, "--out", out, *server.on)
    assert "(a command was not found) while running `skipc --version`" in message
    assert all_files(tmp_path) == []


def test_only_the_portable_files_are_copied(toy: Path, server: Server) -> None:
    (toy / "notes.txt").write_text("not listed")
    found = server.folder / "found"
    server.install_stub(f'(cd "$2" && find . -type f | sort) > "{found}"; exit 3')
    message = mistake("finish", toy, *server.on)
    assert "failed with exit code 3" in message
    portable = {entry.path for entry in Bundle.open(toy).manifest.files} | {"manifest.json"}
    assert {line[2:] for line in found.read_text().splitlines()} == portable
    assert Bundle.open(toy).targets() == ("other",)


def test_a_profile_of_the_user_goes_along(toy: Path, tmp_path: Path, server: Server) -> None:
    text = (Path(skipc_profiles.__file__).parent / "cpu.toml").read_text(encoding="utf-8")
    mine = text.replace('name = "cpu"', 'name = "mine"')
    (tmp_path / "mine.toml").write_text(mine, encoding="utf-8")
    server.install_stub('echo "Error: $(grep ^name "$4")" >&2; exit 2')
    message = mistake("finish", toy, "--target", tmp_path / "mine.toml", *server.on)
    assert 'there: name = "mine"' in message


def test_on_command_says_how_skipc_is_run(toy: Path, server: Server) -> None:
    server.install_stub("exit 4", version="0.0.9")
    server.install('#!/bin/sh\nshift\nexec "$@"\n', name="in the box")
    message = mistake("finish", toy, *server.on, "--on-command", "'in the box' x skipc")
    assert "its skipc is version 0.0.9, this one is 0.1.0" in message
    assert "--on-command" in message


def test_a_device_without_skipc_is_told(toy: Path, server: Server) -> None:
    (server.folder / "bin" / "skipc").unlink()
    message = mistake("finish", toy, *server.on)
    assert (
        "Install skipc 0.1.0 there (pip install '.[finish]', from a clone of skipc)" in message
    )
    server.install("#!/bin/sh\necho something else\n")
    assert "answered 'something else', expected 'skipc, version" in mistake(
        "finish", toy, *server.on
    )


def test_a_shell_that_prints_is_told_before_anything_is_built(
    toy: Path, server: Server
) -> None:
    (server.folder / "bashrc").write_text("echo Welcome to the device\n")
    message = mistake("finish", toy, *server.on)
    assert "something is printed before the output of every command: 'Welcome" in message
    assert ".bashrc" in message


def test_another_host_key_is_refused(toy: Path, tmp_path: Path, server: Server) -> None:
    server.trust(write_key(tmp_path / "other"))
    message = mistake("finish", toy, *server.on)
    assert "ssh failed while running `skipc --version`" in message
    assert "Host key verification failed." in message
    assert "BatchMode=yes" in message


def test_a_port_that_nobody_listens_at_is_told(toy: Path, server: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    message = mistake("finish", toy, "--on", "127.0.0.1", "--on-option", f"Port={port}")
    assert "Connection refused" in message
    assert "ssh -o BatchMode=yes 127.0.0.1 true" in message


def test_what_the_device_builds_is_checked(toy: Path, server: Server) -> None:
    built = write_engines(toy, "cpu", backend="onnxruntime-cpu")
    shutil.copytree(built, server.folder / "built", dirs_exist_ok=True)
    before = (built / "engines.json").read_bytes()
    copy = f'mkdir "$2/engines"; cd "$2/engines"; cp -r "{server.folder}/built" cpu; cd cpu'
    server.install_stub(copy)
    assert skipc("finish", toy, *server.on).code == 0
    attacks = {
        "printf 'engine of FULL' > full.engine": "wrong hash",
        "ln -sf fast.engine full.engine": "wrong hash",
        "echo more >> full.engine": "more bytes than its engines.json lists",
        "ln -sf /dev/zero packed.bin": "more bytes than its engines.json lists",
        "truncate -s 9 full.engine": "5 bytes too early",
        "rm full.engine": "exit code 1 while copying the engines back: cat: full.engine: No",
        "rm engines.json": "exit code 1 while reading its engines.json",
        "echo '{' > engines.json": "what it built cannot be used",
        "sed -i s/onnxruntime-cpu/null/ engines.json": "are for the backend 'null'",
        'sed -i \'s/"size_bytes": 14/"size_bytes": 99999999999/\' engines.json': "are taken",
        'sed -i \'s/"bundle_sha256": "./"bundle_sha256": "x/\' engines.json': "cannot be used",
    }
    for attack, expected in attacks.items():
        server.install_stub(f"{copy}; {attack}")
        assert expected in mistake("finish", toy, *server.on), attack
        assert (built / "engines.json").read_bytes() == before
        assert sorted(p.name for p in (toy / "engines").iterdir()) == ["cpu", "other"]
    Bundle.open(toy).verify_hashes()


def test_a_stream_that_breaks_off_is_told(toy: Path, server: Server) -> None:
    built = write_engines(toy, "cpu", backend="onnxruntime-cpu")
    shutil.copytree(built, server.folder / "whole", dirs_exist_ok=True)
    server.install_stub(f'mkdir "$2/engines"; cp -r "{server.folder}/whole" "$2/engines/cpu"')
    cat = shutil.which("cat")
    server.install(
        f'#!/bin/bash\n[ "$1" = -- ] || exec {cat} "$@"\n{cat} "$@" | head -c 20\n'
        "echo 'disk on fire' >&2; exit 7\n",
        name="cat",
    )
    message = mistake("finish", toy, *server.on)
    assert "exit code 7 while copying the engines back: disk on fire" in message


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_leaves_nothing_there(
    toy: Path, tmp_path: Path, server: Server, number: int, code: int
) -> None:
    pid = server.folder / "pid"
    server.install_stub(
        f'echo $$ > "{pid}"; echo "packing full (1 of 1) ..." >&2; exec sleep 99'
    )
    with started("finish", toy, *server.on, folder=tmp_path) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "packing" in line:
                assert len(server.left()) == 1
                process.send_signal(number)
        assert process.wait(timeout=60) == code
    assert server.left() == []
    assert not _runs(int(pid.read_text()))
    assert Bundle.open(toy).targets() == ("other",)


def test_a_killed_command_leaves_nothing_there(
    toy: Path, tmp_path: Path, server: Server
) -> None:
    pid = server.folder / "pid"
    server.install_stub(
        f'echo $$ > "{pid}"; echo "packing full (1 of 1) ..." >&2; exec sleep 99'
    )
    with started("finish", toy, *server.on, folder=tmp_path) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "packing" in line:
                process.kill()
        process.wait(timeout=60)
    deadline_s = time.monotonic() + 30
    while (server.left() or _runs(int(pid.read_text()))) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert server.left() == []
    assert not _runs(int(pid.read_text()))


def test_a_connection_that_breaks_is_told(toy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "device"
    folder.mkdir()
    with running_server(folder) as server:
        server.install_stub(f"kill -9 {server.pid}; sleep 99")
        message = mistake("finish", toy, *server.on)
        assert "ssh failed while running `skipc finish` there: Connection" in message
        deadline_s = time.monotonic() + 30
        while server.left() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert server.left() == []


def test_a_folder_that_stays_there_is_told(toy: Path, server: Server) -> None:
    built = write_engines(toy, "cpu", backend="onnxruntime-cpu")
    shutil.move(built, server.folder / "built there")
    server.install_stub(
        f'mkdir "$2/engines"; cp -r "{server.folder}/built there" "$2/engines/cpu"'
    )
    server.install("#!/bin/sh\necho busy >&2; exit 1\n", name="rm")
    server.install("#!/bin/sh\n", name="sleep")
    message = mistake("finish", toy, *server.on)
    (name,) = server.left()
    assert "the engines are in place here, but" in message
    assert f"{name} is left there: busy" in message
    assert "cpu" in Bundle.open(toy).targets()
    server.reset()


def test_options_that_belong_to_on_need_it(toy: Path) -> None:
    assert "only with --on HOST" in mistake("finish", toy, "--on-command", "skipc")
    assert "Quote it as for a shell" in mistake(
        "finish", toy, "--on", "edge", "--on-command", "'skipc"
    )


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
