"""Build install hints: pip commands that work for imgclf from a clone, a wheel or an index.

They name the requirements that imgclf declares, not imgclf itself, because an index may not have it.
"""

import re
import shlex
from pathlib import Path

_EXTRA = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DISTRIBUTIONS = {"cv2": "opencv-python", "PIL": "pillow"}  # of modules whose distribution has a different name


def command(extra: str) -> str:
    """Return the command that installs the requirements of an extra of imgclf."""
    return _pip(_requirements().get(extra, []))


def command_for(module: str | None) -> str:
    """Return the command that reinstalls the distribution of a module, or all requirements if no requirement provides it."""
    needed = _requirements().get("", [])
    wanted = _normal(_DISTRIBUTIONS.get(top := (module or "").partition(".")[0], top))
    found = [one for one in needed if _normal(_NAME.match(one)) == wanted]
    return _pip(found, "--force-reinstall") if found else _pip(needed)


def at_least(package: str, version: str) -> str:
    """Return the command that installs this version of a package or a newer one."""
    return _pip([f"{package}>={version}"])


def _pip(requirements: list[str], *options: str) -> str:
    return shlex.join(["python", "-m", "pip", "install", *options, *requirements])


def _normal(name: "str | re.Match[str] | None") -> str:
    text = name if isinstance(name, str) else name.group() if name else ""
    return re.sub(r"[-_.]+", "-", text).lower()


def _requirements() -> dict[str, list[str]]:
    """Return requirements as `name>=version`, by extra ("" for none). This works in a clone that is not installed, too."""
    import importlib.metadata  # here, as below: every command imports this module, and few need a hint

    try:
        declared = importlib.metadata.requires("imgclf") or []
    except importlib.metadata.PackageNotFoundError:
        import tomllib

        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
        declared = list(project["dependencies"])
        for extra, needed in project["optional-dependencies"].items():
            declared += [f"{one}; extra == '{extra}'" for one in needed]
    found: dict[str, list[str]] = {}
    for one in declared:
        requirement, _, marker = one.partition(";")
        extra = _EXTRA.search(marker)
        found.setdefault(extra[1] if extra else "", []).append(requirement.strip())
    return found
