"""Which module may import which: a line may import only from lines below it."""

import ast
from pathlib import Path

import imgclf

PACKAGE = Path(imgclf.__file__).parent

VERBS = {
    "clean", "preview", "split", "train", "evaluate", "predict", "compare", "explain", "export", "audit", "runs", "serve",
    "schema",
}  # fmt: skip

# From the top down. A name with a dot covers what lies below it.
FLOORS = [
    {"cli", "__main__"},
    {"commands"},
    {"shell", "display.console", "display.dataset", "display.learning", "display.answers", "display.runs"},
    VERBS,
    {"answers", "bundle", "evaluations", "model", "run_folders", "dataset", "scoring"},
    {"learning"},
    {"pixels", "display"},
    {"base"},
]  # fmt: skip


def floor(module: str) -> int:
    matches = [
        (len(name), level)
        for level, names in enumerate(FLOORS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    assert matches, f"imgclf.{module} has no floor"
    return max(matches)[1]


def imports(path: Path) -> list[tuple[str, bool]]:
    """(imported module below imgclf, whether only for type checking)."""
    tree = ast.parse(path.read_text("utf-8"))
    checked = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = []
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: write imports in full, they are checked here"
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "imgclf":
            base = node.module.split(".")[1:]
            for alias in node.names:
                inside = PACKAGE.joinpath(*base, alias.name)
                is_module = inside.is_dir() or inside.with_suffix(".py").exists()
                name = ".".join([*base, alias.name] if is_module else base)
                found.append((name, id(node) in checked))
        elif isinstance(node, ast.Import):
            found += [(a.name[7:], id(node) in checked) for a in node.names if a.name.startswith("imgclf.")]
    return found


def modules() -> dict[str, Path]:
    return {
        path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }


def test_imports_go_down_only() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in modules().items()
        for name, for_types in imports(path)
        if name and not for_types and floor(name) < floor(module)
    ]
    assert wrong == []


def test_verbs_do_not_import_each_other() -> None:
    def is_other(module: str, name: str) -> bool:
        one, other = module.split(".")[0], name.split(".")[0]
        return one in VERBS and other in VERBS and one != other

    wrong = [f"{m} imports {name}" for m, path in modules().items() for name, _ in imports(path) if is_other(m, name)]
    assert wrong == []


def test_only_cli_talks() -> None:
    """typer and rich on the three upper floors alone; base needs only the standard library; images and tiff decode."""
    import sys

    for module, path in modules().items():
        tree = ast.parse(path.read_text("utf-8"))
        names = {
            name.split(".")[0]
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )
        }  # fmt: skip
        if floor(module) > 2:
            assert not names & {"typer", "rich"}, module
        if module.startswith("base."):
            assert names <= set(sys.stdlib_module_names) | {"imgclf"}, module
        decoders = [
            node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith(("imdecode", "imread"))
        ]
        assert not decoders or module in ("pixels.images", "pixels.tiff"), module


def test_every_verb_has_a_command_of_its_name() -> None:
    from imgclf.cli import app

    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    names |= {group.name for group in app.registered_groups}
    assert names - {"info"} == VERBS  # `info` is `runs show` under a shorter name
