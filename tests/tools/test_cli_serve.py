"""The command, as it is started, asked, changed under, and ended."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.runtime import AdaptiveEngine
from tests.bundles import write_bundle, write_engines
from tests.command_line import mistake, skipc_without, started

if TYPE_CHECKING:
    from pathlib import Path

X = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)
INFER = "/v2/models/ckpt/infer"


class Server:
    """A running server, and a client of it."""

    def __init__(self, process, bundle):
        self.process, self.bundle = process, bundle
        found = None
        while found is None:
            line = process.stderr.readline()
            assert line, "it ended"
            found = re.match(r"serving 'ckpt' at http://127\.0\.0\.1:(\d+) ", line)
        self.port = int(found[1])

    def ask(self, path, document=None):
        """Returns status and body."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = document if document is None or isinstance(document, bytes) else _json(document)
        with closing(client):
            client.request("GET" if body is None else "POST", path, body)
            answer = client.getresponse()
            return answer.status, answer.read()


def _json(document):
    return json.dumps(document).encode()


def _request(array=X, **more):
    tensor = {"name": "images", "shape": array.shape, "datatype": "FP32"}
    return {"inputs": [{**tensor, "data": array.tolist()}], **more}


@pytest.fixture(scope="module")
def server(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(made / "ckpt.skipc", folder / "ckpt.skipc")
    arguments = ("serve", "ckpt.skipc", "--port", 0, "--latency-ms", 60_000)
    with started(*arguments, folder=folder) as process:
        yield Server(process, folder / "ckpt.skipc")


def test_it_answers_as_the_engine_does(server):
    status, body = server.ask(INFER, _request(id="7"))
    assert status == 200
    answer = json.loads(body)
    (output,) = answer["outputs"]
    with AdaptiveEngine.open(server.bundle) as engine:
        engine.pin(answer["parameters"]["configuration"])
        expected = engine(X)
    assert answer["id"] == "7"
    found = np.array(output["data"], np.float32).reshape(output["shape"])
    np.testing.assert_array_equal(found, expected, strict=True)
    assert answer["parameters"]["in_time"]


def test_it_says_what_it_is(server):
    assert server.ask("/v2/health/live")[0] == 200
    assert server.ask("/v2/health/ready/")[0] == 200
    assert server.ask("/v2/models/ckpt/versions/1/ready")[0] == 200
    assert json.loads(server.ask("/v2")[1])["extensions"] == ["binary_tensor_data"]
    about = json.loads(server.ask("/v2/models/ckpt")[1])
    assert about["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [1, 1, 8, 8]}]


@pytest.mark.parametrize(
    ("path", "document", "status", "says"),
    [
        (INFER, {"inputs": []}, 400, "input 'images' is missing"),
        (INFER, _request(X[:, :, :4]), 400, "has the shape (1, 1, 4, 8), expected"),
        (INFER, _request(np.repeat(X, 2, 0)), 400, "has the shape (2, 1, 8, 8), expected"),
        (INFER, _request(outputs=[{"name": "no"}]), 400, "no output 'no'"),
        (INFER, _request(parameters={"latency_ms": 1e300}), 400, "beyond what any device"),
        (INFER, b"x" * 200_000, 413, "Send fewer rows"),
        (INFER, None, 405, "only POST"),
        ("/v2/models/other/infer", _request(), 404, "no model 'other'. It is 'ckpt'."),
        ("/v2/models/ckpt/versions/2", None, 404, "no version '2'"),
        ("/v2/models/ckpt/..%2F..%2Fsecret", None, 404, "there is no '/v2/models/ckpt/../"),
        ("/v2/models/ckpt", b"{}", 405, "only GET"),
        ("/", None, 404, "Known: /v2, "),
    ],
)
def test_it_refuses_in_a_sentence(server, path, document, status, says):
    found, body = server.ask(path, document)
    assert found == status
    assert says in json.loads(body)["error"]


def test_a_client_that_leaves_does_no_harm(server):
    for sent in (b"", _json(_request())[:100], _json(_request())):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            length = len(_json(_request()))
            head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
            client.sendall(head.encode() + sent)
    assert server.ask(INFER, _request())[0] == 200


def test_its_page_counts_all_of_that(server):
    page = server.ask("/metrics")[1].decode()
    assert re.search(r'skipc_requests_total\{outcome="in_time"\} [1-9]', page)
    assert re.search(r'skipc_requests_total\{outcome="refused"\} [4-9]', page)
    assert re.search(r'skipc_calls_total\{configuration="full"\} [1-9]', page)


def test_it_answers_what_came_before_it_was_told_to_end(server):
    body = _json(_request())
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), 60) as client:
        client.sendall(head + body[:50])
        assert server.ask("/v2/health/live")[0] == 200  # so that the first one was seen
        server.process.send_signal(signal.SIGTERM)
        client.sendall(body[50:])
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 200
        assert json.loads(answer.read())["outputs"]
    assert server.process.wait(60) == 0
    assert server.process.stderr.read() == "stopped; all requests were answered.\n"


def test_a_bundle_that_changes_under_it_is_served_no_more(tmp_path):
    bundle = write_bundle(tmp_path / "ckpt.skipc")
    write_engines(bundle)
    image = np.zeros((1, 3, 4, 4), np.float32)
    with started("serve", bundle, "--port", 0, folder=tmp_path) as process:
        server = Server(process, bundle)
        assert server.ask(INFER, _request(image))[0] == 200
        packed = bundle / "engines/cpu/packed.bin"
        packed.write_bytes(packed.read_bytes()[::-1])
        for path, document in ((INFER, _request(image)), ("/v2/health/ready", None)):
            status, body = server.ask(path, document)
            assert status == 503
            assert "the bundle 'ckpt.skipc' was changed" in json.loads(body)["error"]
        assert server.ask("/v2/health/live")[0] == 200


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--replicas", "2"), "--replicas: only with --ray."),
        (("--ray", "--replicas", "4:2"), "--replicas '4:2': give a number, or two as 1:4."),
        (("--ray", "nohost"), "--ray 'nohost': not an address"),
        (("--ray", "--port", "0"), "--port 0: not with --ray"),
        (("--host", "256.1.1.1"), "--host 256.1.1.1 --port 8000:"),
        (("--latency-ms", "0"), "--latency-ms"),
        (("--port", "0", "--min-accuracy", "2"), "min_accuracy=2 is more than any"),
        (("--port", "0", "--configuration", "no"), "there is no configuration 'no'"),
        (("--target", "jetson-orin"), "jetson-orin"),
    ],
)
def test_what_cannot_be_served_is_said_before_anybody_asks(made, options, says):
    assert says in mistake("serve", made / "ckpt.skipc", *options)


def test_a_port_that_is_taken_is_said_so(made):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = mistake("serve", made / "ckpt.skipc", "--port", port)
    assert f"--port {port}: " in message
    assert "Give another port" in message


@pytest.mark.parametrize(
    ("missing", "options"), [("prometheus_client", ()), ("uvicorn", ()), ("ray", ("--ray",))]
)
def test_what_is_not_installed_is_named(made: Path, missing, options):
    ended = skipc_without(missing, "serve", made / "ckpt.skipc", "--port", 8099, *options)
    assert ended.code == 2
    assert f"{missing!r} is needed here and is not installed." in ended.err
    assert "serve" in ended.err
