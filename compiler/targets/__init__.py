"""Targets: building a bundle's engines. Needs no torch, so it runs on the device too.

``_BUILDERS`` is the registry: the runtime backend that a profile names, and the module that
builds engines for it. Each is imported when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

from skipc.compiler.errors import TargetError
from skipc.compiler.targets.options import TargetOptions
from skipc.profiles import load_profile
from skipc.profiles.detect import machine_name
from skipc.runtime.bundle import Bundle
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.profiles import Profile
    from skipc.runtime.bundle.engines import EngineSet

    Progress = Callable[[str], None]

_BUILDERS: dict[str, str] = {
    "onnxruntime-cpu": "skipc.compiler.targets.cpu.finish",
    "tensorrt": "skipc.compiler.targets.tensorrt.finish",
    "tensorrt-rtx": "skipc.compiler.targets.tensorrt.finish",
}


class EngineBuilder(Protocol):
    """What a target's module offers."""

    def unavailable_reason(self, profile: Profile) -> str | None:
        """Returns why engines cannot be built on this host; None if they can."""
        ...

    def unmeasurable_reason(self, profile: Profile) -> str | None:
        """Returns why engines cannot be run on this host; None if they can."""
        ...

    def measure_graphs(
        self,
        profile: Profile,
        graphs: Mapping[str, Path],
        inputs: Mapping[str, NDArray[Any]],
        threads: int,
        progress: Progress,
    ) -> dict[str, float]:
        """Returns the latency in ms that an engine of each graph would have on this host.

        Args:
            profile: The target.
            graphs: ONNX files by name; the first is what the others are compared with.
            inputs: What to run on, by input name.
            threads: Threads of an engine.
            progress: Called with a short line before each graph.

        Raises:
            TargetError: A graph cannot be loaded or run.
        """
        ...

    def build_engines(
        self, bundle: Bundle, profile: Profile, options: TargetOptions, progress: Progress
    ) -> EngineSet:
        """Builds and writes the engines of every configuration.

        Either all of them are in ``engines/<target>`` afterwards, checked against the
        golden outputs where they can be run, or what was there before is untouched.

        Args:
            bundle: The portable bundle.
            profile: The target; its name is the folder's.
            options: The user's options.
            progress: Called with a short line before each step.

        Raises:
            TargetError: They cannot be built on this host.
            NumericsError: An engine's outputs are not those of its subnet.
        """
        ...


def builder_for(profile: Profile) -> EngineBuilder:
    """Returns the builder of ``profile``'s engines.

    Raises:
        TargetError: No builder makes engines for its backend.
    """
    if profile.backend not in _BUILDERS:
        raise TargetError(
            f"target {profile.name!r}: no builder for the backend {profile.backend!r}."
            f" {choices_text(profile.backend, _BUILDERS)}"
        )
    builder: EngineBuilder = importlib.import_module(_BUILDERS[profile.backend])
    return builder


def unavailable_reason(profile: Profile, machine: str | None = None) -> str | None:
    """Returns why ``profile``'s engines cannot be built on this host; None if they can.

    Args:
        profile: The target.
        machine: This host's architecture, as ``platform.machine()`` says it by default.
    """
    elsewhere = _elsewhere(profile, machine)
    return elsewhere or builder_for(profile).unavailable_reason(profile)


def unmeasurable_reason(profile: Profile, machine: str | None = None) -> str | None:
    """Returns why ``profile``'s engines cannot be run on this host; None if they can.

    Args:
        profile: The target.
        machine: This host's architecture, as ``platform.machine()`` says it by default.
    """
    elsewhere = _elsewhere(profile, machine)
    return elsewhere or builder_for(profile).unmeasurable_reason(profile)


def _elsewhere(profile: Profile, machine: str | None) -> str | None:
    if profile.backend not in _BUILDERS:
        return f"this version of skipc does not build engines of {profile.backend!r}."
    here = machine_name(machine)
    if profile.architecture in ("any", here):
        return None
    # Its libraries may well be here, but what they build would be another device's.
    return f"engines are built on the device, on {profile.architecture}; this is {here}."


def target_of(bundle: Bundle, target: str | None) -> str:
    """Returns the target to build for: as given, else as the bundle's recipe says.

    Args:
        bundle: The bundle.
        target: A profile's name, a path to one, or None.

    Returns:
        What ``load_profile`` takes.
    """
    recipe = bundle.manifest.recipe
    if recipe.profile and target in (None, recipe.target):
        return str(bundle.file(recipe.profile))
    return recipe.target if target is None else target


def finish(
    path: str | os.PathLike[str],
    target: str | None = None,
    progress: Progress | None = None,
    options: TargetOptions | None = None,
) -> EngineSet:
    """Builds the engines of the bundle at ``path`` on this host: ``skipc finish``.

    Args:
        path: The bundle's folder.
        target: A profile's name, or a path to one; None for what the bundle was built for.
        progress: Called with a short line before each step.
        options: Options of the target; what is not given there is as the bundle's recipe
            says, where that is for the same target.

    Returns:
        What ``engines/<target>/engines.json`` says.

    Raises:
        ProfileError: The target is unknown.
        BundleError: The bundle cannot be used, or a file of it is damaged.
        TargetError: Engines cannot be built on this host.
        NumericsError: An engine's outputs are not those of its subnet.
    """
    bundle = Bundle.open(path)
    profile = load_profile(target_of(bundle, target))
    reason = unavailable_reason(profile)
    if reason is not None:
        raise TargetError(
            f"target {profile.name!r} cannot be built here: {reason} Run `skipc finish` there,"
            " or here with --on USER@HOST."
        )
    told = progress or (lambda line: None)
    told("checking the portable files")
    manifest = bundle.manifest
    for file in (manifest.weights_file, *(entry.graph for entry in manifest.configurations)):
        bundle.verify_file(file)
    chosen = options or TargetOptions()
    if profile.name == bundle.manifest.recipe.target:
        chosen = chosen.or_else(bundle.manifest.recipe)
    return builder_for(profile).build_engines(bundle, profile, chosen, told)
