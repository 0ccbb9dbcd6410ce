"""A model repository, served by NVIDIA's own server: what its PyPI package carries of it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import tritonclient.http as triton

from skipc.runtime import AdaptiveEngine, Bundle, Dimension, TensorSpec
from skipc.tools.serve.triton import ModelOptions, model_config, write_model
from tests.bundles import write_bundle
from tests.command_line import mistake, skipc

BINDINGS = Path(sys.prefix) / "bindings"
PACKAGE, NUMPY = BINDINGS / "triton-0.7.0", BINDINGS / "numpy-1.26.4"
PATIENCE_S = 60
ROWS = TensorSpec("images", "float32", ("N", 1, 8, 8))
LOGITS = TensorSpec("logits", "float32", ("N", 10))


def test_a_free_batch_is_tritons_to_make(tmp_path):
    bundle = Bundle.open(
        write_bundle(
            tmp_path / "toy.skipc",
            inputs=(ROWS,),
            outputs=(LOGITS,),
            dimensions=(Dimension("N", 1, 2, 8),),
        )
    )
    config = model_config(bundle, ModelOptions("cpu", latency_ms=5.0, wait_ms=0.5))
    assert config == (
        'name: "toy"\n'
        'backend: "python"\n'
        "max_batch_size: 8\n"
        'input [ { name: "images" data_type: TYPE_FP32 dims: [ 1, 8, 8 ] } ]\n'
        'output [ { name: "logits" data_type: TYPE_FP32 dims: [ 10 ] } ]\n'
        "instance_group [ { count: 1 } ]\n"
        "dynamic_batching { max_queue_delay_microseconds: 500 }\n"
        'parameters { key: "target" value: { string_value: "cpu" } }\n'
        'parameters { key: "latency_ms" value: { string_value: "5.0" } }\n'
    )


def test_a_fixed_batch_is_a_size_like_others(tmp_path):
    bundle = Bundle.open(write_bundle(tmp_path / "toy.skipc"))
    config = model_config(bundle, ModelOptions("cpu"))
    assert "max_batch_size: 0\n" in config
    assert "dims: [ 1, 3, 4, 4 ]" in config
    assert "dynamic_batching" not in config


def test_a_model_that_is_there_stays_unless_told_otherwise(tmp_path):
    bundle = Bundle.open(write_bundle(tmp_path / "toy.skipc"))
    place = write_model(bundle, tmp_path / "models", ModelOptions("cpu"), overwrite=False)
    (place / "config.pbtxt").write_text("edited")
    with pytest.raises(Exception, match=r"toy exists already. Give --overwrite"):
        write_model(bundle, tmp_path / "models", ModelOptions("cpu"), overwrite=False)
    assert (place / "config.pbtxt").read_text() == "edited"
    write_model(bundle, tmp_path / "models", ModelOptions("cpu"), overwrite=True)
    assert "backend" in (place / "config.pbtxt").read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--configuration", "no"), "there is no configuration 'no'"),
        (("--min-accuracy", "2"), "min_accuracy=2 is more than any"),
        (("--target", "null"), "null"),
    ],
)
def test_what_triton_could_not_open_is_not_written(made, tmp_path, options, says):
    message = mistake("triton", made / "ckpt.skipc", "--out", tmp_path / "models", *options)
    assert says in message
    assert not (tmp_path / "models").exists()


class Server:
    """Triton, running on ports of loopback that were free."""

    def __init__(self, folder, repository):
        self.http, self.metrics = _free_port(), _free_port()
        backend = folder / "backends/python"
        shutil.copytree(PACKAGE / "pytriton/tritonserver/backends/python", backend)
        stubs = PACKAGE / "pytriton/tritonserver/python_backend_stubs"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        shutil.copy(stubs / version / "triton_python_backend_stub", backend)
        server = folder / "tritonserver"
        shutil.copy(PACKAGE / "pytriton/tritonserver/bin/tritonserver", server)
        for program in (server, backend / "triton_python_backend_stub"):
            program.chmod(0o755)
        venv.create(folder / "env")
        (site,) = folder.glob("env/lib/python*/site-packages")
        (site / "paths.pth").write_text(f"{NUMPY}\n{sysconfig.get_path('purelib')}\n")
        libraries = (PACKAGE / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR"))
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            # Python, as Triton starts it, finds its packages by the first python3 there.
            "PATH": f"{folder / 'env/bin'}:{os.environ['PATH']}",
        }
        command = [
            *(
                server,
                "--model-repository",
                repository,
                "--backend-directory",
                folder / "backends",
            ),
            *("--http-address", "127.0.0.1", "--http-port", self.http),
            *("--metrics-address", "127.0.0.1", "--metrics-port", self.metrics),
            *("--allow-grpc", "false", "--disable-auto-complete-config"),
        ]
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*map(str, command)], env=environment, stdout=log, stderr=log
            )

    def wait(self):
        """Returns once it answers."""
        end_s = time.monotonic() + PATIENCE_S
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end_s, self.log.read_text()
            try:
                urlopen(f"http://127.0.0.1:{self.http}/v2/health/ready").close()
            except OSError:
                time.sleep(0.1)
            else:
                return

    def count(self, name):
        """Returns the sum of a metric over all configurations."""
        with urlopen(f"http://127.0.0.1:{self.metrics}/metrics") as page:
            lines = page.read().decode().splitlines()
        return {
            line.split('configuration="')[1].split('"')[0]: float(line.split()[-1])
            for line in lines
            if line.startswith(f"{name}{{")
        }


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def bundle(made, tmp_path_factory):
    """The small network with a free batch; of ``fast`` it says that it takes no time."""
    path = tmp_path_factory.mktemp("batched") / "ckpt.skipc"
    ended = skipc(
        *("build", made / "ckpt.pt", "--front", made / "front.json", "--target", "cpu"),
        *("--input", "Nx1x8x8", "--batch", "1:1:8", "--out", path),
    )
    assert ended.code == 0, ended.err
    file = path / "engines/cpu/engines.json"
    document = json.loads(file.read_text())
    for engine in document["engines"]:
        for row in engine["latency"] if engine["graph"] == "fast" else ():
            row |= {"p50_ms": 1e-5, "p95_ms": 1e-5, "p99_ms": 1e-5}
    file.write_text(json.dumps(document))
    return path


@pytest.fixture(scope="module")
def server(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton")
    ended = skipc(
        *("triton", bundle, "--out", folder / "models", "--latency-ms", 60_000, "--wait-ms", 5)
    )
    assert ended.code == 0, ended.err
    assert f"tritonserver --model-repository {folder / 'models'}" in ended.out
    running = Server(folder, folder / "models")
    try:
        running.wait()
        yield running
    finally:
        running.process.terminate()
        assert running.process.wait(PATIENCE_S) == 0


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.http}", concurrency=8) as made:
        yield made


def _input(array):
    given = triton.InferInput("images", list(array.shape), "FP32")
    given.set_data_from_numpy(array)
    return [given]


@pytest.mark.servers
def test_triton_answers_each_request_as_the_engine_does(client, bundle):
    rng = np.random.default_rng(0)
    arrays = [rng.random((1 + number % 3, 1, 8, 8), np.float32) for number in range(40)]
    asked = [client.async_infer("ckpt", _input(array)) for array in arrays]
    with AdaptiveEngine.open(bundle) as engine:
        for array, each in zip(arrays, asked, strict=True):
            result = each.get_result()
            (output,) = result.get_response()["outputs"]
            found = result.as_numpy(output["name"])
            np.testing.assert_allclose(found, engine(array), rtol=1e-4, atol=1e-5)


@pytest.mark.servers
def test_requests_lay_in_calls_together(server):
    (calls,) = [count for count in server.count("skipc_calls").values() if count]
    (rows,) = [count for count in server.count("skipc_rows").values() if count]
    assert rows == sum(1 + number % 3 for number in range(40))
    assert calls < 40


@pytest.mark.servers
def test_a_request_says_what_it_may_take(client, server):
    before = server.count("skipc_calls")
    array = np.zeros((1, 1, 8, 8), np.float32)
    client.infer("ckpt", _input(array), parameters={"latency_ms": "0.05"})
    after = server.count("skipc_calls")
    assert {name: after[name] - before[name] for name in after} == {"full": 0, "fast": 1}


@pytest.mark.servers
@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"latency_ms": -1}, "latency_ms=-1: expected milliseconds above zero"),
        ({"latency_ms": "soon"}, "latency_ms='soon': expected milliseconds"),
        ({"file": "x"}, "unknown request parameter 'file'. Known: 'latency_ms'."),
    ],
)
def test_triton_refuses_in_a_sentence(client, parameters, says):
    array = np.zeros((1, 1, 8, 8), np.float32)
    with pytest.raises(triton.InferenceServerException, match=says):
        client.infer("ckpt", _input(array), parameters=parameters)
