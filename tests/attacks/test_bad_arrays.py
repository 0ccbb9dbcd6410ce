"""Golden arrays that are damaged or hostile."""

from __future__ import annotations

import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime.bundle.npz import read_npz
from skipc.runtime.errors import FormatError


def test_npz_refuses_a_pickle(tmp_path):
    file = tmp_path / "bad.npz"
    np.savez(file, a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(FormatError, match=r"bad\.npz: 'a': holds Python objects"):
        read_npz(file)


def test_npz_refuses_a_compressed_bomb(tmp_path):
    file = tmp_path / "bad.npz"
    np.savez_compressed(file, a=np.zeros(10**6))
    with pytest.raises(FormatError, match="'a' is compressed"):
        read_npz(file)


def test_npz_refuses_a_header_that_claims_more_than_follows(tmp_path):
    file = tmp_path / "bad.npz"
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", npy + b"\0" * 8)
    with pytest.raises(FormatError, match=r"'a': the header says .* but 8 bytes follow"):
        read_npz(file)


def test_npz_refuses_two_arrays_of_one_name(tmp_path):
    file = tmp_path / "bad.npz"
    np.savez(file, a=np.zeros(1))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file, "a") as archive:
        archive.writestr("a.npy", archive.read("a.npy"))
    with pytest.raises(FormatError, match="'a' is given twice"):
        read_npz(file)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"x" * 1000])
def test_npz_refuses_what_is_no_archive(tmp_path, data):
    file = tmp_path / "bad.npz"
    file.write_bytes(data)
    with pytest.raises(FormatError, match=r"bad\.npz: not an \.npz file"):
        read_npz(file)


def test_npz_refuses_an_entry_that_is_no_array(tmp_path):
    file = tmp_path / "bad.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", b"cos\nsystem\n")
    with pytest.raises(FormatError, match=r"bad\.npz: not an \.npz file"):
        read_npz(file)


def test_npz_reads_column_major_and_empty_arrays(tmp_path):
    file = tmp_path / "good.npz"
    columns = np.asfortranarray(np.arange(6).reshape(2, 3))
    np.savez(file, a=columns, b=np.zeros((0, 3), np.float32), c=np.float32(7))
    arrays = read_npz(file)
    assert np.array_equal(arrays["a"], columns)
    assert arrays["b"].shape == (0, 3)
    assert arrays["c"] == 7


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=3))
def test_npz_raises_nothing_but_its_error_when_bytes_change(tmp_path_factory, changes):
    file = tmp_path_factory.getbasetemp() / "fuzzed.npz"
    np.savez(file, a=np.arange(4, dtype=np.float32))
    data = bytearray(file.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    file.write_bytes(data)
    with suppress(FormatError):
        read_npz(file)


@given(st.text(max_size=60))
def test_npz_raises_nothing_but_its_error_on_any_header(tmp_path_factory, header):
    file = tmp_path_factory.getbasetemp() / "header.npz"
    text = header.encode("utf-8", "surrogatepass")
    with zipfile.ZipFile(file, "w") as archive:
        magic = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little")
        archive.writestr("a.npy", magic + text + b"\0" * 8)
    with suppress(FormatError):
        read_npz(file)
