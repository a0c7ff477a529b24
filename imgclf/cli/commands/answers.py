"""The commands predict, explain, export and serve. Verbs are imported inside the bodies."""

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from imgclf.cli import console, shell
from imgclf.cli.commands.options import Json, Run, ShardOf, found, refuse
from imgclf.cli.views import answers as view
from imgclf.core.config import Format, Quantize, ServeConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.fields import bounds


def predict(
    ctx: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="Files, folders, globs, archives, or - for paths on stdin, one a line."),
    ] = None,
    run: Run = "latest",
    top: Annotated[int, typer.Option(min=1, help="Likeliest classes to give.")] = 1,
    as_json: Json = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON record a line, as they are done.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with a header, as they are done.")] = False,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="TEXT", help="A line each, as '{label}\\t{path}'; also {name} {probability} {error}."),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(metavar="P|auto:A", help="Label `unknown` below P, or below what was right on A of the validation part."),
    ] = None,
    nul: Annotated[bool, typer.Option("-0", "--null", help="Paths on stdin end with NUL, as from find -print0.")] = False,
    stdin_image: Annotated[bool, typer.Option("--stdin-image", help="Predict the picture whose bytes are on stdin.")] = False,
    move_to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Move each photo into DIR/<label>; --undo DIR moves them back.")
    ] = None,
    link_to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Link each photo into DIR/<label>; --undo DIR removes the links.")
    ] = None,
    watch: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Predict the pictures of DIR and those that come, until Ctrl-C.")
    ] = None,
    undo: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take back all that --move-to and --link-to placed in DIR.")
    ] = None,
    recover: Annotated[
        bool,
        typer.Option("--recover", help="With --undo: also take back what another user or machine sorted."),
    ] = False,
    shard: ShardOf = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="The inputs are what --shard printed: give the records of all, in order.")
    ] = False,
) -> None:
    """Say what is on pictures, one record per input.

    Records come in the order of the inputs, unreadable ones with their error; the exit code is 1 if any failed.
    """
    from imgclf import predict as verb
    from imgclf.core import shards
    from imgclf.images.sources import Source
    from imgclf.models import prediction

    forms = [name for name, wanted in (("json", as_json), ("jsonl", jsonl), ("csv", as_csv)) if wanted]
    if len(forms) + (form is not None) > 1:
        raise UsageError("--json, --jsonl, --csv and --format exclude each other")
    given = [
        name for name, one in (("INPUT", inputs), ("--stdin-image", stdin_image), ("--watch", watch), ("--undo", undo)) if one
    ]
    if len(given) != 1:
        raise UsageError(
            f"give pictures, or --stdin-image, --watch DIR or --undo DIR; {' and '.join(given) or 'nothing'} is given"
        )
    if undo:
        if shell.given(ctx) - {"undo", "recover"}:
            raise UsageError("--undo goes alone or with --recover: leave the other options out")
        back, problems = verb.undo(undo, foreign=recover)
        view.unsorted(back, problems, undo)
        raise typer.Exit(1 if problems else 0)
    place = move_to or link_to
    refuse(
        (recover, "--recover goes with --undo"),
        ("nul" in shell.given(ctx) and "-" not in (inputs or ()), "--null is for paths on stdin; give - as an input"),
        (move_to and link_to, "--move-to and --link-to: give one of them"),
        (watch and as_json, "--watch never ends, and --json is one document; use --jsonl"),
        (place and stdin_image, "--stdin-image: what comes from a pipe has no file that could be moved or linked"),
        (merge and not inputs, "--merge goes with INPUT..."),
        (shard and not inputs, "--shard goes with INPUT..."),
        (
            shard and (place or merge or forms != ["jsonl"]),
            "--shard goes with --jsonl; `imgclf predict --merge` then puts the shares together, and prints or sorts them",
        ),
        (
            merge and shell.given(ctx) & {"run", "threshold", "nul"},
            "--merge runs no network: leave --run, --threshold and --null out, which the shares had",
        ),
    )
    if watch and not watch.is_dir():
        raise ImgclfError(f"{watch}: no folder that could be watched")
    line = view.line_format(form if form is not None else view.WATCHED) if form is not None or watch else None
    model = None if merge else found(run)
    known = [Path(model.info["data"]["path"])] if model else []
    sorting = verb.Sorting(place, "move" if move_to else "link", console.Notes("not placed"), known) if place else None
    if sorting:
        sorting.check([str(watch)] if watch else () if merge else inputs or ())
    if model:
        top = min(top, len(model.class_names))
    least, note = prediction.threshold(model, threshold) if model and threshold else (0.0, "")
    if note:
        console.say(note)
    if model and watch:
        console.say(f"watching {watch}; Ctrl-C ends")
        records = verb.watch(model, watch, top=top, threshold=least, sorting=sorting)
    elif model is None:
        records = verb.merge(inputs or ())
        records = sorting.through(records) if sorting else records
    elif shard:
        records = verb.predict_share(model, _with_stdin(inputs or (), nul), shards.parse(shard), top=top, threshold=least)
    else:
        wanted = [Source("stdin", _stdin().read())] if stdin_image else _with_stdin(inputs or (), nul)
        records = verb.predict(model, wanted, top=top, threshold=least, without=place)
        records = sorting.through(records) if sorting else records
    try:
        with contextlib.closing(records):  # so that what was predicted is placed too when printing is cut short
            failed = view.predictions(records, forms[0] if forms else line or "table", top)
    finally:
        if sorting:
            view.sorted_into(sorting.counts, sorting.there, sorting.failed, sorting.folder)
    if failed or (sorting and sorting.failed):
        raise typer.Exit(1)


def explain(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders, globs, archives, or - for paths on stdin.")
    ],
    run: Run = "latest",
    method: Annotated[
        Literal["occlusion", "grad-cam"],
        typer.Option(help="Cover parts and ask again, or follow the gradients (slower to start, with TensorFlow)."),
    ] = "occlusion",
    target: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="The class to explain.", show_default="the run's answer")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder of the sheets, a PNG for each picture.")] = Path(
        "explained"
    ),
    as_json: Json = False,
) -> None:
    """Show where a run looks: the parts of a picture that make for its answer.

    Each sheet says how the probability falls when what is marked is covered, beside as much covered at random: a mark that
    explains nothing falls no faster than chance.
    """
    from imgclf import explain as verb

    wanted = _with_stdin(inputs, False) if "-" in inputs else inputs
    records = verb.explain(found(run), wanted, out, method=method, target=target)
    if view.explained(records, as_json):
        raise typer.Exit(1)


def export(
    data: Annotated[Path | None, typer.Argument(help="Where the run's pictures are now, if they were moved.")] = None,
    run: Run = "latest",
    form: Annotated[Format, typer.Option("--format", help="For phones, other runtimes, servers, or Keras.")] = "litert",
    quantize: Annotated[
        Quantize, typer.Option(help="Fewer bits: float16 halves the file, int8 leaves a third or less.")
    ] = "none",
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The new file, or folder of a SavedModel.", show_default="in RUN/export"),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            help="Largest probability difference to the run; for int8 the share of labels that may change.",
            show_default="0.0001, or 0.02 for float16 and int8",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a run in a format that others can use.

    With class names, recipe and calibration inside. The file is run on the test part and compared with the run; one that
    differs by more than the tolerance is not kept, and the exit code is 1. Prints its path on stdout.
    """
    from imgclf import export as verb

    verb.check(form, quantize, tolerance, out)
    model = found(run)
    with console.stages() as stage:
        result = verb.export(model, form, quantize, data=data, out=out, tolerance=tolerance, progress=stage)
    view.exported(result, as_json)


def serve(
    run: Annotated[str, typer.Argument(help="As for --run.")] = "latest",
    port: Annotated[int, typer.Option(**bounds(ServeConfig, "port"), help="Port to listen on (0: any free port).")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every network this machine is in.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option(envvar="IMGCLF_TOKEN", help="Answer only who knows it, as a bearer token.")
    ] = None,
    threshold: Annotated[str | None, typer.Option(metavar="P|auto:A", help="Label `unknown` below P, as for predict.")] = None,
    timeout: Annotated[float, typer.Option(**bounds(ServeConfig, "timeout"), help="Maximum seconds per request.")] = 30,
    queue: Annotated[
        int,
        typer.Option(
            **bounds(ServeConfig, "queue"), help="Images that may wait in each process. If more wait, requests get status 503."
        ),
    ] = 128,
    workers: Annotated[
        int, typer.Option(**bounds(ServeConfig, "workers"), help="Number of processes. A single one uses all cores.")
    ] = 1,
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
    ] = "",
) -> None:
    """Serve a run to browsers and programs: a page and an API.

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


def _stdin() -> io.BufferedReader:
    """The standard input. Raises UsageError if it is closed, as in `imgclf ... <&-`."""
    if sys.stdin is None:
        raise UsageError("stdin is closed, so there is no input; pipe images or paths in, or give files instead of -")
    return cast(io.BufferedReader, sys.stdin.buffer)


def _with_stdin(inputs: Iterable[str], nul: bool) -> Iterator[str]:
    """The inputs, with the paths that stdin gives, each as soon as it is there, in the place of `-`."""
    from imgclf.images.formats.filetypes import sniff

    for name in inputs:
        if name == "-" and nul:
            rest, stdin = b"", _stdin()
            while block := stdin.read1(65536):
                *whole, rest = (rest + block).split(b"\0")
                yield from map(os.fsdecode, filter(None, whole))
            if rest:
                yield os.fsdecode(rest)
        elif name == "-":
            stdin = _stdin()
            head = stdin.peek(512)
            if sniff(head[:32]) and b"\0" in head:
                raise UsageError("stdin holds a picture and not paths; give --stdin-image instead of -")
            if b"\0" in head:
                raise UsageError("paths on stdin end with NUL, as from find -print0; give --null too")
            yield from (os.fsdecode(line).rstrip("\r\n") for line in stdin if line.strip())
        else:
            yield name
