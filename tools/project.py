"""``skipc.toml``: what the commands are told in a project's folder without being told again.

The file is its owner's, as ``pyproject.toml`` is, and names code of theirs: it is read in the
current folder alone, never beside a checkpoint or in a bundle.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import click
from click.core import ParameterSource

from skipc.profiles import read_toml
from skipc.runtime.bundle.folder import MANIFEST_FILE
from skipc.runtime.bundle.records import read
from skipc.runtime.errors import SkipcError, shown
from skipc.tools.console import tell

FILE = "skipc.toml"

_Texts = str | tuple[str, ...]


class ProjectError(SkipcError):
    """``skipc.toml`` cannot be read, does not say what it should, or cannot be written."""


@dataclass(frozen=True, slots=True)
class Project:
    """What the file says: each key is the option of that name, ``-`` written as ``_``.

    Attributes:
        model: What builds the network.
        model_arg: Its arguments: a table, or texts as the option takes them.
        weights: Which weights of the checkpoint.
        input: The inputs.
        batch: Sizes of the batch.
        dim: Sizes of other free dimensions.
        output: The output to keep.
        exit_outputs: Outputs that are early exits.
        data: Labelled data for ``skipc select``.
        mean: Of a folder of images: subtracted per channel.
        std: Of a folder of images: divided by per channel.
        metric: What ``skipc select`` maximises.
        target: What is compiled for.
    """

    FORMAT: ClassVar[str] = "skipc.project/1"

    model: _Texts = ()
    model_arg: Mapping[str, object] | tuple[str, ...] = field(default_factory=dict)
    weights: _Texts = ()
    input: _Texts = ()
    batch: _Texts = ()
    dim: _Texts = ()
    output: _Texts = ()
    exit_outputs: _Texts = ()
    data: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    metric: str = ""
    target: str = ""

    def texts(self, key: str) -> tuple[str, ...]:
        """Returns what stands behind the option of a key, once for each time it is given."""
        value = getattr(self, key)
        if isinstance(value, Mapping):
            return tuple(f"{name}={_json(name, each)}" for name, each in value.items())
        if key in ("mean", "std"):
            return (",".join(map(str, value)),) if value else ()
        return value if isinstance(value, tuple) else (value,) if value else ()


KEYS = tuple(each.name for each in fields(Project))
"""What the file may say."""

_OF_INPUT, _OF_DATA = frozenset({"batch", "dim"}), frozenset({"mean", "std"})
_OF_MODEL = frozenset({"model_arg", "weights", "input", "output", "exit_outputs"}) | _OF_INPUT
_WITH: Mapping[str, frozenset[str]] = {
    "model": _OF_MODEL,
    "inputs": _OF_INPUT,
    "data": _OF_DATA,
}
"""By parameter, the keys that tell more of it: they do not hold where it is given another."""


def read_project(folder: Path) -> Project | None:
    """Returns what ``skipc.toml`` in a folder says; None where there is none.

    Raises:
        ProjectError: It is not such a file, or lies in a bundle.
    """
    path = folder / FILE
    if not path.exists():
        return None
    if (folder / MANIFEST_FILE).exists():
        raise ProjectError(
            f"{FILE}: this folder is a bundle, which names no code. Run skipc in the folder of"
            " your project."
        )
    document = read_toml(path, ProjectError)
    return read(Project, document, FILE, ProjectError)


def project_text(project: Project) -> str:
    """Returns the file that says ``project``."""
    lines = [f'format = "{Project.FORMAT}"', ""]
    tables = []
    for key, value in asdict(project).items():
        if isinstance(value, Mapping):
            tables += [f"\n[{key}]"] if value else []
            tables += [f"{_key(name)} = {json.dumps(each)}" for name, each in value.items()]
        elif value:
            lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join([*lines, *tables, ""])


class ProjectOption(click.Option):
    """An option that is taken from ``skipc.toml`` where the command line does not give it.

    One that tells more of another option (``--model-arg`` of ``--model``) is not, where the
    command line gives that one.
    """

    @property
    def key(self) -> str:
        """What the file calls it."""
        return self.opts[0].removeprefix("--").replace("-", "_")

    def consume_value(
        self, ctx: click.Context, opts: Mapping[str, Any]
    ) -> tuple[Any, ParameterSource]:
        """Returns the value, and where it comes from."""
        value, source = super().consume_value(ctx, opts)
        another = any(self.key in keys and given in opts for given, keys in _WITH.items())
        project = None
        if source is ParameterSource.DEFAULT and not another and not ctx.resilient_parsing:
            project = _project(ctx)
        texts = () if project is None else project.texts(self.key)
        if not texts:
            return value, source
        if not self.multiple and len(texts) > 1:
            raise ProjectError(f"{FILE}: {self.key!r} holds {len(texts)} texts, one is meant.")
        return (texts if self.multiple else texts[0]), ParameterSource.DEFAULT_MAP

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Returns the value, or says where else it may stand."""
        try:
            return super().process_value(ctx, value)
        except click.MissingParameter as cause:
            there = "does not say it" if _project(ctx) else "is not in this folder"
            raise click.UsageError(
                f"{self.opts[0]} is missing, and {FILE} {there}. Say it, or let `skipc init"
                f" CHECKPOINT` write {FILE}.",
                ctx,
            ) from cause


class ProjectCommand(click.Command):
    """A command that tells what it took from ``skipc.toml``."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        project = _project(ctx)
        words = [
            word
            for option in self.params
            if isinstance(option, ProjectOption)
            and project is not None
            and ctx.get_parameter_source(option.name or "") is ParameterSource.DEFAULT_MAP
            for text in project.texts(option.key)
            for word in (option.opts[0], text)
        ]
        if words:
            tell(f"from {FILE}: {shlex.join(words)}")
        return super().invoke(ctx)


def _project(ctx: click.Context) -> Project | None:
    """Returns what the current folder's file says, read once for a command."""
    known: dict[str, Project | None] = ctx.meta.setdefault(__name__, {})
    if FILE not in known:
        known[FILE] = read_project(Path())
    return known[FILE]


def _json(name: str, value: object) -> str:
    try:
        return json.dumps(value)
    except TypeError as cause:  # a date
        raise ProjectError(
            f"{FILE}: model_arg: {name!r} must be a text, a number, true, false or a list or"
            f" table of them, found {shown(value)}."
        ) from cause


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else json.dumps(name)
