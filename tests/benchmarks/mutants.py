"""The changes that mutation.py makes: each a small mistake that a programmer could have made, and how processes load it."""

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SWAPPED: dict[type[ast.AST], type[Any]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult, ast.Mod: ast.Mult,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
TYPES = {"Literal", "Annotated", "Callable", "TypeVar", "cast"}  # what stands in these are types
Def = ast.FunctionDef | ast.AsyncFunctionDef


@dataclasses.dataclass(frozen=True)
class Mutant:
    """`before` becomes `after` between two bytes of a file; `line` is where its statement begins."""

    file: str
    line: int
    start: int
    end: int
    before: str
    after: str
    names: tuple[str, ...]  # that the statement gives a value, if it runs when the module is imported

    @property
    def key(self) -> str:
        return f"{self.file}:{self.line}:{self.start}-{self.end}: {self.before} -> {self.after}"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {_short(self.before)} -> {_short(self.after)}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 90 else f"{text[:87]}..."


def mutants(path: Path, name: str) -> list[Mutant]:
    """Every change of a module that the rules allow, in the order of the file."""
    source = path.read_bytes()
    starts = [0]
    for row in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    found = []
    for statement, inside, node, new in _changes(ast.parse(source), None, False):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        names = () if inside else tuple(_names(statement))
        found.append(Mutant(name, statement.lineno, start, end, ast.unparse(node), new, names))
    return found


def _names(statement: Any) -> Iterator[str]:
    """What a statement that runs at the import defines."""
    for target in getattr(statement, "targets", [getattr(statement, "target", statement)]):
        yield from (one.id for one in ast.walk(target) if isinstance(one, ast.Name))
        yield from [target.name] if hasattr(target, "name") else []


def _changes(node: ast.AST, statement: Any, inside: bool) -> Iterator[tuple[Any, bool, Any, str]]:
    """(statement, whether it is in a function, node, text in its place) for a node and all below it."""
    text = ast.unparse(node) if isinstance(node, ast.If | ast.Assign) else ""
    if isinstance(node, ast.JoinedStr | ast.arg | ast.Import | ast.ImportFrom) or text.startswith(
        ("if TYPE", "if __", "__all__")
    ):
        return
    if isinstance(node, ast.Subscript | ast.Call) and ast.unparse(getattr(node, "value", getattr(node, "func", node))) in TYPES:
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):  # a docstring
        return
    statement = node if isinstance(node, ast.stmt) else statement
    for new in _replacements(node, inside):
        yield statement, inside, node, new if isinstance(node, ast.stmt) else f"({new})"
    for test, only in _conditions(node):
        yield from ((statement, inside, test, value) for value in only)
    if isinstance(node, ast.Raise):  # its message is not tested word by word
        return
    hidden = {"annotation", "returns", "decorator_list", "type_params"}
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if field not in hidden and isinstance(child, ast.AST):
                within = field == "body" if isinstance(node, Def) else inside
                yield from _changes(child, statement, within)


def _conditions(node: ast.AST) -> Iterator[tuple[ast.expr, tuple[str, ...]]]:
    if isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Constant):
        yield node.test, ("False",) if isinstance(node, ast.While) else ("True", "False")
    if isinstance(node, ast.comprehension):
        yield from ((test, ("True", "False")) for test in node.ifs)


def _replacements(node: ast.AST, inside: bool) -> Iterator[str]:
    """What may stand in the place of this node itself."""
    if isinstance(node, ast.Compare):
        for number, sign in enumerate(node.ops):
            signs = [SWAPPED[type(sign)]() if other == number else one for other, one in enumerate(node.ops)]
            yield ast.unparse(ast.Compare(node.left, signs, node.comparators))
    elif isinstance(node, ast.BoolOp):
        yield ast.unparse(ast.BoolOp(SWAPPED[type(node.op)](), node.values))
    elif isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
        yield ast.unparse(ast.BinOp(node.left, SWAPPED[type(node.op)](), node.right))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield ast.unparse(node.operand)
    elif isinstance(node, ast.Constant):
        yield from _constant(node.value)
    elif isinstance(node, ast.Slice):
        for bound in (node.lower, node.upper):
            if bound and not isinstance(bound, ast.Constant):
                lower, upper = (
                    f"({ast.unparse(one)}) + {int(one is bound)}" if one else "" for one in (node.lower, node.upper)
                )
                yield f"slice({lower or None}, {upper or None}, {ast.unparse(node.step) if node.step else None})"
    elif isinstance(node, ast.Return) and node.value and ast.unparse(node.value) != "None":
        yield "return None"
    elif isinstance(node, ast.AugAssign) and type(node.op) in SWAPPED:
        yield ast.unparse(ast.AugAssign(node.target, SWAPPED[type(node.op)](), node.value))
    if inside and isinstance(node, ast.Expr | ast.Assign | ast.AugAssign | ast.Raise):
        yield "pass"


def _constant(value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, int | float):
        yield repr(value + 1)
    elif isinstance(value, str) and " " not in value:  # with a space it is a message
        yield repr(f"{value}X")
    elif isinstance(value, bytes):
        yield repr(value + b"X")


def hook() -> None:
    """Load the package as the variable MUTATION says: one module changed, or every statement reporting that it ran.

    The source of this function is also the `sitecustomize` of processes that tests start.
    """
    import ast
    import builtins
    import json
    import os
    from importlib.machinery import SourceFileLoader

    plan = json.loads(os.environ.get("MUTATION", "{}"))
    plain: Any = SourceFileLoader.get_code
    seen: set[str] = set()
    opened, written, closed = os.open, os.write, os.close  # tests replace these

    def hit(key: str) -> None:
        if key not in seen:
            seen.add(key)
            try:
                file = opened(plan["hits"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
                written(file, f"{key}\n".encode())
                closed(file)
            except OSError:
                seen.discard(key)

    def reporting(node: Any, name: str, inside: bool) -> None:
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            block = getattr(node, field, None)
            for child in block if isinstance(block, list) else ():
                reporting(child, name, inside or type(node).__name__.endswith("FunctionDef"))
            if isinstance(block, list) and field not in ("handlers", "cases"):
                for child in list(block) if inside or type(node).__name__.endswith("FunctionDef") else ():
                    if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
                        call = ast.parse(f"__hit__({f'{name}:{child.lineno}'!r})").body[0]
                        for part in ast.walk(call):
                            ast.copy_location(part, child)
                        block.insert(block.index(child), call)

    def get_code(self: SourceFileLoader, name: str) -> Any:
        if self.path == plan.get("file"):
            return compile(plan["source"], self.path, "exec", dont_inherit=True)
        if plan.get("hits") and self.path.startswith(plan["package"]):
            with open(self.path, "rb") as file:
                tree = ast.parse(file.read())
            reporting(tree, self.path.removeprefix(plan["root"]), False)
            return compile(tree, self.path, "exec", dont_inherit=True)
        return plain(self, name)

    builtins.__dict__.update(__hit__=hit, __seen__=seen)
    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
