"""Says whether CUDA can use a GPU here, before anything is installed, with Python alone."""

from __future__ import annotations

import ctypes
import sys


def why_none() -> str:
    """Returns why there is no GPU that CUDA can use; empty if there is one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as cause:
        return f"NVIDIA's driver is not installed ({cause})"
    count = ctypes.c_int()
    error = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if error:
        return f"NVIDIA's driver answers with error {error}"
    return "" if count.value else "NVIDIA's driver sees none"


if __name__ == "__main__":
    reason = why_none()
    if reason:
        sys.exit(f"There is no NVIDIA GPU here, so nothing was installed or run: {reason}.")
