"""Deployment compiler and runtime for networks that can drop parts of themselves.

``skipc.runtime`` runs a bundle, ``skipc.compiler`` makes one; nothing is imported here.
"""

__version__ = "0.1.0"
