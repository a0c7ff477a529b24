"""`imgclf train`: from the options to a finished run.

`run` is the entry point. `setup` checks the options and prepares the images, `loop` trains epoch by epoch, `state` holds the
training state, `checkpoint` saves it, and `rates` searches for a learning rate.
"""

from imgclf.train.loop import patience
from imgclf.train.rates import RateSearch, find_rate
from imgclf.train.run import resume, summary, train
from imgclf.train.setup import check
from imgclf.train.state import Epoch, Listener, Silent, improves

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
