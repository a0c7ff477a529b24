"""`imgclf train`: prepare the images, train the network, and save the best epoch as a finished run."""

import contextlib
import shlex
import signal
import time
from pathlib import Path

from imgclf.core import names, signals
from imgclf.core.config import SCRATCH, TrainConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.files import atomic, contained, locks
from imgclf.core.files.paths import StrPath
from imgclf.core.files.state_folder import check_outside
from imgclf.data import dataset
from imgclf.data.manifest import read_manifest
from imgclf.models import backbones, bundle, cnn, keras_settings, registry
from imgclf.models.bundle import Bundle
from imgclf.train import devices, model_selection, precision, strategies, validation
from imgclf.train.checkpoint import restore, restore_trainer
from imgclf.train.class_weights import format_weights
from imgclf.train.finishing import finish
from imgclf.train.loop import fit, resource_errors, tuning_epochs
from imgclf.train.run_files import save
from imgclf.train.setup import Stored, check, check_agreement, chosen_manifest, prepare, read_config, weigh, write_config
from imgclf.train.state import Listener, OfWorker, Silent, TrainingState


def train(
    data: StrPath,
    config: TrainConfig | None = None,
    *,
    run_dir: StrPath | None = None,
    listener: Listener | None = None,
    device_count: int | None = None,
) -> Bundle | None:
    """Train on a data folder that has a split manifest and return the finished run.

    Each epoch writes `history.csv`, `curves.png`, a checkpoint and `model.keras`, which is the best epoch by validation
    accuracy, then loss. `bundle.json` is written last: a run folder without it is unfinished, and `resume` continues it.

    If TF_CONFIG names several machines, each of them calls this function. Only the chief writes files.

    Args:
        run_dir: A new or empty folder; by default `runs/<time>-<model>`.
        listener: Receives notes and progress, and can stop the training.
        device_count: Number of devices of this machine; all GPUs by default.

    Returns:
        The finished run; None on workers that are not the chief.

    Raises:
        ImgclfError: There is no split, the images cannot be used, or the training fails.
    """
    data = Path(data)
    run_dir = None if run_dir is None else Path(run_dir)
    config = config or TrainConfig()
    listener = listener or Silent()
    check(config)
    began = time.monotonic()
    if wrong := names.unreadable(str(data.resolve())):
        raise ImgclfError(
            f"{data}: the folder's path contains {wrong}, which TensorFlow cannot open; rename or move the folder"
        )
    check_outside(run_dir or Path("runs"), "--run-dir", data)
    manifest = read_manifest(chosen_manifest(data, config.fold))
    machine, listener = _gather(listener, device_count)
    if machine.is_chief and run_dir is not None:
        registry.check_run_folder(run_dir)  # fail before the images are decoded
    expected = None
    remedy = "restart all workers with --resume and the run folder that the chief printed"
    with keras_settings.pinned(), devices.lost_worker_errors(machine, remedy):
        if config.model == "auto":
            config, expected = model_selection.choose(data, manifest, config, machine, listener)
        prepared, config = prepare(data, manifest, config, machine, listener)
        weights = weigh(config, prepared)
        is_given = run_dir is not None and run_dir.exists()
        if machine.is_chief:
            run_dir = registry.new_run_folder(config.model, run_dir)
            atomic.write_atomic(run_dir / "split.csv", manifest.to_csv())
            write_config(run_dir, Stored(config, prepared.preprocessing, data.resolve(), weights))  # last: --resume reads it
        state = TrainingState(
            data,
            config,
            manifest,
            prepared,
            weights,
            run_dir or Path("runs").resolve(),
            listener,
            machine,
            config.epochs,
            made_folder=not is_given,
            expected=expected,
        )
        with _locked(state.run_dir, machine):
            return _run(state, began)


def _gather(listener: Listener, device_count: int | None) -> tuple[devices.Devices, Listener]:
    """Wait for all workers, and return the devices and the listener of this worker."""
    listener.stage("loading TensorFlow")
    if devices.are_several():
        listener.note("waiting for the other workers")
    machine = devices.choose(device_count)
    return machine, listener if machine.is_chief else OfWorker(listener, machine)


def _locked(run_dir: Path, machine: devices.Devices) -> contextlib.AbstractContextManager[None]:
    """Prevent other processes from training this run inside the block."""
    if not machine.is_chief:
        return contextlib.nullcontext()
    return locks.held(
        run_dir / "config.json", f"{run_dir}: another process is training this run; wait for it, or stop it first"
    )


def resume(
    run: str | None = None,
    *,
    data: Path | None = None,
    listener: Listener | None = None,
    device_count: int | None = None,
) -> Bundle | None:
    """Continue an unfinished run after its last complete epoch. The result equals that of an uninterrupted run.

    With several machines, each must have access to the run's folder.

    Args:
        run: Folder or name of the run; by default the newest unfinished run under `runs/`.
        data: The data folder, if it was moved.

    Returns:
        The finished run; None on workers that are not the chief.

    Raises:
        ImgclfError: There is no such run, or its images or its split have changed.
    """
    listener = listener or Silent()
    began = time.monotonic()
    run_dir = registry.find_unfinished(run)
    stored = read_config(run_dir)
    if data is None and not stored.data.is_dir():
        raise ImgclfError(
            f"{run_dir}: its data folder {stored.data} does not exist; give the new path: imgclf train FOLDER --resume"
        )
    data = data or stored.data
    manifest = read_manifest(run_dir / "split.csv")
    machine, listener = _gather(listener, device_count)
    remedy = f"start all of them again with `imgclf train --resume {shlex.quote(str(run_dir))}`"
    with keras_settings.pinned(), devices.lost_worker_errors(machine, remedy), _locked(run_dir, machine):
        if machine.is_chief:
            with contained.at(run_dir) as folder:
                atomic.remove_leftovers(folder)
        prepared, config = prepare(data, manifest, stored.config, machine, listener)
        if prepared.preprocessing != stored.preprocessing:
            raise ImgclfError(f"{run_dir}: config.json was edited: its preprocessing does not match its options; train again")
        epochs = config.epochs
        state = TrainingState(
            data, config, manifest, prepared, stored.weights, run_dir, listener, machine, epochs, resumed=True
        )
        return _run(state, began)


def summary(data: Path, config: TrainConfig) -> tuple[str, list[tuple[str, str, str, int]]]:
    """Describe the network that `train` would build: size and precision as text, and each layer.

    Each layer is (name, type, output shape, parameters).
    """
    check(config)
    if config.model == "auto":
        raise UsageError("--summary does not work with --model auto, which chooses during training; give --model a model")
    images, _skipped = dataset.index(data, minimum_classes=2)
    classes = len(images.class_names)
    if config.model in SCRATCH:
        side = config.image_size or dataset.auto_image_size(images, config.seed)
        network = cnn.build(config.model, classes, (side, side), seed=config.seed)
        kind, why = precision.choose(config.precision)
    else:
        side = config.image_size or backbones.BACKBONES[config.model].side
        backbone = cnn.Pretrained(config.model, side, backbones.weights(config.weights))
        network = cnn.transferred(backbone, classes, seed=config.seed)
        kind, why = "float32", "the backbone is not trained"
    layers = [
        (layer.name, type(layer).__name__, " x ".join(str(number) for number in layer.output.shape[1:]), layer.count_params())
        for layer in network.layers
    ]
    return f"{config.model} for {side} x {side} pixels; trained in {kind}: {why}", layers


def _run(state: TrainingState, began: float) -> Bundle | None:
    """Build the network, train it from its current state, and finish the run."""
    prepared, listener, machine = state.prepared, state.listener, state.machine
    check_agreement(state)
    arrays = restore(state)
    try:
        strategy = strategies.begin(state)
    except ImgclfError:  # no pretrained weights, for example: leave nothing that --resume would take for a run
        if machine.is_chief and not state.resumed:
            registry.forget(state.run_dir, whole=state.made_folder)
        raise
    if arrays:
        restore_trainer(state, strategy.trainer, arrays)
        check_agreement(state)
    counts = {subset: len(files) for subset, files in prepared.files.items()}
    about = [
        f"{counts['train']:,} training and {counts['val']:,} validation images, {len(prepared.class_names)} classes, "
        f"{prepared.preprocessing.width} x {prepared.preprocessing.height} pixels",
        *strategy.about,
    ]
    if machine.count > 1:
        about.append(f"{machine} share each batch")
    if state.weights is not None:
        about.append(f"class weights: {format_weights(state.weights, prepared)}")
    about += validation.about(state)
    if state.resumed:
        about.append(f"resumed after epoch {len(state.history)}" if state.history else "started again: no epoch was complete")
    listener.started(state.run_dir, about)
    with contextlib.ExitStack() as stack:
        if not machine.is_chief:  # a terminal sends Ctrl-C to all workers; the chief decides when to stop
            stack.enter_context(signals.handled(signal.SIG_IGN, signal.SIGINT))
        stack.enter_context(resource_errors(state))
        is_over = fit(state, strategy, began)
        if state.config.fine_tune and state.tuned_from is None and not is_over:
            strategy = _begin_tuning(state, strategy)
            listener.tuning(strategy.about)
            fit(state, strategy, began)
            if state.tuned_from and max(entry.epoch for entry in state.history if entry.is_best) <= state.tuned_from:
                listener.note("fine-tuning did not improve the validation accuracy: the frozen backbone is kept")
    finished = None
    if machine.is_chief:
        listener.stage("exporting")
        finished = finish(state, strategy)
        validation.warn(state, finished)
        model_selection.hint(state)
    machine.broadcast([0])  # the others wait, or the chief would report them as lost
    return finished


def _begin_tuning(state: TrainingState, head: strategies.Strategy) -> strategies.Strategy:
    """Start fine-tuning from the best epoch of the head. Only a better epoch replaces that one."""
    state.listener.stage("preparing fine-tuning")
    network = head.network(state.best)
    if state.machine.is_chief:
        save(network, state.run_dir / bundle.MODEL)
    state.best = network.get_weights()
    state.tuned_from, state.factor = len(state.history), 1.0
    state.epochs = state.tuned_from + tuning_epochs(state.config)
    return strategies.begin(state)
