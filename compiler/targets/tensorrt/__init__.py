"""Targets on NVIDIA GPUs: TensorRT on the device, TensorRT-RTX ahead of time on any host.

Stations, in order: ``plan`` (a subnet's graph, parsed and built) ▸ ``store`` (plans kept from
build to build) ▸ ``device`` (loaded, checked against the golden outputs, measured: only where
a GPU is) ▸ ``finish`` (the whole).
"""
