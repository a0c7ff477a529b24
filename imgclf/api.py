"""The Python API: `from imgclf.api import clean, split, train, evaluate, predict, Bundle`.

Every command is a function that takes paths as text or as Path objects, and returns a value instead of printing. Errors that a
user can cause are raised as ImgclfError. A name is imported when it is first used, so `import imgclf.api` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgclf.audit.auditing import audit
    from imgclf.clean.cleaning import clean
    from imgclf.clean.undoing import undo
    from imgclf.compare import compare
    from imgclf.core.config import AuditConfig, ExportConfig, PreviewConfig, SplitConfig, TrainConfig
    from imgclf.core.errors import ImageError, ImgclfError
    from imgclf.evaluate.evaluating import evaluate
    from imgclf.explain import explain
    from imgclf.export.exporting import export
    from imgclf.models.bundle import Bundle
    from imgclf.predict import predict
    from imgclf.preview.overview import preview
    from imgclf.split.splitting import split
    from imgclf.train.run import train

_MODULES = {
    "audit": "audit.auditing", "clean": "clean.cleaning", "undo": "clean.undoing", "compare": "compare",
    "AuditConfig": "core.config", "ExportConfig": "core.config", "PreviewConfig": "core.config",
    "SplitConfig": "core.config", "TrainConfig": "core.config",
    "ImageError": "core.errors", "ImgclfError": "core.errors", "evaluate": "evaluate.evaluating", "explain": "explain",
    "export": "export.exporting", "Bundle": "models.bundle", "predict": "predict", "preview": "preview.overview",
    "split": "split.splitting", "train": "train.run",
}  # fmt: skip

__all__ = [
    "AuditConfig",
    "Bundle",
    "ExportConfig",
    "ImageError",
    "ImgclfError",
    "PreviewConfig",
    "SplitConfig",
    "TrainConfig",
    "audit",
    "clean",
    "compare",
    "evaluate",
    "explain",
    "export",
    "predict",
    "preview",
    "split",
    "train",
    "undo",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"imgclf.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
