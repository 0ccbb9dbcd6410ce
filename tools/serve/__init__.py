"""A family behind a server: under load accuracy gives way, and latency stays.

The core knows no transport: ``planning`` says which requests run together and what they may
take, ``batcher`` runs them on an ``AdaptiveEngine``, ``protocol`` reads and writes the KServe
v2 protocol, ``service`` puts them together. ``local``, ``on_ray`` and ``triton`` are shells.
"""
