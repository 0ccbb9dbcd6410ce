"""Opening a bundle: what is read is checked, and nothing outside its folder is touched."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from ..errors import BundleError, FormatError, IntegrityError, choices_text
from .contained import inside, names_in, regular_file, status_of
from .engines import EngineSet
from .manifest import Manifest
from .npz import read_cases
from .onnx_graph import check_locations
from .records import parse_json, read, read_document
from .route import golden_names

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from .manifest import FileEntry, GraphEntry
    from .tensors import TensorSpec

    Case = dict[str, NDArray[Any]]

MANIFEST_FILE = "manifest.json"
ENGINES_FOLDER = "engines"
ENGINES_FILE = "engines.json"
_CHUNK_BYTES = 1024 * 1024


class Bundle:
    """A family bundle on disk; made by ``Bundle.open``.

    Attributes:
        path: The bundle's folder.
        manifest: What ``manifest.json`` says.
        manifest_sha256: Hash of that file, by which engines name their bundle.
    """

    __slots__ = ("_files", "manifest", "manifest_sha256", "path")

    def __init__(self, path: Path, manifest: Manifest, manifest_sha256: str) -> None:
        self.path = path
        self.manifest = manifest
        self.manifest_sha256 = manifest_sha256
        self._files = {entry.path: entry for entry in manifest.files}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Returns the bundle in the folder ``path``. Reads the manifest, no weights.

        Every listed file must be there, inside the folder, with the size listed. Hashes
        are not computed: see ``verify_hashes``.

        Raises:
            BundleError: There is no bundle there.
            FormatError: The manifest is not as FORMAT.md says.
            VersionError: It is of another version of the format.
            IntegrityError: A file is missing, has another size or lies outside.
        """
        root = Path(path)
        found = _not_a_bundle(root)
        if found:
            raise BundleError(
                f"{root} {found}. Expected the folder NAME.skipc that `skipc build` wrote."
            )
        file = regular_file(root, MANIFEST_FILE)
        data = read_document(file)
        manifest = read(Manifest, parse_json(data, str(file)), str(file))
        for entry in manifest.files:
            regular_file(root, entry.path, entry.size_bytes)
        return cls(root, manifest, hashlib.sha256(data).hexdigest())

    def file(self, path: str) -> Path:
        """Returns the place of a file that the manifest lists, e.g. ``weights.bin``.

        Raises:
            IntegrityError: It is not listed, or has changed since the bundle was opened.
        """
        if path not in self._files:
            raise IntegrityError(
                f"{self.path}: {path!r} is not a file of this bundle."
                f" {choices_text(path, self._files)}"
            )
        return regular_file(self.path, path, self._files[path].size_bytes)

    def graph_file(self, graph: GraphEntry) -> Path:
        """Returns the place of a graph, which takes tensors from the weight store only.

        Raises ``IntegrityError`` where it takes some from elsewhere, is damaged, or has
        changed.
        """
        file = self.file(graph.file)
        check_locations(file, self.file(self.manifest.weights_file).name)
        return file

    def targets(self) -> tuple[str, ...]:
        """Returns the names of the targets that there are engines for, sorted.

        Raises ``IntegrityError`` where ``engines`` cannot be read, or leads out.
        """
        folder = inside(self.path, ENGINES_FOLDER)
        if not folder.is_dir():
            return ()
        # A leading dot marks a folder that is still being written.
        names = [name for name in names_in(folder) if not name.startswith(".")]
        found = ((name, status_of(folder / name / ENGINES_FILE)) for name in names)
        return tuple(name for name, status in found if status and S_ISREG(status.st_mode))

    def engine_dir(self, target: str) -> Path:
        """Returns the folder of ``target``'s engines, which need not exist yet.

        Raises ``IntegrityError`` where it is not a plain name, or the folder leads out.
        """
        named = isinstance(target, str) and target != ""
        if not named or "/" in target or target.startswith("."):
            raise IntegrityError(f"{target!r} is not a target's name, such as 'cpu'.")
        return inside(self.path, f"{ENGINES_FOLDER}/{target}")

    def engine_set(self, target: str | None = None) -> EngineSet:
        """Returns what is known of ``target``'s engines; their files have the sizes listed.

        Args:
            target: A name of ``targets()``; None where there is only one.

        Raises:
            BundleError: There are none for it, or ``target`` is None and several are there.
            FormatError: ``engines.json`` is not as FORMAT.md says.
            IntegrityError: A file is missing, has another size or lies outside; or the
                engines belong to another bundle.
        """
        name = self._only_target() if target is None else target
        folder = self.engine_dir(name)
        if name not in self.targets():
            raise BundleError(
                f"{self.path} holds no engines for the target {name!r}."
                f" {choices_text(name, self.targets())} Run"
                f" `skipc finish {self.path} --target {name}` on the device."
            )
        return self._engines_in(folder, name)[0]

    def _engines_in(self, folder: Path, target: str) -> tuple[EngineSet, bytes]:
        """Returns the engines in a folder of the bundle, and what ``engines.json`` holds."""
        prefix = folder.relative_to(self.path).as_posix()
        file = regular_file(self.path, f"{prefix}/{ENGINES_FILE}")
        data = read_document(file)
        engines = read(EngineSet, parse_json(data, str(file)), str(file))
        _check_engines(self, engines, target, str(file))
        for entry in engines.files:
            regular_file(self.path, f"{prefix}/{entry.path}", entry.size_bytes)
        in_order = tuple(engines.engine(graph.name) for graph in self.manifest.graphs)
        return replace(engines, engines=in_order), data

    def _only_target(self) -> str:
        targets = self.targets()
        if not targets:
            raise BundleError(
                f"{self.path} holds no engines yet. Run"
                f" `skipc finish {self.path}` on the device that will run it."
            )
        if len(targets) > 1:
            raise BundleError(
                f"{self.path} holds engines for several targets. Name one of them: target="
                f"{' or '.join(repr(name) for name in targets)}."
            )
        return targets[0]

    def verify_hashes(self, progress: Callable[[str], None] | None = None) -> None:
        """Reads every listed file, engines included, and compares it with its SHA-256.

        Args:
            progress: Called with each file's path before it is read.

        Raises:
            BundleError: A file has another hash; or ``engine_set`` refuses a target.
        """
        self._verify("", self.manifest.files, progress)
        for target in self.targets():
            self.verify_engines(self.engine_dir(target), target, progress)

    def verify_engines(
        self, folder: Path, target: str, progress: Callable[[str], None] | None = None
    ) -> EngineSet:
        """Reads every file of a target's engines and compares it with its SHA-256.

        They may lie in another ``folder`` of the bundle, on their way to ``engine_dir``.
        ``progress`` is called with each file's path before it is read.

        Raises:
            BundleError: A file has another hash; or ``engine_set`` refuses them.
        """
        engines, data = self._engines_in(folder, target)
        prefix = folder.relative_to(self.path).as_posix() + "/"
        if not engines.is_whole(data):
            raise IntegrityError(
                f"{folder / ENGINES_FILE}: its content does not have the hash that is in it."
                " The file was altered or damaged. Run"
                f" `skipc finish {self.path} --target {target}` again."
            )
        self._verify(prefix, engines.files, progress)
        return engines

    def verify_file(self, path: str) -> None:
        """Reads one of the files that the manifest lists and compares it with its SHA-256.

        Raises ``IntegrityError`` where it is not listed, or has another hash.
        """
        self.file(path)
        self._verify("", [self._files[path]])

    def _verify(
        self,
        prefix: str,
        entries: Iterable[FileEntry],
        progress: Callable[[str], None] | None = None,
    ) -> None:
        for entry in entries:
            if progress is not None:
                progress(prefix + entry.path)
            path = regular_file(self.path, prefix + entry.path, entry.size_bytes)
            try:
                found = file_sha256(path)
            except OSError as cause:
                raise IntegrityError(f"{path}: cannot be read: {cause.strerror}.") from cause
            if found != entry.sha256:
                raise IntegrityError(
                    f"{path}: wrong hash: {found}, but {entry.sha256} is listed. The file was"
                    " altered or damaged; copy the bundle again."
                )

    def golden_inputs(self) -> list[Case]:
        """Returns the golden inputs: per case, the arrays by input name, read-only.

        Raises ``FormatError`` where the file does not fit the manifest's inputs.
        """
        return self._cases(self.manifest.golden_inputs, self.manifest.inputs)

    def golden_outputs(self, configuration: str, stage: int = -1) -> list[Case]:
        """Returns the reference's outputs of ``configuration`` for the golden inputs.

        Args:
            configuration: Its name.
            stage: Which stage of its route answers, one that may; -1 for the last one.

        Raises:
            BundleError: There is no such configuration.
            FormatError: The file does not fit the manifest's outputs.
        """
        entries = {entry.name: entry for entry in self.manifest.configurations}
        if configuration not in entries:
            raise BundleError(
                f"{self.path} has no configuration {configuration!r}."
                f" {choices_text(configuration, entries)}"
            )
        entry, outputs = entries[configuration], self.manifest.outputs
        answers = [
            outputs if each.answers_at(number) else ()
            for number, each in enumerate(entry.route)
        ]
        names = golden_names([{spec.name: spec for spec in specs} for specs in answers])
        renamed = [replace(spec, name=name) for name, spec in names.items()]
        prefix = f"{stage % len(answers)}." if len(answers) > 1 else ""
        return [
            {spec.name: case[prefix + spec.name] for spec in outputs}
            for case in self._cases(entry.golden, renamed)
        ]

    def _cases(self, path: str, tensors: Sequence[TensorSpec]) -> list[Case]:
        cases = read_cases(self.file(path), tuple(tensor.name for tensor in tensors))
        for index, case in enumerate(cases):
            for tensor in tensors:
                found = tensor.misfit(case[tensor.name], {})
                if found is not None:
                    raise FormatError(
                        f"{self.path / path}: '{index}/{tensor.name}' is {found}, expected"
                        f" {tensor.kind}."
                    )
        return cases


def golden_reads(bundle: Bundle) -> list[Case]:
    """Returns the golden inputs, with what the prologue hands over of them."""
    found, prologue = bundle.golden_inputs(), bundle.manifest.prologue
    if prologue is None or not prologue.golden:
        return found
    names = tuple(spec.name for spec in prologue.gives)
    handed = read_cases(bundle.file(prologue.golden), names)
    return [{**case, **more} for case, more in zip(found, handed, strict=True)]


def client_of(bundle: Bundle) -> Bundle | None:
    """Returns the client's side, where the prologue is apart: then this is the server's."""
    prologue = bundle.manifest.prologue
    if prologue is None or not prologue.client:
        return None
    return Bundle.open(inside(bundle.path, prologue.client))


def given_inputs(bundle: Bundle) -> tuple[TensorSpec, ...]:
    """Returns the inputs that a call is given: all but those that are drawn."""
    prologue = bundle.manifest.prologue
    drawn = () if prologue is None else [draw.name for draw in prologue.draws]
    return tuple(spec for spec in bundle.manifest.inputs if spec.name not in drawn)


def _check_engines(bundle: Bundle, engines: EngineSet, target: str, where: str) -> None:
    """Checks that engines are those of a bundle's graphs, for a target."""
    again = f"Run `skipc finish {bundle.path} --target {target}` again."
    if engines.target != target:
        raise FormatError(
            f"{where}: 'target' is {engines.target!r}, but the folder is {target!r}."
        )
    if engines.bundle_sha256 != bundle.manifest_sha256:
        raise IntegrityError(
            f"{where}: the engines were built from another manifest than"
            f" {bundle.path / MANIFEST_FILE}. {again}"
        )
    free = {each.name for each in bundle.manifest.dimensions}
    for entry in engines.engines:
        odd = [row for row in entry.by_size if row.sizes.keys() != free]
        if odd:
            raise FormatError(
                f"{where}: the engine of graph {entry.graph!r} was measured at the sizes"
                f" {dict(odd[0].sizes)}, expected one for each of {sorted(free)}."
            )
    found = {entry.graph for entry in engines.engines}
    known = {graph.name for graph in bundle.manifest.graphs}
    if known - found:
        raise IntegrityError(
            f"{where}: no engine for the graph {min(known - found)!r}. {again}"
        )
    if found - known:
        raise FormatError(
            f"{where}: an engine of {min(found - known)!r}, which is no graph of the"
            f" bundle. {again}"
        )


def _not_a_bundle(root: Path) -> str | None:
    """Returns why there is no bundle in ``root``, or None."""
    try:
        if not root.is_dir():
            return "is not a folder" if root.exists() else "does not exist"
        if not (root / MANIFEST_FILE).exists():
            return f"holds no {MANIFEST_FILE}, so it is not a bundle"
    except OSError as cause:
        return f"cannot be read ({cause.strerror})"
    return None


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal digits, or raises ``OSError``."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
