"""The bundle's manifest: what FORMAT.md calls ``manifest.json``, as frozen dataclasses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from ..errors import FormatError, choices_text, shown
from .contained import check_relative
from .manifest_checks import check_manifest
from .recipe import Recipe
from .records import Record, check_format

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "skipc.bundle/1"

DTYPES = (
    *("bool", "float16", "float32", "float64"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
"""Element types that an input or an output may have, by NumPy's names."""

Dimension = int | str
"""A dimension: a fixed size, or the name of the dynamic batch (``"N"``)."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of the network.

    Attributes:
        name: The tensor's name in every graph of the family.
        dtype: NumPy's name of the element type, e.g. ``float32`` or ``int64``.
        shape: One entry per dimension; a string marks the dynamic batch.
    """

    name: str
    dtype: str
    shape: tuple[Dimension, ...]


@dataclass(frozen=True, slots=True)
class BatchRange:
    """The sizes that a dynamic batch may have, and the one to optimise for."""

    minimum: int
    typical: int
    maximum: int


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: its path relative to the manifest's folder, its size and its SHA-256."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one distinct tensor lies in the weight store."""

    sha256: str
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class UnitEntry:
    """One unit of the supernet, in network order."""

    name: str
    parameters: int
    macs: int


@dataclass(frozen=True, slots=True)
class Verification:
    """How far a subnet's outputs are from the reference's.

    Attributes:
        reference: What it was compared with, e.g. ``pytorch``.
        inputs: How many inputs were compared.
        max_abs_error: The largest absolute difference over all outputs and inputs.
        relative_error: The largest difference, over the range (largest minus smallest
            value) of the reference's output.
        tolerance: The ``relative_error`` from which on the build would have stopped.
    """

    reference: str
    inputs: int
    max_abs_error: float
    relative_error: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class ConfigurationEntry:
    """One configuration and its subnet.

    Attributes:
        name: The configuration's name.
        skip: The units skipped, in network order.
        graph: The subnet's file.
        golden: The file with the reference's outputs for the golden inputs.
        macs: Multiply-accumulate operations of one inference, batch 1.
        parameters: The subnet's parameters.
        weights_bytes: Bytes of the weight store that the subnet refers to.
        own_bytes: Those of them that no other configuration refers to.
        metrics: The front's metrics with their unit suffixes, e.g. ``accuracy``.
        verification: The comparison with the reference.
    """

    name: str
    skip: tuple[str, ...]
    graph: str
    golden: str
    macs: int
    parameters: int
    weights_bytes: int
    own_bytes: int
    metrics: Mapping[str, float]
    verification: Verification


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the bundle comes from.

    Attributes:
        created_utc: ISO 8601 date and time.
        checkpoint: The checkpoint's file name.
        checkpoint_sha256: The checkpoint's hash.
        model: The model factory and its arguments, as text.
        norm: How batch norm adapts to what is skipped: ``shared``, ``scalar``, ``full``, or
            ``switched`` where the network itself changes its norms.
        precision: The floating-point types that the graphs compute in: ``fp32``, ``fp16``,
            ``bf16``, ``fp64``, or ``mixed`` where the network itself has several.
        versions: Library versions by name.
    """

    created_utc: str
    checkpoint: str
    checkpoint_sha256: str
    model: str
    norm: str
    precision: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A family bundle's table of contents."""

    name: str
    provenance: Provenance
    recipe: Recipe
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch: BatchRange | None
    units: tuple[UnitEntry, ...]
    configurations: tuple[ConfigurationEntry, ...]
    weights_file: str
    weights: tuple[StoredTensor, ...]
    golden_inputs: str
    files: tuple[FileEntry, ...]

    def to_json(self) -> dict[str, object]:
        """Returns the JSON document, format line first."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, value: object, where: str) -> Manifest:
        """Reads a JSON document.

        Raises:
            VersionError: The document's format is not ``skipc.bundle/1``.
            FormatError: Anything else is not as FORMAT.md says.
        """
        check_format(value, FORMAT, where)
        doc = Record(value, where, ("format", *_names(cls)))
        manifest = cls(
            name=doc.text("name"),
            provenance=_provenance(doc.record("provenance", *_names(Provenance))),
            recipe=Recipe.from_record(doc.record("recipe", *_names(Recipe))),
            inputs=tuple(_tensor(r) for r in doc.records("inputs", *_names(TensorSpec))),
            outputs=tuple(_tensor(r) for r in doc.records("outputs", *_names(TensorSpec))),
            batch=_batch(doc),
            units=tuple(
                UnitEntry(r.text("name"), r.integer("parameters"), r.integer("macs"))
                for r in doc.records("units", *_names(UnitEntry))
            ),
            configurations=tuple(
                _configuration(r)
                for r in doc.records("configurations", *_names(ConfigurationEntry))
            ),
            weights_file=doc.text("weights_file"),
            weights=tuple(
                StoredTensor(
                    r.sha256("sha256"), r.integer("offset_bytes"), r.integer("size_bytes", 1)
                )
                for r in doc.records("weights", *_names(StoredTensor))
            ),
            golden_inputs=doc.text("golden_inputs"),
            files=read_files(doc),
        )
        check_manifest(manifest, where)
        return manifest


def read_files(doc: Record) -> tuple[FileEntry, ...]:
    """Returns the ``files`` list of a manifest.

    Raises:
        IntegrityError: A path leads out of the manifest's folder.
        FormatError: Two entries have one path, or an entry is malformed.
    """
    files: dict[str, FileEntry] = {}
    for r in doc.records("files", *_names(FileEntry)):
        path = r.text("path")
        check_relative(path, f"{r.where}: 'path'")
        if path in files:
            raise FormatError(f"{r.where}: {path!r} is listed twice in 'files'.")
        files[path] = FileEntry(path, r.integer("size_bytes"), r.sha256("sha256"))
    return tuple(files.values())


def _names(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls))


def _tensor(record: Record) -> TensorSpec:
    shape: list[Dimension] = []
    for item in record.items("shape"):
        positive = isinstance(item, int) and not isinstance(item, bool) and item > 0
        if not positive and not (isinstance(item, str) and item):
            raise FormatError(
                f"{record.where}: 'shape' must hold positive whole numbers or the name of"
                f" the batch, found {shown(item)}."
            )
        assert isinstance(item, (int, str))
        shape.append(item)
    dtype = record.text("dtype")
    if dtype not in DTYPES:
        choices = choices_text(dtype[:40], DTYPES)
        raise FormatError(f"{record.where}: 'dtype' {dtype[:40]!r} is unknown. {choices}")
    return TensorSpec(record.text("name"), dtype, tuple(shape))


def _batch(doc: Record) -> BatchRange | None:
    record = doc.optional_record("batch", *_names(BatchRange))
    if record is None:
        return None
    batch = BatchRange(*(record.integer(name, 1) for name in _names(BatchRange)))
    if not batch.minimum <= batch.typical <= batch.maximum:
        raise FormatError(
            f"{record.where}: needs minimum <= typical <= maximum, found {batch}."
        )
    return batch


def _provenance(record: Record) -> Provenance:
    return Provenance(
        created_utc=record.text("created_utc"),
        checkpoint=record.text("checkpoint"),
        checkpoint_sha256=record.text("checkpoint_sha256"),
        model=record.text("model"),
        norm=record.text("norm"),
        precision=record.text("precision"),
        versions=record.strings("versions"),
    )


def _configuration(record: Record) -> ConfigurationEntry:
    errors = record.record("verification", *_names(Verification))
    return ConfigurationEntry(
        name=record.text("name"),
        skip=record.texts("skip"),
        graph=record.text("graph"),
        golden=record.text("golden"),
        macs=record.integer("macs"),
        parameters=record.integer("parameters"),
        weights_bytes=record.integer("weights_bytes"),
        own_bytes=record.integer("own_bytes"),
        metrics=record.numbers("metrics"),
        verification=Verification(
            reference=errors.text("reference"),
            inputs=errors.integer("inputs", 1),
            max_abs_error=errors.number("max_abs_error"),
            relative_error=errors.number("relative_error"),
            tolerance=errors.number("tolerance"),
        ),
    )
