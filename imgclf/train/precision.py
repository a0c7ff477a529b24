"""Choose the number format in which a training computes."""

from pathlib import Path

from imgclf.core.config import Precision
from imgclf.core.errors import UsageError

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def choose(wanted: Precision, *, is_depthwise: bool = False) -> tuple[Precision, str]:
    """Return the format and the reason. `auto`: bfloat16 if the CPU or GPU has instructions for it, float32 otherwise.

    Weights, batch statistics and saved files are always float32.

    Args:
        is_depthwise: Whether the network has depthwise convolutions. CPUs compute them more slowly in bfloat16: 50 images/s
            compared with 90 in float32 (all blocks of EfficientNet-Lite0 at 128 pixels, AVX-512).

    Raises:
        UsageError: float16 on a CPU, which would only lose accuracy: CPUs have no fast float16 arithmetic.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if wanted == "float16" and not gpus:
        raise UsageError("--precision float16 needs a GPU, and this machine has none; use auto, bfloat16 or float32")
    if wanted != "auto":
        return wanted, "set with --precision"
    if gpus:
        major = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))[0]
        if major >= 8:
            return "bfloat16", "this GPU has instructions for it"
        return ("float16", "this GPU has instructions for it") if major == 7 else ("float32", "this GPU has no 16-bit units")
    if is_depthwise:
        return "float32", "depthwise convolutions are faster in it on a CPU"
    flags = _cpu_flags()
    for flag, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512")):
        if flag in flags:
            return "bfloat16", f"this CPU has {name} instructions for it"
    return "float32", "this CPU has no instructions for bfloat16"


def _cpu_flags() -> frozenset[str]:
    """Return the instruction sets that Linux lists for this CPU; empty on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())
