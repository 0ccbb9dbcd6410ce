"""What makes an export another one: above all, code of the user's own that has changed."""

from __future__ import annotations

import sys
import textwrap
import zipfile

import pytest
import torch
from torch import nn

from skipc.compiler.errors import CheckpointError
from skipc.compiler.read import ModelOptions
from skipc.compiler.read.cached import CachedSupernet, open_checkpoint
from skipc.compiler.read.export_cache import ExportCache
from skipc.compiler.read.export_key import code_of
from skipc.runtime.bundle.tensors import TensorSpec

pytestmark = pytest.mark.usefixtures("no_tests_imported")

FILES = {
    "own_nets/__init__.py": "",
    "own_nets/blocks.py": """
        import torch

        def activated(x):
            return torch.relu(x)
        """,
    "own_nets/net.py": """
        import json
        import os
        from pathlib import Path

        from torch import nn

        from own_settings import SCALE
        from own_nets.blocks import activated

        SCALED = bool(os.environ.get("OWN_NETS_SCALED"))
        SETTINGS = json.loads(Path(__file__).with_name("net.json").read_text())

        class Net(nn.Module):
            def __init__(self, width):
                super().__init__()
                self.inner, self.outer = nn.Linear(4, width), nn.Linear(width, 4)

            def forward(self, x):
                branch = self.outer(activated(self.inner(x)))
                return x + (branch * SCALE if SCALED else branch * SETTINGS["factor"])

        def net(width=8):
            return Net(width)
        """,
    "own_nets/net.json": '{"factor": 1.0}',
    "own_settings.py": "SCALE = 2.0",
}


class OwnCode:
    """A user's folder with code of theirs, imported anew each time it is read."""

    def __init__(self, folder) -> None:
        self.folder = folder
        for name, text in FILES.items():
            self.write(name, textwrap.dedent(text))
        module = nn.ModuleDict({"inner": nn.Linear(4, 8), "outer": nn.Linear(8, 4)})
        torch.save(module.state_dict(), folder / "ckpt.pt")
        self.notes: list[str] = []

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def forget(self):
        for name in [name for name in sys.modules if name.startswith("own_")]:
            del sys.modules[name]

    def open(self, **options):
        self.forget()
        reading = ModelOptions(
            model="own_nets.net:net", inputs=(TensorSpec("", "float32", (1, 4)),), **options
        )
        cache = ExportCache(self.folder / "exports", self.notes.append)
        return open_checkpoint(self.folder / "ckpt.pt", reading, cache, lambda _: None)

    def key(self, **options):
        opened = self.open(**options)
        assert isinstance(opened, CachedSupernet), self.notes
        return opened.key


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = OwnCode(tmp_path)
    yield made
    made.forget()


def test_unchanged_code_is_the_same_export(own):
    assert own.key() == own.key()


def edit(own, name, old, new):
    text = (own.folder / name).read_text()
    assert old in text
    own.write(name, text.replace(old, new))


def in_the_module(own, monkeypatch):
    edit(own, "own_nets/net.py", "x + (", "x - (")


def in_what_it_imports(own, monkeypatch):
    edit(own, "own_nets/blocks.py", "torch.relu", "torch.tanh")


def in_what_it_imports_from(own, monkeypatch):
    edit(own, "own_settings.py", "2.0", "3.0")


def in_a_file_that_it_reads(own, monkeypatch):
    edit(own, "own_nets/net.json", "1.0", "0.5")


def in_the_environment(own, monkeypatch):
    monkeypatch.setenv("OWN_NETS_SCALED", "1")


def by_a_module_that_comes_first(own, monkeypatch):
    own.write("first/own_settings.py", "SCALE = 2.5")
    sys.path.insert(0, str(own.folder / "first"))


def by_what_is_installed(own, monkeypatch):
    (own.folder / "first" / "other-1.0.dist-info").mkdir(parents=True)
    sys.path.append(str(own.folder / "first"))


@pytest.mark.parametrize(
    "change",
    [
        *(in_the_module, in_what_it_imports, in_what_it_imports_from, in_a_file_that_it_reads),
        *(in_the_environment, by_a_module_that_comes_first, by_what_is_installed),
    ],
)
def test_changed_code_is_another_export(own, monkeypatch, change):
    before = own.key()
    change(own, monkeypatch)
    assert own.key() != before


def test_changed_code_is_exported_again(own):
    before = own.open().exported().reference
    edit(own, "own_nets/net.py", "x + (", "x - (")
    after = own.open().exported().reference
    case = {"x": torch.ones(1, 4).numpy()}
    assert (
        abs(before.run([case])[0]["output"] + after.run([case])[0]["output"] - 2).max() < 1e-6
    )


def test_code_without_a_source_is_not_cached(own):
    with zipfile.ZipFile(own.folder / "zipped.zip", "w") as archive:
        archive.writestr("own_zipped.py", "SCALE = 2.0")
    sys.path.append(str(own.folder / "zipped.zip"))
    edit(own, "own_nets/net.py", "from own_settings", "from own_zipped")
    opened = own.open()
    assert not isinstance(opened, CachedSupernet)
    assert "The export is not cached" in own.notes[0]
    assert (
        "'own_zipped', which --model own_nets.net:net imports, has no source" in own.notes[0]
    )
    opened.exported()
    assert not (own.folder / "exports").exists()


class Holding(nn.Module):
    def __init__(self, held) -> None:
        super().__init__()
        self.held = held


class Plain:
    def __init__(self, value) -> None:
        self.value = value


class Refusing:
    def __reduce_ex__(self, protocol):
        raise TypeError("cannot be pickled")


def cycle(value):
    made = [value]
    made.append(made)
    return made


@pytest.mark.parametrize(
    "make",
    [
        *(int, float, str, Plain, cycle),
        *(lambda v: [v], lambda v: {"a": {v}}, lambda v: {v: 1}, lambda v: Plain([Plain(v)])),
        *(lambda v: torch.full((2,), v), lambda v: torch.full((2,), v).numpy()),
        *(lambda v: torch.tensor(v, dtype=torch.bfloat16), lambda v: (Refusing(), v)),
        lambda v: torch.nn.Parameter(torch.full((2,), float(v))),
    ],
)
def test_what_a_network_holds_is_part_of_its_code(make):
    def code(value):
        return code_of(Holding(make(value)), "nobody:net")

    assert code(1) == code(1)
    assert code(1) != code(2)


def test_what_cannot_be_compared_is_said():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CheckpointError, match="what 'nobody:net' holds cannot be compared"):
        code_of(Holding(deep), "nobody:net")
    while deep:
        deep = deep.pop()
