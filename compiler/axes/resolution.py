"""Resolution: the height and width that a configuration brings its images to."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from skipc.compiler.axes.axis import Axis, Gene, Genes, Offer
from skipc.compiler.errors import FrontError, SupernetError
from skipc.compiler.graph.costs import total_macs
from skipc.compiler.read.resized import images_of, size_text
from skipc.runtime.errors import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from skipc.compiler.front import Front
    from skipc.compiler.network import Network, Size
    from skipc.compiler.read import Supernet
    from skipc.runtime.bundle.tensors import TensorSpec

SHARES = (6 / 7, 5 / 7, 1 / 2)
"""What a search tries: of 224 pixels 192, 160 and 112."""
_STEPS = ((64, 16), (16, 4), (0, 2))
"""From so many pixels on, sizes that a search tries are multiples of so many."""
_RESIZING = ("resize", "resized")
"""What the two steps of resizing an input are called."""


class Resolution(NamedTuple):
    """A height and width, and those of the full network."""

    size: Size
    full: Size


class ResolutionOption(NamedTuple):
    """A resolution as something that may be chosen; no parameter goes with it."""

    name: str
    macs: int
    parameters: int = 0


@dataclass(frozen=True)
class ResolutionOffer(Offer):
    """The sizes that a network may be had at.

    Attributes:
        network: The full network.
        asked: The sizes of configurations that were read.
        made: The networks that were made of it, by size.
        refused: Why it cannot be had at sizes that a search would try.
    """

    network: Network
    asked: dict[Size, None] = field(default_factory=dict)
    made: dict[Size, Network] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    @property
    def options(self) -> Sequence[ResolutionOption]:
        """The resolutions that configurations have."""
        full = total_macs(self.network.model.graph)
        # To resize may take more than it spares.
        return [
            ResolutionOption(
                size_text(size), max(0, full - total_macs(self.at(size).model.graph))
            )
            for size in sorted(self.asked, reverse=True)
        ]

    @cached_property
    def full(self) -> Size:
        """What the network itself takes; raises ``SupernetError`` where that is no images."""
        for feed in self.network.reference.feeds:
            if feed.size is not None:
                return feed.size
        return self.given

    @cached_property
    def given(self) -> Size:
        """What a call gives: in a cascade it may be more than the network takes."""
        return _given(self.network.inputs)

    @cached_property
    def levels(self) -> tuple[Size, ...]:
        """The sizes that a search tries, ever smaller, without those that cannot be had."""
        try:
            full = self.full
        except SupernetError as cause:
            self.refused.append(str(cause))
            return ()
        found: list[Size] = []
        for share in SHARES:
            size = _rounded(share * full[0]), _rounded(share * full[1])
            if size in (full, *found):
                continue
            try:
                self.at(size)
            except SupernetError as cause:
                self.refused.append(str(cause))
            else:
                found.append(size)
        return tuple(found)

    @property
    def nothing(self) -> str:
        """Why a search has nothing to decide."""
        return [*self.refused, "its images are too small"][0]

    def at(self, size: Size) -> Network:
        """Returns the network at a size, made once.

        Raises:
            SupernetError: It cannot be had at that size.
        """
        if size not in self.made:
            if self.network.at is None:
                raise SupernetError(
                    f"{self.network.description}: it cannot be exported at another size."
                )
            made = self.network.at(size)
            _check_alike(self.network, made, size)
            self.made[size] = made
        return self.made[size]


class ResolutionAxis(Axis[Resolution, ResolutionOffer]):
    """Brings images to a smaller size first, and runs the network as it is at that size."""

    key = "resolution"
    after_norms = False

    def offer(self, network: Network) -> ResolutionOffer:
        """Returns what a network may be had at, found when it is asked."""
        return ResolutionOffer(network)

    def check(self, record: object, where: str) -> None:
        """Refuses what is neither a number of pixels nor a height and a width."""
        numbers = record if isinstance(record, list) else [record]
        whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers)
        if not whole or (isinstance(record, list) and len(record) != 2):
            raise FrontError(
                f"{where}: 'resolution' is {shown(record)}, expected pixels: a whole number"
                " such as 160, or a height and a width such as [160, 320]."
            )

    def read(self, record: object, offer: ResolutionOffer, where: str) -> Resolution:
        """Returns a resolution that is no larger than what a call gives."""
        try:
            full, given = offer.full, offer.given
        except SupernetError as cause:
            raise _imageless(where, cause) from cause
        size = _size(record, given, where)
        if size != full:
            offer.asked[size] = None
        return Resolution(size, full)

    def record(self, choice: Resolution) -> object:
        """Returns its pixels."""
        height, width = choice.size
        return height if height == width else [height, width]

    def apply(self, network: Network, choice: Resolution, offer: ResolutionOffer) -> Network:
        """Returns the network at that size; it is the first choice that is applied."""
        return network if choice.size == choice.full else offer.at(choice.size)

    def genes(self, offer: ResolutionOffer) -> tuple[Gene, ...]:
        """Returns one gene, whose values are ever smaller sizes."""
        levels = offer.levels
        name = "/".join(map(size_text, levels))
        return (Gene(self.key, name, 1 + len(levels)),) if levels else ()

    def decode(self, genes: Genes, offer: ResolutionOffer) -> Resolution:
        """Returns the resolution."""
        return Resolution((offer.full, *offer.levels)[genes[0]], offer.full)

    def taken(self, choice: Resolution) -> tuple[str, ...]:
        """Returns the size; nothing of the full one."""
        return () if choice.size == choice.full else (size_text(choice.size),)

    def text(self, choice: Resolution) -> str:
        """Returns the size."""
        return size_text(choice.size)


def try_sizes(front: Front, supernets: Mapping[str, Supernet], where: str) -> None:
    """Runs networks at the sizes that a front names, before anything is exported.

    Raises:
        FrontError: A size is none for what goes in, or a network does not run at it.
    """
    for entry in front.configurations:
        for part in entry.networks:
            record = part.choices.get(ResolutionAxis.key)
            if record is None:
                continue
            place = f"{where}: {entry.name!r}"
            supernet = supernets[part.network or next(iter(supernets))]
            try:
                given = _given(supernet.inputs)
            except SupernetError as cause:
                raise _imageless(place, cause) from cause
            size = _size(record, given, place)
            try:
                if size != given:
                    supernet.at(size)
            except SupernetError as cause:
                raise FrontError(f"{place}: {cause}") from cause


def _given(inputs: tuple[TensorSpec, ...]) -> Size:
    """Returns the height and width of images that go in."""
    height, width = images_of(inputs).shape[2:]
    return int(height), int(width)


def _size(record: object, given: Size, where: str) -> Size:
    """Returns the size that an entry names, which is no larger than what goes in."""
    if not isinstance(record, list) and given[0] != given[1]:
        raise FrontError(
            f"{where}: 'resolution' is {record}, but the images are {size_text(given)}. Give a"
            f" height and a width, such as [{given[0] // 2}, {given[1] // 2}]."
        )
    height, width = record if isinstance(record, list) else (record, record)
    assert isinstance(height, int)
    assert isinstance(width, int)
    if height > given[0] or width > given[1]:
        raise FrontError(
            f"{where}: 'resolution' is {size_text((height, width))}, larger than the images"
            f" that go in, {size_text(given)}. Give at most that, or larger images with"
            " --input."
        )
    return height, width


def _imageless(where: str, cause: SupernetError) -> FrontError:
    return FrontError(f"{where}: 'resolution' is of networks of images: {cause}")


def _rounded(pixels: float) -> int:
    step = next(step for least, step in _STEPS if pixels >= least)
    return max(step, round(pixels / step) * step)


def _check_alike(full: Network, made: Network, size: Size) -> None:
    """Refuses a network that is another one at that size.

    Units, heads and channels are named by the full network's tensors, so each must be there,
    made by the same operator of the same ones.
    """
    what = f"{full.description} at {size_text(size)}"
    wanted, found = _operators(full), _operators(made)
    for name, operator in wanted.items():
        if found.get(name) != operator:
            raise SupernetError(
                f"{what}: its graph is another one: {name!r}, which {operator[0]} computes at"
                f" full size, is {'another' if name in found else 'not there'}. Build it at"
                " that size by itself."
            )
    for before, after in zip(full.outputs, made.outputs, strict=True):
        if before != after:
            raise SupernetError(
                f"{what}: it answers {after.name!r} as {after.kind}, and {before.kind} at full"
                " size. All configurations answer alike."
            )


def _operators(network: Network) -> dict[str, tuple[str, ...]]:
    """Returns by the name of what it computes each operator, and what it reads.

    Constants and what goes in have no name there, and what resizes it is left out.
    """
    resizing = {f"{feed.name}.{end}" for feed in network.reference.feeds for end in _RESIZING}
    nodes = {str(n.outputs[0].name): n for n in (network.branches or network.model).graph}
    return {
        name: (node.op_type, *(_read(value, resizing) for value in node.inputs))
        for name, node in nodes.items()
        if name not in resizing
    }


def _read(value: ir.Value | None, resizing: set[str]) -> str:
    if value is None or value.producer() is None or value.name in resizing:
        return ""
    return str(value.name)
