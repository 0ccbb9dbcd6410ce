"""A checkpoint whose export is kept: read and exported only where no earlier command did."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from skipc.compiler.errors import CheckpointError
from skipc.compiler.network import Switching
from skipc.compiler.read.checkpoint import TorchSupernet, read_checkpoint
from skipc.compiler.read.export_files import load_export, save_export
from skipc.compiler.read.export_key import code_of, export_key, key_of
from skipc.compiler.read.factories import is_users_code
from skipc.compiler.read.sniff import Kind, sniff
from skipc.compiler.verify.torch_reference import TorchReference

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch.export import ExportedProgram

    from skipc.compiler.network import Network, Size
    from skipc.compiler.read.checkpoint import ModelOptions, Supernet
    from skipc.compiler.read.export_cache import ExportCache
    from skipc.runtime.bundle.tensors import Dimension, TensorSpec

_FULL: frozenset[str] = frozenset()


def open_checkpoint(
    path: Path, options: ModelOptions, cache: ExportCache | None, step: Callable[[str], None]
) -> Supernet:
    """Returns the supernet in a checkpoint, exported before where ``cache`` has it.

    Without one it is exported anew; an ONNX file is its own export and is never cached.
    ``step`` is told what is being done. Raises what ``read_checkpoint`` does.
    """
    if cache is None or sniff(path) is Kind.ONNX:
        return read_checkpoint(path, options)
    if not is_users_code(options.model):
        reading = functools.cache(lambda: read_checkpoint(path, options))
        return CachedSupernet(export_key(path, options), cache, reading, step)
    read = read_checkpoint(path, options)
    assert isinstance(read, TorchSupernet)
    try:
        code = code_of(read.source, options.model or "")
    except CheckpointError as cause:
        cache.refuse(str(cause))
        return read
    return CachedSupernet(export_key(path, options, code), cache, lambda: read, step)


@dataclass(frozen=True)
class CachedSupernet:
    """A supernet that is looked for in the cache, by its key, before it is read, once."""

    key: str
    cache: ExportCache
    read: Callable[[], Supernet]
    step: Callable[[str], None]
    _known: dict[frozenset[str], Network] = field(default_factory=dict, repr=False)
    _sized: dict[Size, CachedSupernet] = field(default_factory=dict, repr=False)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The network's inputs; nothing is exported to tell."""
        return self._described().inputs

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The free dimensions."""
        return self._described().dimensions

    @property
    def residual_scale(self) -> str:
        """How the checkpoint says that kept branches are scaled."""
        return self._described().residual_scale

    @property
    def exit_outputs(self) -> tuple[str, ...]:
        """Outputs that are exits of the network's own."""
        return self._described().exit_outputs

    def exported(self) -> Network:
        """Returns the network; see ``Supernet``."""
        return self._form(_FULL)

    def with_rows(self, rows: int) -> CachedSupernet:
        """Returns the same network with a free batch of up to ``rows``."""
        reading = functools.cache(lambda: self.read().with_rows(rows))
        return CachedSupernet(key_of(self.key, rows), self.cache, reading, self.step)

    def at(self, size: Size) -> CachedSupernet:
        """Returns the same network for images of another size.

        That is tried where no earlier command exported it so.
        """
        if size not in self._sized:
            reading = functools.cache(lambda: self.read().at(size))
            key = key_of(self.key, "at", *size)
            found = CachedSupernet(key, self.cache, reading, self.step)
            found._described()
            self._sized[size] = found
        return self._sized[size]

    @functools.cached_property
    def _whole(self) -> Network:
        """The network, exported now; the forms of a switching one are traced from it."""
        return self.read().exported()

    def _described(self) -> Network | Supernet:
        return self._kept(_FULL) or self.read()

    def _form(self, names: frozenset[str]) -> Network:
        """Returns the network without ``names``, which it leaves out by its own means."""
        return self._kept(names) or self._made(names)

    def _kept(self, names: frozenset[str]) -> Network | None:
        """Returns what is known or in the cache."""
        if names not in self._known:
            load = functools.partial(
                load_export,
                without=self._form,
                otherwise=lambda why: self._program(names, why),
            )
            found = self.cache.read(self._entry(names), load)
            if found is None:
                return None
            self._known[names] = found
            if names == _FULL:
                self.step("the export is taken from the cache")
        return self._known[names]

    def _made(self, names: frozenset[str]) -> Network:
        """Returns what is exported now, and kept."""
        network = self._whole
        if network.switching is not None:
            forms = Switching(network.switching.names, self._form)
            network = replace(network.switching.without(names), switching=forms)
        self._known[names] = network
        self.cache.write(self._entry(names), functools.partial(save_export, network=network))
        return network

    def _program(self, names: frozenset[str], cause: Exception) -> ExportedProgram:
        """Returns the program, exported anew since the one that was kept is none."""
        self.cache.drop(self._entry(names), cause)
        reference = self._made(names).reference
        assert isinstance(reference, TorchReference)
        return reference.program

    def _entry(self, names: frozenset[str]) -> str:
        return key_of(self.key, sorted(names))
