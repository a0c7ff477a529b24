"""Which number format a training computes in."""

from pathlib import Path

from imgclf.core.config import Precision
from imgclf.core.errors import UsageError

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def choose(wanted: Precision, *, is_depthwise: bool = False) -> tuple[Precision, str]:
    """(the format, why): bfloat16 where the processor or the GPU has instructions for it, else float32.

    is_depthwise: whether the network has convolutions of one channel each, which processors compute more slowly in bfloat16
    (50 images/s against 90 in float32, all blocks of EfficientNet-Lite0 at 128 pixels on AVX-512).

    Weights, batch statistics and everything that is saved are float32 in any case. Raises UsageError for float16 on a CPU,
    which has no fast arithmetic for it and only loses accuracy.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if wanted == "float16" and not gpus:
        raise UsageError("--precision float16 needs a GPU, and there is none here; use auto, bfloat16 or float32")
    if wanted != "auto":
        return wanted, "as asked"
    if gpus:
        major = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))[0]
        if major >= 8:
            return "bfloat16", "the GPU computes in it"
        return ("float16", "the GPU computes in it") if major == 7 else ("float32", "the GPU is older")
    if is_depthwise:
        return "float32", "depthwise convolutions are faster in it on a processor"
    flags = _processor_flags()
    for flag, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512")):
        if flag in flags:
            return "bfloat16", f"this processor has {name} instructions for it"
    return "float32", "this processor has no instructions for bfloat16"


def _processor_flags() -> frozenset[str]:
    """What Linux says the processor can do; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())
