"""`imgclf train`, from the options to the bundle.

`run` is the whole way; `setup` checks and prepares, `loop` trains epoch by epoch, `work` is one training as it stands and its
checkpoint; `rates` looks for a learning rate.
"""

from imgclf.train.loop import patience
from imgclf.train.rates import RateSearch, find_rate
from imgclf.train.run import resume, summary, train
from imgclf.train.setup import check
from imgclf.train.work import Epoch, Listener, Silent, improves

__all__ = [
    "Epoch",
    "Listener",
    "RateSearch",
    "Silent",
    "check",
    "find_rate",
    "improves",
    "patience",
    "resume",
    "summary",
    "train",
]
