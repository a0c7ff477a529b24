"""Test the vocabulary: one word for each idea in code, messages, help, schemas, pages, documents and examples.

To add a word, write a `Row`. If a use of a word is right, narrow the pattern first; `ALLOWED` is for the rest.
"""

import functools
import io
import itertools
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import imgclf

PACKAGE = Path(imgclf.__file__).parent
ROOT = PACKAGE.parent


class Row(NamedTuple):
    """One idea of the vocabulary.

    use: The word to write. text: Pattern of the words not to write anywhere. names: Pattern of words that no name may contain,
    although they are right in a sentence. package: Pattern of words not to write in the package; documents may use them.
    """

    use: str
    text: str = ""
    names: str = ""
    package: str = ""


# In a pattern, a space also matches the end of a line and the "_" in a name.
_ONE = "a|an|the|this|that|its|their|own|one|each|every|whose|same|any|which|by|per"
_SUBSET = "train|training|val|validation|test"
_STATE = "network|networks|training|trained|saved|finished|unfinished|resumed"
_METRIC = "accuracy|recall|precision|auc|f1|loss|error|score|metric|difference|interval"
TABLE = (
    Row("image", "pictures?", package="photos?"),  # documents may write of real photos
    # sample, dataset: they replace no other word
    Row("subset, training set, validation set", rf"({_SUBSET}|{_ONE}) parts?(?! of)|parts?-(?=[\w{{*$])", names="parts?"),
    Row("skipped", "(left|leave|leaves|leaving) out|(pass|passes|passed|passing) over"),
    Row("scan, inspect, compare, check or read", "(look|looks|looked|looking)(?! (like|up|ups)|-ups?)"),
    Row("index or measurements", "catalogu?es?|facts?"),
    Row("issue or check", "findings?|outcomes?|suspects?|suspected"),
    Row("action", "decisions?|orders"),  # an order sorts
    Row("operation", "(batch|batches) of (moves|files)|(move|moves|undo|journal) (batch|batches)"),
    Row("leak or leakage", "torn|tears? apart|tearing"),
    Row("group or connected components", "(hang|hangs|hung|hanging) together", names="together"),
    Row("preprocessing", "recipes?"),
    Row("model or network", f"stocks?|({_STATE}) works?(?= (of|is)|[.,;:)_])", names="works?"),
    Row("training state", "work (state|file|files|folder|path)"),
    Row("strategy", "courses?"),
    Row("model selection or candidate", "prospects?|trials?"),
    Row("prediction, probability, confidence or response", "answers?|answered|answering|what it says|how sure|surest"),
    Row("metric or number", "figures?"),
    Row("saliency map", "where (it|the network|the model) looks|where to look"),
    Row("reliability diagram", "how right"),
    Row(
        "shard, or fraction",
        rf"({_ONE}|in|\d+%?) shares?(?! (a|an|the|every|one|all|no|\w+s)\b)|shares? of|(?<=,\x20)shares?(?=,)"
        r"|(?<=[\"-])shares?(?=[\":)])|(?<=\s\s)shares?(?=\s\s)",  # a string, a CSS property, a column
        names="shares?",
    ),
    # run, bundle: they replace no other word
    Row("an interval: 0.83 (0.81 to 0.85)", rf"({_METRIC})[^.;\n]{{0,20}} from (0?\.\d+|\d+%|\{{[^}}]+\}}) to"),
    # Idioms: English that a reader has to decode
    Row("a concrete subject", "said|told|meant"),
    Row("needs, or belongs to", "(goes|go|went|going) with"),
)
# A sentence or description that starts with a clause as its subject, "What is ...", and is not a question.
_CLAUSE = re.compile(r"\bWhat\b(?=[^?\n]*$)", re.MULTILINE)

# (pattern, file or None for all): the reason why the words are right there. The pattern must match the whole of the words.
ALLOWED: dict[tuple[str, str | None], str] = {
    (r"\.parts\b", None): "pathlib's",
    (r"\b((a|the) )?parts?\b", "imgclf/serve/bodies.py"): "RFC 7578: a form consists of parts",
    (r"passes over the training set", None): "the definition of an epoch",
    (r"\bfigures?\b", "imgclf/reports/plots.py"): "Matplotlib's",
    (r"matplotlib\.figure|\bFigure\b", None): "Matplotlib's",
    (r"</?figure>|\bfigure(?=[ .][^;]*\{)|\"figure\"", None): "HTML's",
}

FILES = sorted(
    path
    for path in (
        *(path for ending in ("py", "json", "html", "js", "css", "svg") for path in PACKAGE.rglob(f"*.{ending}")),
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*"),
    )
    if path.is_file() and "__pycache__" not in path.parts
)


def whole(words: str) -> re.Pattern[str]:
    """Return a pattern of whole words; `PartName`, `part_name` and `part2` contain the word `part`."""
    words = words.replace(" ", r"(?:_|\s(?:\s|[#*/])*)")
    start = r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=\\n))"
    return re.compile(rf"{start}(?i:{words})(?:(?![A-Za-z])|(?<=[a-z])(?=[A-Z]))")


@functools.cache
def _all_rows(kind: str) -> re.Pattern[str]:
    """Return one pattern for all rows: a pattern for each takes a minute."""
    return whole("|".join(f"(?P<row{index}>{words})" for index, row in enumerate(TABLE) if (words := getattr(row, kind))))


def _matches(kind: str, text: str) -> Iterator[tuple[re.Match[str], Row]]:
    for match in _all_rows(kind).finditer(text):
        yield match, next(row for index, row in enumerate(TABLE) if getattr(row, kind) and match[f"row{index}"])


def names(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Yield (offset, name) of the names in Python code, of JSON keys, and of the names that scripts declare."""
    if path.suffix == ".py":
        starts = [0, *itertools.accumulate(map(len, io.StringIO(text)))]
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME:
                yield starts[token.start[0] - 1] + token.start[1], token.string
    else:
        script = r"\b(?:const|let|function|class)\s+(\w+)"
        patterns = {".json": r'"([\w-]+)"\s*:', ".html": script, ".js": script, ".sh": r"^\s*(?:export )?(\w+)="}
        for match in re.finditer(patterns[path.suffix], text, re.MULTILINE) if path.suffix in patterns else ():
            yield match.start(1), match[1]


def check(path: Path, text: str, used: Counter[tuple[str, str | None]]) -> Iterator[str]:
    """Yield a line for each word that must be replaced. used: counts the uses of each entry of ALLOWED."""
    shown = path.relative_to(ROOT).as_posix()
    hits = [(*match.span(), row.use) for match, row in _matches("text", text)]
    if path.is_relative_to(PACKAGE):
        hits += [(*match.span(), row.use) for match, row in _matches("package", text)]
    for top, name in names(path, text):
        hits += [(top + match.start(), top + match.end(), row.use) for match, row in _matches("names", name)]
    hits += [(match.start(), match.end(), "a concrete subject") for match in _CLAUSE.finditer(text)]
    allowed = [
        (match.start(), match.end(), key)
        for key in ALLOWED
        if key[1] in (None, shown)
        for match in re.finditer(key[0], text, re.MULTILINE)
    ]
    for start, end, use in sorted(set(hits)):
        legitimate = [key for first, last, key in allowed if first <= start and end <= last]
        used.update(legitimate)
        if not legitimate:
            yield f"{shown}:{text.count(chr(10), 0, start) + 1}: {text[start:end]!r}: write {use}"


def test_replaced_words_are_not_used() -> None:
    used: Counter[tuple[str, str | None]] = Counter()
    found = [line for path in FILES for line in check(path, path.read_text("utf-8"), used)]
    for path in FILES:
        shown = path.relative_to(ROOT).as_posix()
        for kind in ("text", "names"):
            found += [f"{shown}: name of the file: {match[0]!r}: write {row.use}" for match, row in _matches(kind, shown)]
    assert found == [], "\n" + "\n".join(found)
    assert [key for key in ALLOWED if key not in used] == [], "no file needs these any more"


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.py", "PartName = 1", ["Part"]),
        ("a.py", "shares_of = row_shares", ["shares", "shares_of", "shares"]),
        ("a.py", "HTTPPicture = left_out", ["Picture", "left_out"]),
        ("a.py", "# files that are left\n    # out of the split", ["left\n    # out"]),
        ("a.py", '"""What was read."""', ["What"]),
        ("a.py", "# They share a disk, in order. Look up parts of it, or party with factory workers.", []),
        ("a.py", 'f"{name}:\\nphoto"', ["photo"]),
        ("a.json", '{"share_left": "figures"}', ["share", "figures"]),
        ("a.html", "<h1>What is in the image?</h1><figure>", []),
        ("a.js", "const decisions = 1", ["decisions"]),
        ("a.md", "accuracy from 0.81 to 0.91, a score from 0 to 1", ["accuracy from 0.81 to"]),
    ],
)
def test_the_check_finds_words_in_names_and_sentences(name: str, text: str, found: list[str]) -> None:
    lines = list(check(PACKAGE / name, text, Counter()))
    assert [line.split(": ")[1] for line in lines] == [repr(word) for word in found]


def test_a_photo_may_be_one_in_a_document() -> None:
    assert list(check(ROOT / "README.md", "2,000 photos", Counter())) == []
    assert list(check(PACKAGE / "a.py", "# 2,000 photos", Counter())) == ["imgclf/a.py:1: 'photos': write image"]


def test_all_kinds_of_files_are_checked() -> None:
    assert {".py", ".json", ".html", ".js", ".css", ".svg", ".md", ".sh", ".yaml"} <= {path.suffix for path in FILES}
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "threat-model.md"} <= {path.name for path in FILES}
