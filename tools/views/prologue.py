"""What goes in front of a bundle's networks: in words, and which side of it a bundle is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.runtime.bundle.folder import client_of

if TYPE_CHECKING:
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import Manifest


def prologue_text(manifest: Manifest) -> str:
    """Returns what goes in front, and where it is computed; empty where nothing does."""
    prologue = manifest.prologue
    if prologue is None:
        return ""
    made = ", ".join(spec.kind for spec in prologue.gives)
    where = "in the graphs"
    if prologue.client:
        where = f"by the client: {prologue.client}/"
    elif prologue.draws:
        noise = ", ".join(dict.fromkeys(each.distribution for each in prologue.draws))
        where = f"on this side, with {noise} noise"
    return f"{prologue.text}, gives {made}, {where}"


def own_part(bundle: Bundle) -> str | None:
    """Returns which side's bundle a folder is, where its prologue is apart."""
    return None if client_of(bundle) is None else "server"
