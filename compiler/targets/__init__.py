"""Targets: building a bundle's engines. Needs no torch, so it runs on the device too.

``_BUILDERS`` is the registry: the runtime backend that a profile names, and the module that
builds engines for it. Each is imported when it is used.
"""

from __future__ import annotations

import importlib
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from skipc.compiler.bundle.files import file_entries, staged_folder, write_whole
from skipc.compiler.errors import TargetError
from skipc.compiler.targets.options import Int8Form, TargetOptions
from skipc.profiles import load_profile
from skipc.profiles.detect import machine_name
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.contained import inside
from skipc.runtime.bundle.engines import EngineSet
from skipc.runtime.bundle.folder import ENGINES_FILE, ENGINES_FOLDER, file_sha256
from skipc.runtime.errors import BundleError, choices_text, sentence

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.profiles import Profile
    from skipc.runtime.bundle.engines import EngineEntry, Switches

    Progress = Callable[[str], None]

_BUILDERS: dict[str, str] = {
    "onnxruntime-cpu": "skipc.compiler.targets.cpu.finish",
    "onnxruntime-cuda": "skipc.compiler.targets.cuda.finish",
    "tensorrt": "skipc.compiler.targets.tensorrt.finish",
    "tensorrt-rtx": "skipc.compiler.targets.tensorrt.finish",
}


@dataclass(frozen=True, slots=True)
class Built:
    """Engines whose files lie in a folder that is still to be published.

    Attributes:
        host: What they depend on, by name.
        engines: One for each graph, in the manifest's order.
        packed_file: The packed store; empty where the target has none.
        switches: What one engine for all graphs switches; None where each has its own.
        chosen: Why they are of this form; empty where there was nothing to choose.
    """

    host: Mapping[str, str]
    engines: tuple[EngineEntry, ...]
    packed_file: str = ""
    switches: Switches | None = None
    chosen: str = ""


class EngineBuilder(Protocol):
    """What a target's module offers."""

    def unavailable_reason(self, profile: Profile) -> str | None:
        """Returns why engines cannot be built on this host; None if they can."""
        ...

    def unmeasurable_reason(self, profile: Profile) -> str | None:
        """Returns why engines that are built on this host cannot be run on it, or None."""
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
            inputs: What to run on, by name; what a graph does not read is left out.
            threads: Threads of an engine.
            progress: Called with a short line before each graph.

        Raises:
            TargetError: A graph cannot be loaded or run.
        """
        ...

    def int8_form(self, profile: Profile) -> Int8Form:
        """Returns how the target's engines want int8."""
        ...

    def reusable(self, path: str) -> bool:
        """Tells whether a file of the target's folder may spare a later build work."""
        ...

    def build_engines(
        self,
        bundle: Bundle,
        profile: Profile,
        options: TargetOptions,
        staging: Path,
        progress: Progress,
    ) -> Built:
        """Builds one engine for each graph in ``staging``, checked against the golden outputs.

        What an interrupted build should leave for the next one it keeps in ``kept_folder``,
        where it also finds what ``carried_over`` has put.

        Raises:
            TargetError: They cannot be built on this host.
            NumericsError: An engine's outputs are not those of its graph.
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
    if profile.backend not in _BUILDERS:
        return f"this version of skipc does not build engines of {profile.backend!r}."
    here = machine_name(machine)
    if profile.architecture not in ("any", here):
        # Its libraries may well be here, but what they build would be another device's.
        return f"engines are built on the device, on {profile.architecture}; this is {here}."
    return builder_for(profile).unavailable_reason(profile)


def unmeasurable_reason(profile: Profile, machine: str | None = None) -> str | None:
    """Returns why ``profile``'s engines cannot be built and run here; None if they can."""
    unavailable = unavailable_reason(profile, machine)
    return unavailable or builder_for(profile).unmeasurable_reason(profile)


def target_of(bundle: Bundle, target: str | None) -> str:
    """Returns the target to build for, as given or as the bundle's recipe says.

    That is what ``load_profile`` takes: a profile's name, or a path to one.
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
        NumericsError: An engine's outputs are not those of its graph.
    """
    bundle = Bundle.open(path)
    profile = load_profile(target_of(bundle, target))
    reason = unavailable_reason(profile)
    if reason is not None:
        raise TargetError(
            f"target {profile.name!r} cannot be built here: {sentence(reason)} Run"
            " `skipc finish` there, or here with --on USER@HOST."
        )
    return finish_bundle(
        bundle, profile, options or TargetOptions(), progress or (lambda line: None)
    )


def finish_bundle(
    bundle: Bundle, profile: Profile, options: TargetOptions, progress: Progress
) -> EngineSet:
    """Builds the engines of a bundle for a target that ``unavailable_reason`` allows.

    All of them are in the target's folder afterwards, or none is. See ``finish``.
    """
    progress("checking the portable files")
    manifest = bundle.manifest
    for file in dict.fromkeys((manifest.weights_file, *(g.file for g in manifest.graphs))):
        bundle.verify_file(file)
    if profile.name == manifest.recipe.target:
        options = options.or_else(manifest.recipe)
    folder = bundle.engine_dir(profile.name)
    try:
        with staged_folder(folder) as staging:
            built = builder_for(profile).build_engines(
                bundle, profile, options, staging, progress
            )
            engines = EngineSet(
                target=profile.name,
                backend=profile.backend,
                host=built.host,
                bundle_sha256=bundle.manifest_sha256,
                engines=built.engines,
                packed_file=built.packed_file,
                switches=built.switches,
                chosen=built.chosen,
                files=file_entries(staging),
            ).sealed()
            write_whole(staging / ENGINES_FILE, engines.encoded())
    except OSError as cause:
        raise TargetError(f"{folder} cannot be written: {cause.strerror or cause}.") from cause
    shutil.rmtree(kept_folder(bundle.path, profile.name), ignore_errors=True)
    return engines


def kept_folder(bundle: Path, target: str) -> Path:
    """Returns where an interrupted build of a target's engines keeps what is ready.

    Raises:
        IntegrityError: It leads out of the bundle.
    """
    return inside(bundle, f"{ENGINES_FOLDER}/.{target}.kept")


@contextmanager
def carried_over(path: Path, new: Path, target: str) -> Iterator[None]:
    """Gives a bundle that replaces another one what spares its engines' builder work.

    Where the block fails, what it has built goes back to the bundle that stays.

    Args:
        path: The bundle that will be gone; there may be none.
        new: The folder of the one that takes its place.
        target: The target whose engines are wanted.
    """
    kept, here = kept_folder(path, target), kept_folder(new, target)
    _copy_files(kept, here)
    try:
        old = Bundle.open(path)
        engines = old.engine_set(target)
        builder: EngineBuilder = importlib.import_module(_BUILDERS[engines.backend])
        for file in engines.files:
            finished = old.engine_dir(target) / file.path
            if builder.reusable(file.path) and file_sha256(finished) == file.sha256:
                here.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(finished, here / file.path)
    except (BundleError, KeyError):
        pass  # none, without such engines, or damaged: they are built
    try:
        yield
    except BaseException:
        if path.is_dir():
            with suppress(OSError):  # as of a full disk, which the first error tells
                _copy_files(here, kept)
        raise


def _copy_files(source: Path, destination: Path) -> None:
    """Copies the plans that wait in a folder, if it is there, to another one."""
    if source.is_dir():
        destination.mkdir(parents=True, exist_ok=True)
        for file in source.iterdir():
            if file.is_file() and not file.is_symlink():
                write_whole(destination / file.name, file.read_bytes())
