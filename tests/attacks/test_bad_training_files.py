"""CIFAR's python files are pickles: those that hold more than data are refused."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from skipc.tools.training import TrainError
from skipc.tools.training.cifar import is_cifar, read_cifar
from skipc.tools.training.images import read_training_data


def write(path, content):
    # As the real files: written by Python 2, keys are bytes.
    path.write_bytes(pickle.dumps(content, protocol=2))


def batch(count=4, classes=10, key=b"labels"):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 3072)).astype(np.uint8)
    return {b"data": images, key: [int(i) % classes for i in range(count)]}


def cifar10(folder):
    for number in range(1, 6):
        write(folder / f"data_batch_{number}", batch())
    write(folder / "test_batch", batch(2))
    return folder


def test_files_of_both_kinds_are_read(tmp_path):
    ten, hundred = tmp_path / "10", tmp_path / "100"
    ten.mkdir()
    hundred.mkdir()
    (images, labels), (held_out, _), classes = read_cifar(cifar10(ten))
    assert (images.shape, held_out.shape, classes) == ((20, 3, 32, 32), (2, 3, 32, 32), 10)
    assert images.dtype == np.uint8
    assert labels.tolist() == [0, 1, 2, 3] * 5
    for name in ("train", "test"):
        write(hundred / name, batch(6, 100, b"fine_labels"))
    write(hundred / "meta", {})
    assert is_cifar(hundred)
    assert read_cifar(hundred)[2] == 100
    data = read_training_data(str(ten), None, 0)
    assert (data.shape, data.classes, data.flip) == ((3, 32, 32), 10, True)
    assert data.train.take(np.array([0, 5])).max() <= 1


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: {b"data": evil}])
def test_file_that_would_run_code_is_refused_and_does_not(tmp_path, wrap):
    folder = cifar10(tmp_path)
    write(folder / "data_batch_3", wrap(Evil(tmp_path / "ran")))
    with pytest.raises(TrainError, match=r"data_batch_3: not one of CIFAR's.*Nothing in it"):
        read_cifar(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("module", ["builtins", "numpy.core.multiarray", "os"])
def test_names_outside_the_list_are_refused(tmp_path, module):
    folder = cifar10(tmp_path)
    name = {"builtins": "eval", "os": "system"}.get(module, "fromfile")
    (folder / "test_batch").write_bytes(f"c{module}\n{name}\n.".encode())
    with pytest.raises(TrainError, match=f"names {module}.{name}"):
        read_cifar(folder)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ([], "holds list, not CIFAR's dict"),
        ({b"labels": [0]}, "no 'data'"),
        ({b"data": np.zeros((1, 3072), np.uint8)}, "no 'labels'"),
        ({b"data": np.zeros((1, 10), np.uint8), b"labels": [0]}, r"shape \(N, 3072\)"),
        ({b"data": np.zeros((1, 3072)), b"labels": [0]}, "not an array of bytes"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, "one number per image"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}, "outside 0 .. 9"),
        ({b"data": np.zeros((0, 3072), np.uint8), b"labels": []}, "one number|there are none"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, content, fragment):
    folder = cifar10(tmp_path)
    write(folder / "test_batch", content)
    with pytest.raises(TrainError, match=fragment):
        read_cifar(folder)


def test_cut_and_missing_files_are_refused(tmp_path):
    folder = cifar10(tmp_path)
    whole = (folder / "data_batch_2").read_bytes()
    (folder / "data_batch_2").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainError, match="data_batch_2: not one of CIFAR's"):
        read_cifar(folder)
    (folder / "data_batch_2").unlink()
    with pytest.raises(TrainError, match="data_batch_2: cannot be read"):
        read_cifar(folder)


def test_folders_that_cannot_be_trained_on_are_refused(tmp_path):
    with pytest.raises(TrainError, match=r"the folder .*nowhere does not exist"):
        read_training_data(str(tmp_path / "nowhere"), 32, 0)
    (tmp_path / "file").touch()
    with pytest.raises(TrainError, match="file is a file, not a folder"):
        read_training_data(str(tmp_path / "file"), 32, 0)
    (tmp_path / "file").unlink()
    with pytest.raises(TrainError, match="give the images' size with --image-size"):
        read_training_data(str(tmp_path), None, 0)
    with pytest.raises(TrainError, match="is empty"):
        read_training_data(str(tmp_path), 32, 0)
