"""`imgclf serve`: options and call."""

from typing import Annotated

import typer

from imgclf.cli import console
from imgclf.cli.options import found
from imgclf.core.config import ServeConfig
from imgclf.core.fields import bounds


def serve(
    run: Annotated[
        str, typer.Argument(help="A run folder, its name under runs/, `latest` finished one, or `best`.")
    ] = "latest",
    port: Annotated[
        int, typer.Option(**bounds(ServeConfig, "port"), help="Port to listen on (0: any free port).")
    ] = ServeConfig.port,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all networks of this machine.")
    ] = ServeConfig.host,
    token: Annotated[str | None, typer.Option(envvar="IMGCLF_TOKEN", help="Require this bearer token.")] = ServeConfig.token,
    threshold: Annotated[
        str | None, typer.Option(metavar="P|auto:A", help="Answer `unknown` below probability P, as in predict.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(**bounds(ServeConfig, "timeout"), help="Maximum seconds per request.")
    ] = ServeConfig.timeout,
    queue: Annotated[
        int,
        typer.Option(
            **bounds(ServeConfig, "queue"), help="Images that may wait in each process. If more wait, requests get status 503."
        ),
    ] = ServeConfig.queue,
    workers: Annotated[
        int, typer.Option(**bounds(ServeConfig, "workers"), help="Number of processes. A single one uses all cores.")
    ] = ServeConfig.workers,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also accept requests for this host name, such as a proxy's. Repeatable."),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Trust X-Forwarded-For and -Host from this address or network. Repeatable."),
    ] = None,
    root_path: Annotated[
        str, typer.Option(metavar="/PREFIX", help="Strip this prefix from request paths if the proxy does not.")
    ] = ServeConfig.root_path,
) -> None:
    """Serve a run as a web page and an API.

    For this machine alone unless you give --host. The URL is printed once it answers. SIGTERM and Ctrl-C let what is under way
    end.
    """
    from imgclf import serve as verb
    from imgclf.models import prediction

    model = found(run)
    least, note = prediction.threshold(model, threshold) if threshold else (0.0, "")
    for line in filter(None, (note, verb.warning(host, token))):
        console.say(line, style=None if line == note else "yellow")
    hosts, proxies = tuple(allowed_host or ()), tuple(proxy or ())
    config = ServeConfig(host, port, least, token or None, timeout, queue, workers, root_path, hosts, proxies)
    verb.serve(model, config, ready=console.data_now, told=lambda text: console.say(text, style="yellow"))
