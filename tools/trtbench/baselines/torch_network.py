"""The network that a bundle was built from, for the baselines that run it in PyTorch."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING

from skipc.compiler.bundle.files import sha256_of
from skipc.compiler.errors import CheckpointError, FrontError
from skipc.compiler.extras import require
from skipc.tools.options import read_supernet
from skipc.tools.trtbench.baselines.baseline import BaselineUnavailableError

if TYPE_CHECKING:
    import torch

    from skipc.compiler.norms.statistics import FamilyNorms
    from skipc.compiler.subnets import SubnetSource
    from skipc.runtime import Bundle
    from skipc.tools.trtbench.baselines.options import NetworkFiles


class TorchNetwork:
    """Reads the checkpoint when it is first asked for a configuration.

    Args:
        bundle: The bundle that was built from it.
        files: Where it lies, and how it is read.

    Raises:
        CheckpointError: It is another checkpoint than the bundle's.
        FrontError: The bundle has norm statistics, and there is no front to take them from.
        ExtraMissingError: PyTorch is not installed.
    """

    read_ms: float = 0.0
    """What reading the checkpoint took, once it was read."""

    def __init__(self, bundle: Bundle, files: NetworkFiles) -> None:
        require("torch", "compiler")
        self._bundle = bundle
        self._files = files
        provenance = bundle.manifest.provenance
        if not files.checkpoint.is_file():
            raise CheckpointError(f"{files.checkpoint}: there is no such file.")
        found = sha256_of(files.checkpoint)
        if found != provenance.checkpoint_sha256:
            raise CheckpointError(
                f"{files.checkpoint}: another checkpoint than the bundle's: its hash begins"
                f" with {found[:12]}, that of {provenance.checkpoint!r}, which {bundle.path}"
                f" was built from, with {provenance.checkpoint_sha256[:12]}."
            )
        with_norms = provenance.norm in ("scalar", "full")
        if with_norms and files.front is None:
            raise FrontError(
                f"{bundle.path}: each configuration has norms of its own ({provenance.norm}),"
                " which the checkpoint does not hold. Give the front that the bundle was"
                " built with: --front FILE."
            )
        if files.front is not None and not with_norms:
            raise FrontError(
                f"--front {files.front}: the bundle's norms are {provenance.norm!r}; they are"
                " in the checkpoint. Leave --front out."
            )

    def module(
        self, configuration: str
    ) -> tuple[torch.fx.GraphModule, tuple[str, ...], tuple[str, ...]]:
        """Returns a configuration as a module, the names of its inputs, and of its outputs.

        Raises:
            CompileError: The checkpoint cannot be read, or is no network of these units.
            BaselineUnavailableError: PyTorch would not compute the same.
        """
        from skipc.compiler.front import Front, FrontEntry, configurations_from_front
        from skipc.compiler.verify.eager import eager_module, input_names, output_names

        source = self._subnets
        manifest = self._bundle.manifest
        entry = next(e for e in manifest.configurations if e.name == configuration)
        front = Front((FrontEntry(entry.name, entry.skip),))
        where = str(self._bundle.path)
        (chosen,) = configurations_from_front(front, source.search.units, where)
        # A reference that would need a folder for its files is refused below.
        reference = source.reference(chosen, self._bundle.path)
        module = eager_module(reference, chosen.units)
        return module, input_names(reference), output_names(reference)

    @cached_property
    def _subnets(self) -> SubnetSource:
        from skipc.compiler.axes.precision.mode import graph_precision
        from skipc.compiler.build import BuildOptions, open_subnets
        from skipc.compiler.read import OnnxSupernet

        files = self._files
        start_ns = time.perf_counter_ns()
        supernet = read_supernet(
            files.checkpoint,
            files.model,
            files.model_args,
            files.inputs,
            files.batch,
            files.output,
        )
        if isinstance(supernet, OnnxSupernet):
            raise CheckpointError(
                f"{files.checkpoint}: an ONNX graph, which PyTorch does not run. Leave eager"
                " and compile out of --baseline."
            )
        self.read_ms = max(time.perf_counter_ns() - start_ns, 1) / 1e6
        source = open_subnets(supernet, BuildOptions(), self._norms())
        own = graph_precision(source.supernet.model)
        wanted = self._bundle.manifest.provenance.precision
        if own != wanted:
            raise BaselineUnavailableError(
                f"the network computes in {own}, the bundle was cast to {wanted}: that would"
                " not be the same work."
            )
        return source

    def _norms(self) -> FamilyNorms:
        from skipc.compiler.front import read_front
        from skipc.compiler.norms.mode import NormMode
        from skipc.compiler.norms.of_front import norms_of_front
        from skipc.compiler.norms.statistics import FamilyNorms

        path = self._files.front
        if path is None:
            return FamilyNorms(NormMode.SHARED)
        front = read_front(path)
        norm = self._bundle.manifest.provenance.norm
        found = (front.norm or NormMode.SHARED).value
        if found != norm:
            raise FrontError(
                f"{path}: its norms are {found!r}, those of {self._bundle.path} {norm!r}. If"
                " they were estimated while building (--reestimate) they lie in no file:"
                " leave eager and compile out of --baseline."
            )
        return norms_of_front(path, front, self._files.checkpoint)
