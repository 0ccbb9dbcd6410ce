"""``skipc serve``: a bundle behind HTTP."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING

import click

from skipc.compiler.cluster import LOCAL, check_cluster
from skipc.runtime import Bundle
from skipc.tools.commands.finish import with_fresh_engines
from skipc.tools.console import progress, tell
from skipc.tools.options import PATH, target_name

if TYPE_CHECKING:
    from pathlib import Path

    from click import Context, Parameter

_REPLICAS = re.compile(r"([1-9]\d{0,5})(?::([1-9]\d{0,5}))?")
_MS = click.FloatRange(min=0, min_open=True)


def _replicas(context: Context, option: Parameter, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = _REPLICAS.fullmatch(text)
    fewest, most = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if fewest > most:
        raise click.UsageError(f"--replicas {text!r}: give a number, or two as 1:4.")
    return fewest, most


@click.command("serve")
@click.argument("bundle", type=PATH)
@click.option(
    "--latency-ms", type=_MS, help="What a request may take, from arrival to answer."
)
@click.option("--min-accuracy", type=float, help="Run no configuration below it.")
@click.option("--configuration", metavar="NAME", help="Run this one, whatever waits.")
@click.option(
    "--wait-ms",
    type=click.FloatRange(min=0),
    default=0.0,
    help="How long a call waits for more requests, where it could take more.",
)
@click.option("--host", default="127.0.0.1", help="The address to listen at; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="0 for a free one.")
@click.option(
    "--ray",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value=LOCAL,
    help="Serve on Ray Serve: on a cluster (HOST:PORT), or one started on this machine.",
)
@click.option(
    "--replicas",
    metavar="N|MIN:MAX",
    callback=_replicas,
    help="With --ray: how many engines; Ray scales between two numbers.  [default: 1]",
)
@click.option(
    "--target",
    help="Whose engines to use.  [default: the first by name that fit this machine]",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of each call.")
def command(
    bundle: Path,
    latency_ms: float | None,
    min_accuracy: float | None,
    configuration: str | None,
    wait_ms: float,
    host: str,
    port: int,
    ray: str | None,
    replicas: tuple[int, int] | None,
    target: str | None,
    threads: int | None,
) -> None:
    """Answer requests with BUNDLE over HTTP, until Ctrl-C.

    The protocol is KServe's v2, with JSON and binary tensors; /metrics is for Prometheus. The
    longer requests wait, the faster a configuration runs. Nothing but this machine can connect
    unless --host says so.
    """
    from skipc.tools.serve import local, on_ray
    from skipc.tools.serve.batcher import Limits
    from skipc.tools.serve.service import Service, Settings

    if ray is None and replicas is not None:
        raise click.UsageError("--replicas: only with --ray.")
    opened = Bundle.open(bundle)
    name = None if target is None else target_name(opened, target)
    limits = Limits(latency_ms, wait_ms)
    settings = Settings(
        str(bundle.resolve()), name, threads, limits, min_accuracy, configuration
    )
    rebuilt = target or next(iter(opened.targets()), "cpu")
    if ray is not None:
        if port == 0:
            raise click.UsageError("--port 0: not with --ray. Name one.")
        check_cluster(ray, "serve")
    with closing(local.listening(host, port)) as listener:
        with progress() as step:
            step("loading the engines")
            service = with_fresh_engines(bundle, rebuilt, step, lambda: Service(settings))
        told = _told(service.name, host, listener.getsockname()[1])
        if ray is None:
            tell(told)
            local.serve(service, listener)
        else:
            # Opened once here, so that what is wrong with it is said now and in full.
            service.close()
    if ray is not None:
        tell("starting Ray Serve ...")
        deployment = on_ray.Deployment(ray, replicas or (1, 1), host, port)
        on_ray.serve(settings, opened.manifest_sha256, deployment, lambda: tell(told))
    tell("stopped; all requests were answered.")


def _told(name: str, host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"serving {name!r} at http://{shown}:{port} (Ctrl-C ends it)"
