"""Engines built on a device over ssh: ``skipc finish --on HOST``. Needs no torch."""
