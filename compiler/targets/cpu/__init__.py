"""Target ``cpu``: ONNX Runtime's optimised graphs on one packed, mapped store.

Stations, in order: ``optimize_graph`` (one graph, as ONNX Runtime runs it) ▸
``merge`` (its weights into the store, each once) ▸ ``golden`` (the same bits as before, and
the reference's outputs) ▸ ``latency`` (the governor's table) ▸ ``finish`` (the whole).
"""
