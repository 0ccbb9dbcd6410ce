"""A folder in which a bundle of a zoo network is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.build import BuildOptions, build_bundle
from skipc.compiler.front import Front, FrontEntry, write_front
from tests.zoo import supernet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from skipc.compiler.read import Supernet

NAME = "torchvision-resnet"
SKIPS = {
    "full": (),
    "mid": ("layer1.1",),
    "fast": ("layer1.0", "layer1.1", "layer2.0", "layer2.1"),
}


class BuildFolder:
    """A folder with a checkpoint file and a front."""

    def __init__(
        self,
        folder: Path,
        skips: Mapping[str, tuple[str, ...] | str] = SKIPS,
        network: Supernet | None = None,
    ) -> None:
        self.network = network or supernet(NAME)
        self.folder = folder
        self.checkpoint = folder / "ckpt.pt"
        self.checkpoint.write_bytes(b"weights")
        self.front = folder / "front.json"
        metrics = {"full": {"accuracy": 0.9}}
        entries = (
            FrontEntry(
                name,
                {"skip": skip if isinstance(skip, str) else list(skip)},
                metrics.get(name, {}),
            )
            for name, skip in skips.items()
        )
        write_front(self.front, Front(tuple(entries)))

    def build(
        self,
        network: Supernet | None = None,
        options: BuildOptions | None = None,
        progress: Callable[[str], None] = lambda _: None,
        note: Callable[[str], None] = lambda _: None,
    ) -> Path:
        made = network or self.network
        return build_bundle(
            made, self.checkpoint, self.front, options or BuildOptions(), progress, note
        )

    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())
