"""Test the vocabulary: one word for each idea in code, messages, help, schemas, pages and documents."""

import re
from pathlib import Path

import imgclf

PACKAGE = Path(imgclf.__file__).parent
ROOT = PACKAGE.parent
# Patterns of replaced words, and the word to use instead.
INSTEAD = {
    r"pictures?": "image",
    r"left out|passed over": "skipped",
    r"looked at": "inspected, compared or checked",
    r"torn": "leakage",
    r"hang together": "connected components",
    r"goes with": "needs, or belongs to",
    r"prospects?": "candidate",
    r"courses?": "strategy",
    r"findings?|outcomes?|suspects?": "issue",
    r"recipes?": "preprocessing",
    r"catalogues?|facts?": "index or measurements",
    r"(batch|batches) of moves": "operation",
    r"(training|validation|test) parts?": "training, validation or test set",
    r"answers?|answered|answering": "prediction, or response",
    r"how sure|the surest|how sure, how right": "confidence, reliability diagram",
    r"what it says|what is said|as said|is told": "a concrete subject",
    r"where it looks": "saliency map",
}
FILES = [
    *(path for ending in ("py", "json", "html", "js", "css") for path in PACKAGE.rglob(f"*.{ending}")),
    *(path for folder in (ROOT, ROOT / "docs") for path in folder.glob("*.md")),
    *(ROOT / "examples").glob("*.py"),
]


def test_replaced_words_are_not_used() -> None:
    found = []
    for path in FILES:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for words, instead in INSTEAD.items():
                if match := re.search(rf"(?<![a-z])({words})(?![a-z])", line, re.IGNORECASE):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]!r}: write {instead}")
    assert found == []
