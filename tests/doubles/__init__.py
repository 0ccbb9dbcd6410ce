"""Doubles of NVIDIA's libraries, for machines without a GPU.

``device`` is the GPU: memory, streams, graphs; it notes every misuse. ``cudart`` and
``pycuda_driver`` are the two CUDA libraries over it, ``tensorrt`` the few classes of TensorRT
that skipc uses, ``pynvml`` the energy counter. ``tests/contract`` holds them to the real
bindings' names and parameters.
"""
