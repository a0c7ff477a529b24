"""Test the layers of the package: which modules may import which, and the sizes of files and functions."""

import ast
import graphlib
import sys
from pathlib import Path

import imgclf
from imgclf.cli.app import app

PACKAGE = Path(imgclf.__file__).parent
VERBS = {
    "clean",
    "preview",
    "split",
    "train",
    "audit",
    "evaluate",
    "compare",
    "predict",
    "explain",
    "export",
    "serve",
    "runs",
    "schema",
}
# From top to bottom: a module may import from its own layer and from lower ones.
LAYERS = [{"cli", "api", "__main__"}, VERBS, {"data", "models", "reports"}, {"evaluation", "images"}, {"core"}]
PATHS = {path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path for path in PACKAGE.rglob("*.py")}
MODULES = {name.removesuffix(".__init__"): path for name, path in PATHS.items() if name != "__init__"}


def imports(path: Path) -> set[str]:
    """Return the modules of imgclf that a file imports, also inside functions; other packages as `sys.numpy`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        assert not (isinstance(node, ast.ImportFrom) and node.level), (
            f"{path}: write absolute imports, because this test checks them"
        )
        names = [alias.name for alias in getattr(node, "names", ())] if isinstance(node, ast.Import | ast.ImportFrom) else []
        for name in names:
            whole = f"{node.module}.{name}" if isinstance(node, ast.ImportFrom) else name
            inner = whole.removeprefix("imgclf.")
            found.add(next((one for one in (inner, inner.rpartition(".")[0]) if one in MODULES), f"sys.{whole.split('.')[0]}"))
    return found


GRAPH = {name: {other for other in imports(path) if not other.startswith("sys.")} for name, path in MODULES.items()}


def layer(module: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if module.split(".")[0] in names)


def test_imports_go_downwards_and_verbs_do_not_import_each_other() -> None:
    pairs = [(one, other) for one, others in GRAPH.items() for other in others]
    up = [(one, other) for one, other in pairs if layer(other) < layer(one)]
    across = [(one, other) for one, other in pairs if len({one.split(".")[0], other.split(".")[0]} & VERBS) == 2]
    assert (up, across) == ([], [])


def test_imports_have_no_cycles() -> None:
    list(graphlib.TopologicalSorter(GRAPH).static_order())
    folders: dict[str, set[str]] = {}
    for name, others in GRAPH.items():
        folders.setdefault(name.split(".")[0], set()).update({other.split(".")[0] for other in others} - {name.split(".")[0]})
    list(graphlib.TopologicalSorter(folders).static_order())


def test_only_the_command_line_prints_and_core_needs_only_the_standard_library() -> None:
    others = {
        name: {one.removeprefix("sys.") for one in imports(path) if one.startswith("sys.")} for name, path in MODULES.items()
    }
    assert [name for name, found in others.items() if layer(name) and found & {"typer", "rich"}] == []
    assert [name for name, found in others.items() if layer(name) == 4 and found - sys.stdlib_module_names - {"imgclf"}] == []


def test_only_the_decoder_decodes() -> None:
    decoders = {
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr.startswith(("imdecode", "imread"))
    }
    assert decoders == {"images.decode", "images.formats.tiff"}


def test_every_verb_has_a_command_of_its_name() -> None:
    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert (names | {group.name for group in app.registered_groups}) - {"info", "help_"} == VERBS  # `info` is `runs show`


def test_no_file_is_over_300_lines() -> None:
    assert [name for name, path in MODULES.items() if len(path.read_text("utf-8").splitlines()) > 300] == []


def test_functions_have_at_most_50_lines_and_six_parameters() -> None:
    """The docstring and `self` do not count. Commands may have more parameters, because these are their options."""
    commands = {
        (command.callback.__module__, command.callback.__name__)
        for typer_app in (app, *(group.typer_instance for group in app.registered_groups))
        for command in typer_app.registered_commands
        if command.callback
    }
    long, wide = [], []
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body and (node.end_lineno or 0) - body[0].lineno >= 50:
                long.append(f"{module}.{node.name}")
            given = node.args
            names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs) if one.arg not in ("self", "cls")]
            is_command = (f"imgclf.{module}", node.name) in commands
            if len(names) + bool(given.vararg) + bool(given.kwarg) > 6 and not is_command:
                wide.append(f"{module}.{node.name}")
    assert (long, wide) == ([], [])
