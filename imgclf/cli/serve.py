"""`imgclf serve`: options and call."""

from typing import Annotated

import typer

from imgclf.cli.shared import console
from imgclf.cli.shared.options import load_run
from imgclf.core.config import ServeConfig
from imgclf.core.fields import bounds


def serve(
    run: Annotated[
        str, typer.Argument(help="Run folder, its name under runs/, `latest` (newest finished run) or `best`.")
    ] = "latest",
    port: Annotated[
        int, typer.Option(**bounds(ServeConfig, "port"), help="Port to listen on (0: any free port).")
    ] = ServeConfig.port,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all network interfaces.")] = ServeConfig.host,
    token: Annotated[str | None, typer.Option(envvar="IMGCLF_TOKEN", help="Require this bearer token.")] = ServeConfig.token,
    threshold: Annotated[
        str | None, typer.Option(metavar="P|auto:A", help="Predict `unknown` below probability P, as in predict.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(**bounds(ServeConfig, "timeout"), help="Maximum seconds per request.")
    ] = ServeConfig.timeout,
    queue: Annotated[
        int,
        typer.Option(
            **bounds(ServeConfig, "queue"),
            help="Maximum number of waiting images per process. Further requests get status 503.",
        ),
    ] = ServeConfig.queue,
    workers: Annotated[
        int, typer.Option(**bounds(ServeConfig, "workers"), help="Number of processes. A single process uses all cores.")
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

    Listen on this machine only, unless --host is given. Print the URL when the server is ready. On SIGTERM or Ctrl-C, finish
    the current requests and stop.
    """
    from imgclf import serve as verb
    from imgclf.models import prediction

    model = load_run(run)
    least, note = prediction.threshold(model, threshold) if threshold else (0.0, "")
    for line in filter(None, (note, verb.warning(host, token))):
        console.say(line, style=None if line == note else "yellow")
    hosts, proxies = tuple(allowed_host or ()), tuple(proxy or ())
    config = ServeConfig(host, port, least, token or None, timeout, queue, workers, root_path, hosts, proxies)
    verb.serve(model, config, ready=console.data_now, warn=lambda text: console.say(text, style="yellow"))
