"""The base of all commands: exit codes of errors, --quiet and --verbose, and defaults from the config file."""

import contextlib
import faulthandler
import os
import sys
import time
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

import imgclf
from imgclf.cli.shared import console
from imgclf.cli.shared.defaults import TOP_LEVEL, Defaults, options_of
from imgclf.core import extras
from imgclf.core.errors import ImgclfError
from imgclf.core.remedies import why

_START = time.monotonic()
_EXCLUSIVE = (  # sets of parameters that exclude each other
    {"as_json", "jsonl", "as_csv", "form"},
    {"move_to", "link_to", "stdin_image", "shard"},
    {"inputs", "watch", "stdin_image"},
    {"watch", "as_json"},
    {"summary", "lr_find", "run_dir"},
    {"folds", "export"},
)
_ALONE = {"undo", "history", "apply", "check", "resume"}  # parameters that exclude the command's other options
_WITHOUT_FILE = {"undo", "history", "runs", "info", "schema"}  # options and commands that work with a broken config file


class Command(TyperCommand):
    """A command that has --quiet, --verbose and --no-color in addition to its own options."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for names, help_text, apply in (
            (["--quiet", "-q"], "Show only results, errors and skipped files.", console.be_quiet),
            (["--verbose", "-v"], "Also show the defaults used, the time and the memory.", console.be_verbose),
            (["--no-color"], "Turn colours off, as NO_COLOR=1 in the environment does.", console.be_colourless),
        ):  # fmt: skip
            self.params.append(
                TyperOption(
                    param_decls=[f"_{names[0][2:].replace('-', '_')}", *names],
                    is_flag=True,
                    default=False,
                    expose_value=False,
                    is_eager=True,
                    help=help_text,
                    callback=lambda _ctx, _param, given, apply=apply: apply() if given else None,
                )
            )

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options by group (`rich_help_panel`), and options without a group last."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        rest = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record and param.param_type_name == "argument":
                groups["Arguments"].append(record)
            elif record and (group := getattr(param, "rich_help_panel", None)):
                groups.setdefault(group, []).append(record)
            elif record:
                rest.append(record)
        _write_sections(formatter, {**groups, "Options": rest})

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, one per line."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")

    def invoke(self, ctx: Any) -> Any:
        """Run the command. An option on the command line cancels the config file's defaults of options that it excludes."""
        explicit = given(ctx)
        defaults = ctx.obj if isinstance(ctx.obj, Defaults) else Defaults(None)
        if defaults.problem and not ((explicit | {_verb(ctx)}) & _WITHOUT_FILE):
            raise defaults.problem
        if defaults.problem and options_of(self).keys() & set(TOP_LEVEL):
            console.say(f"{defaults.problem}; the file is ignored", style="yellow")
        from_file = {name for name in ctx.params if name not in explicit and _from_file(ctx, name)}
        alone = [from_file - {"data", "run", "as_json", "devices"}] if explicit & _ALONE else []
        for group in [*_EXCLUSIVE, *alone]:
            if explicit & (group | _ALONE):
                for param in self.params:
                    if param.name in from_file & group:
                        ctx.params[param.name] = param.default
                        from_file.discard(param.name)
        if from_file:
            console.detail(
                f"defaults from {defaults.path}: {', '.join(f'{name} {ctx.params[name]}' for name in sorted(from_file))}"
            )
        return super().invoke(ctx)


def _write_sections(formatter: Any, sections: dict[str, list[tuple[str, str]]]) -> None:
    for name, rows in sections.items():
        if rows:
            with formatter.section(name):
                formatter.write_dl(rows)


class Commands(TyperGroup):
    """All commands. Errors become one line and an exit code: 1 expected, 2 usage, 3 a bug, 130 interrupted."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by group (`rich_help_panel`)."""
        commands = {name: command for name in self.list_commands(ctx) if (command := self.get_command(ctx, name)) is not None}
        limit = formatter.width - 6 - max(map(len, commands))
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, command in commands.items():
            if not command.hidden:
                group = getattr(command, "rich_help_panel", None)
                title = group if isinstance(group, str) else "Commands"
                groups.setdefault(title, []).append((name, command.get_short_help_str(limit)))
        _write_sections(formatter, groups)

    def invoke(self, ctx: Any) -> Any:
        try:
            try:
                return super().invoke(ctx)
            finally:
                console.detail(_spent())
                sys.stdout.flush()  # the handlers below catch a full disk or a closed pipe; at exit nothing would
        except ImgclfError as error:
            console.error(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as error:
            console.say(f"interrupted: {error}" if str(error) else "interrupted")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # The reader of stdout has closed it, as in `imgclf predict ... | head`.
            _drop_stdout()
            raise typer.Exit(1) from None
        except OSError as error:
            _drop_stdout()
            what = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
            console.error(f"{what}{why(error)}; then run the command again")
            raise typer.Exit(1) from None
        except (typer.Exit, typer.Abort):
            raise
        except ImportError as error:
            if _opencv_loads():
                console.error(f"a package is missing or broken ({error}); run: {extras.command_for(error.name)}")
            else:  # the opencv-python wheel needs the system's libGL, which a bare server lacks
                console.error(
                    f"OpenCV does not load ({error}); on a machine without a display run "
                    "`pip uninstall -y opencv-python && pip install opencv-python-headless`, "
                    "or install the missing library (Debian: apt-get install libgl1 libglib2.0-0)"
                )
            raise typer.Exit(1) from None
        except Exception as error:
            # Typer's own usage errors carry an exit code and print themselves.
            if hasattr(error, "exit_code"):
                raise
            console.error(f"a bug in imgclf ({type(error).__name__}: {error}); please report it with the log {_log_bug()}")
            raise typer.Exit(3) from None


def _verb(ctx: Any) -> str:
    """The top-level command: `runs` for `runs list`."""
    while ctx.parent is not None and ctx.parent.parent is not None:
        ctx = ctx.parent
    return str(ctx.info_name)


def _from_file(ctx: Any, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "DEFAULT_MAP"


def given(ctx: typer.Context) -> set[str]:
    """Return the names of the parameters that are given on the command line; defaults do not count."""
    sources = ((name, ctx.get_parameter_source(name)) for name in ctx.params)
    return {name for name, source in sources if source is not None and source.name == "COMMANDLINE"}


def _spent() -> str:
    """Return the seconds since the start of the command, and its peak memory."""
    seconds = f"{time.monotonic() - _START:.2f} s"
    if sys.platform == "win32":
        return seconds
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{seconds}, peak memory {peak / (1 << 20 if sys.platform == 'darwin' else 1 << 10):.0f} MB"


def _drop_stdout() -> None:
    """Discard output that cannot be written. Python would try again at exit and print an error."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:  # a notebook's stdout has no descriptor
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _opencv_loads() -> bool:
    try:
        import cv2  # noqa: F401  (only to see whether the import works)
    except ImportError:
        return False
    return True


def _log_bug() -> str:
    """Write the current traceback to a file in the user's cache folder, and return its path."""
    import tempfile
    import time
    import traceback

    from imgclf.core.files.paths import cache_folder

    text = f"imgclf {imgclf.__version__}, Python {sys.version}\n{sys.argv}\n{traceback.format_exc()}"
    try:
        folder = cache_folder() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        path.write_text(text, "utf-8", errors="backslashreplace")
    except OSError:
        with tempfile.NamedTemporaryFile("w", suffix=".log", prefix="imgclf-", delete=False, errors="backslashreplace") as file:
            file.write(text)
        return file.name
    return str(path)


def quiet_libraries() -> None:
    """Discard the messages that C++ libraries (TensorFlow, LiteRT, libpng) write to descriptor 2. sys.stderr still works."""
    real = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stderr = os.fdopen(real, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    faulthandler.enable(sys.stderr)  # a crash in native code still prints a traceback
