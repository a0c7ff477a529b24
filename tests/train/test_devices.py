"""Training on several devices and in several processes, for real: logical CPUs, and workers on loopback."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, make_classes, write

from imgclf.core.config import Preprocessing
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.data import loader, prepared_images
from imgclf.data.manifest import load_subsets, manifest_path, read_manifest
from imgclf.split import splitting
from imgclf.train import devices

# The command line itself, which also stores what each worker holds after each epoch.
WORKER = """
import json, os, sys
import numpy as np
from imgclf.cli.app import main
from imgclf.train.trainer import Trainer
index = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {}).get("index", 0)
freeze, count = Trainer.freeze, 0
def store(self):
    global count
    freeze(self)
    count += 1
    np.savez(f"state-{index}-{count}.npz", **self.state())
Trainer.freeze = store
sys.argv[0] = "imgclf"
main()
"""
OPTIONS = ["--epochs", 4, "--batch-size", 8, "--model", "cnn-small", "--lr-schedule", "plateau", "--augment", "strong"]
OPTIONS += ["--ema", 0.9, "--precision", "float32"]


def workers(
    folder: Path, count: int, *arguments: object, models: tuple[str, ...] = (), only: int = 9
) -> list["subprocess.Popen[str]"]:
    """That many processes of one cluster, begun in `folder`."""
    free = [socket.create_server(("127.0.0.1", 0)) for _number in range(count)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in free]
    for server in free:
        server.close()
    script = write(folder / "worker.py", WORKER.encode())
    return [
        subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments), *(["--model", models[n]] if models else [])],
            cwd=folder,
            env=os.environ
            | {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": n}})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(min(count, only))
    ]


def ends(processes: list["subprocess.Popen[str]"]) -> list[tuple[int, str, str]]:
    """(exit code, stdout, stderr) of each."""
    results = [process.communicate(timeout=200) for process in processes]
    return [(process.returncode, *result) for process, result in zip(processes, results, strict=True)]


def state(folder: Path, worker: int, epoch: int) -> dict[str, np.ndarray]:
    with np.load(folder / f"state-{worker}-{epoch}.npz") as arrays:
        return dict(arrays)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with split data, a finished run `run` of two workers, and their states."""
    folder = tmp_path_factory.mktemp("together")
    make_classes(folder / "data", {"a": 32, "b": 33, "c": 40})
    splitting.split(folder / "data")
    chief, other = ends(workers(folder, 2, "train", "data", "--run-dir", "run", *OPTIONS))
    assert (chief[0], other[0]) == (0, 0), chief[2] + other[2]
    assert (chief[1], other[1]) == ("run\n", "")
    assert "2 workers share each batch" in chief[2]
    assert "waiting for the other workers\nthis is worker 1 of 2; worker 0, the chief, shows and writes the run" in other[2]
    assert "val loss" not in other[2]
    return folder


def test_two_workers_hold_the_same_and_one_writes(together: Path) -> None:
    """Weights, statistics of batches, optimizer and averages, after every epoch; and they learn what one worker learns."""
    assert all(same(state(together, 0, epoch), state(together, 1, epoch)) for epoch in (1, 2, 3, 4))
    assert not same(state(together, 0, 3), state(together, 0, 4))
    assert [path.parent.name for path in together.rglob("bundle.json")] == ["run"]
    info = json.loads((together / "run" / "bundle.json").read_text())
    assert info["devices"] == "2 workers"
    assert info["metrics"]["val_accuracy"] == 1.0  # one worker: the toy set of test_train.py, also 1.0
    assert info["data"]["images"] == {"train": 73, "val": 16}
    subsets = json.loads((together / "run" / "config.json").read_text())
    assert subsets["batch_size"] == 8


@pytest.mark.long
def test_a_worker_is_killed_and_resume_goes_on_as_if_nothing_had_been(together: Path, tmp_path: Path) -> None:
    shutil.copytree(together / "data", tmp_path / "data", symlinks=True)
    chief, other = workers(tmp_path, 2, "train", "data", "--run-dir", "run", *OPTIONS)
    deadline = time.monotonic() + 100
    while not (tmp_path / "run" / "checkpoint.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    other.kill()
    (code, out, err), _killed = ends([chief, other])
    assert (code, out) == (1, "")
    assert "imgclf: error: worker 1 was lost" in err
    assert "restart all workers with --resume and the run folder" in err
    assert not (tmp_path / "run" / "bundle.json").exists()
    results = ends(workers(tmp_path, 2, "train", "--resume", "run"))
    assert [result[0] for result in results] == [0, 0], results
    last = max(int(path.stem.split("-")[2]) for path in tmp_path.glob("state-0-*.npz"))
    assert same(state(tmp_path, 0, last), state(together, 0, 4))
    assert same(state(tmp_path, 1, last), state(together, 1, 4))


@pytest.mark.long
def test_workers_that_differ_are_refused(together: Path, tmp_path: Path) -> None:
    shutil.copytree(together / "data", tmp_path / "data", symlinks=True)
    for code, _out, err in ends(workers(tmp_path, 2, "train", "data", "--batch-size", "7")):
        assert code == 2
        assert "--batch-size 7 cannot be shared by 2 workers: it counts the images of all; try --batch-size 8" in err
    processes = workers(tmp_path, 2, "train", "data", models=("cnn", "cnn-small"))
    for code, _out, err in ends(processes):
        assert code == 1
        assert (
            "1 of 2 workers have other images, another split, other options, another epoch or number format than the chief"
            in err
        )


AVERAGES = """
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from imgclf.train import devices
from imgclf.train.trainer import Trainer
machine = devices.choose(2)
def network(shape):
    below = [keras.layers.BatchNormalization(momentum=0.0), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input(shape), *below, keras.layers.Dense(3, "softmax")])
with machine.strategy.scope():
    inner = network((None, None, 3))
trainer = Trainer(inner, network((4, 4, 3)), machine, weight_decay=0, ema=0.5, loss_scaling=False)
pixels = np.zeros((8, 4, 4, 3), np.uint8)
pixels[1::2] = 200  # dark images go to one device, bright ones to the other
batch = pixels, np.eye(3, dtype=np.float32)[[0] * 8], np.ones(8, np.float32)
trainer.epoch([batch] * 40, iter([0.0] * 40))
trainer.freeze()
print(*(np.round(np.array(one.layers[0].moving_mean), 3).tolist() for one in (trainer.network, trainer.stock)))
"""


@pytest.mark.long
def test_averages_of_batch_statistics_are_those_of_all_devices() -> None:
    done = subprocess.run([sys.executable, "-c", AVERAGES], capture_output=True, text=True, timeout=200)
    assert done.stdout == "[100.0, 100.0, 100.0] [100.0, 100.0, 100.0]\n", done.stdout + done.stderr[-3000:]


DEVICES = """
import sys
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 3)
import keras
from imgclf.train import devices
from imgclf.train.trainer import Trainer
weights = []
for count in (1, int(sys.argv[2])):
    machine = devices.choose(count)
    assert machine.count == count
    def network():
        keras.utils.set_random_seed(1)
        layers = [keras.Input((None, None, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3, activation="relu"),
                  keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")]
        return keras.Sequential(layers)
    with machine.strategy.scope():
        inner = network()
    keras.utils.set_random_seed(1)
    stock = keras.Sequential([keras.Input((8, 8, 3)), *network().layers])
    trainer = Trainer(inner, stock, machine, weight_decay=0.01, ema=0.9, loss_scaling=sys.argv[1] == "scaled")
    random = np.random.default_rng(0)
    batches = [(random.integers(0, 256, (n, 8, 8, 3), np.uint8), np.eye(3, dtype=np.float32)[random.integers(0, 3, n)],
                random.uniform(0.5, 2, n).astype(np.float32)) for n in (8, 8, 7, 8, 2)]
    score = trainer.epoch(batches[:4], iter([1e-2] * 4))
    trainer.freeze()
    weights.append([*trainer.stock.get_weights(), np.array([score.loss, score.accuracy])])
    print(count, score, len([trainer.epoch(batches[4:], iter([1e-2]))]))
for other in weights[1:]:
    for one, two in zip(weights[0], other, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=2e-6)
print("equal")
"""


@pytest.mark.long
@pytest.mark.parametrize(("scaling", "count"), [("plain", 3), ("scaled", 2)])
def test_several_devices_train_as_one(scaling: str, count: int) -> None:
    """A network without batch statistics: the same weights from batches that are dealt out, evenly or not."""
    done = subprocess.run([sys.executable, "-c", DEVICES, scaling, str(count)], capture_output=True, text=True, timeout=200)
    assert done.stdout.endswith("equal\n"), done.stdout + done.stderr[-3000:]


def test_a_worker_that_waits_for_the_others_hears_ctrl_c(together: Path, tmp_path: Path) -> None:
    shutil.copytree(together / "data", tmp_path / "data", symlinks=True)
    (alone,) = workers(tmp_path, 2, "train", "data", only=1)
    time.sleep(12)  # TensorFlow loads, then waits for an hour
    assert alone.poll() is None
    alone.send_signal(signal.SIGINT)
    assert ends([alone])[0][:2] == (-signal.SIGINT, "")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "TF_CONFIG: cannot be understood"),
        ("[1]", "TF_CONFIG: cannot be understood"),
        ('{"cluster": {"worker": ["a:1", "b:1"], "ps": ["c:1"]}, "task": {"type": "worker", "index": 0}}', "ps in the cluster"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "no task worker 2"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}', "no task worker 3"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}', "no task chief 0"),
    ],
)
def test_bad_clusters_are_named(text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ImgclfError, match=words):
        devices.are_several()


@pytest.mark.parametrize(
    ("cluster", "task", "expected"),
    [
        ({}, {}, None),
        ({"worker": ["a:1"]}, {"type": "worker", "index": 0}, None),
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 1}, (1, 2)),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, {"type": "chief", "index": 0}, (0, 3)),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, {"type": "worker", "index": 0}, (1, 3)),
    ],
)
def test_the_chief_is_number_0(cluster: object, task: object, expected: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    assert devices._cluster() == expected


def test_devices_that_are_not_there(project: Path, imgclf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted, words in (("9", "--devices 9: no GPU here; give auto"), ("0", "--devices 0"), ("x", "--devices x")):
        done = imgclf("train", "data", "--devices", wanted)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    with pytest.raises(UsageError, match="cannot be given with several workers"):
        monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}')
        devices.choose(2)


def test_workers_do_not_make_the_split_each_for_itself(tmp_path: Path, imgclf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    make_classes(tmp_path / "data", {"a": 12, "b": 12})
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}')
    done = imgclf("train")
    assert done.returncode == 1
    assert "data: no split yet, and all workers need the same one; create it first with `imgclf split data`" in done.stderr


def test_shards_share_every_file_out(tmp_path: Path) -> None:
    """Of each class as evenly as can be, and what Keras reads from a shard is what is in it."""
    make_classes(tmp_path / "data", {"a": 20, "b": 10})
    splitting.split(tmp_path / "data")
    subsets, _notes = load_subsets(tmp_path / "data", read_manifest(manifest_path(tmp_path / "data")))
    whole = prepared_images.prepare(
        tmp_path / "data", {"train": subsets["train"], "val": subsets["val"]}, Preprocessing(16, 16)
    )
    shards = [prepared_images.shard(whole, index, 3) for index in range(3)]
    for subset, files in whole.files.items():
        assert sorted(name for shard in shards for name in shard.files[subset]) == sorted(files)
    assert [sum(name.startswith("a/") for name in shard.files["train"]) for shard in shards] == [5, 5, 4]
    own = loader.Images(shards[1], "train")
    names = sorted(shards[1].files["train"])
    everything = dict(zip(sorted(whole.files["train"]), loader.Images(whole, "train").pixels, strict=True))
    assert np.array_equal(own.pixels, np.stack([everything[name] for name in names]))
    assert prepared_images.shard(whole, 0, 1) is whole


def test_workers_see_their_images_in_orders_of_their_own(project: Path) -> None:
    subsets, _notes = load_subsets(project / "data", read_manifest(manifest_path(project / "data")))
    prepared = prepared_images.prepare(
        project / "data", {"train": subsets["train"], "val": subsets["val"]}, Preprocessing(16, 16)
    )
    images = loader.Images(prepared, "train")

    def order(shard: int, count: int | None = None) -> list[int]:
        batches = images.shuffled(8, seed=1, epoch=1, shard=shard, count=count)
        known = {pixels.tobytes(): number for number, pixels in enumerate(images.pixels)}
        return [known[image.tobytes()] for images, _targets, _weights in batches for image in images]

    assert sorted(order(0)) == sorted(order(1)) == list(range(51))
    assert order(0) != order(1)
    assert order(0, 40) == order(0)[:40]


# -- the examples ------------------------------------------------------------------------------------------------------

EXAMPLES = Path(__file__).parents[2] / "examples"


def command(folder: Path, name: str, text: str) -> None:
    write(folder / name, f"#!/bin/bash\n{text}\n".encode()).chmod(0o755)


def spoken(folder: Path, arguments: list[str], **variables: str) -> list[tuple[object, str]]:
    """(TF_CONFIG, arguments) of each `imgclf` that a script begins, with stand-ins for it and for Slurm's commands."""
    command(folder, "imgclf", 'echo "$TF_CONFIG"; echo "$@"')
    command(folder, "scontrol", '[ "$*" = "show hostnames node[1-2]" ] && echo node1 && echo node2')
    command(folder, "srun", 'for task in 0 1; do SLURM_PROCID=$task "$@"; done')
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(arguments, env=os.environ | path | variables, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    return [(json.loads(text), words) for text, words in zip(lines[::2], lines[1::2], strict=True)]


def test_the_script_for_slurm(tmp_path: Path) -> None:
    script = ["bash", str(EXAMPLES / "slurm.sh"), "my data", "--epochs", "3"]
    cluster = {"worker": ["node1:2222", "node2:2222"]}
    assert spoken(tmp_path, script, SLURM_JOB_NODELIST="node[1-2]") == [
        ({"cluster": cluster, "task": {"type": "worker", "index": number}}, "train my data --epochs 3") for number in (0, 1)
    ]


def test_the_job_for_kubernetes(tmp_path: Path) -> None:
    """Its shell lines, as a pod would run them."""
    text = (EXAMPLES / "kubernetes.yaml").read_text()
    script = text.split("args:\n            - |\n")[1].split("          resources:")[0]
    cluster = {"worker": ["imgclf-0.imgclf:2222", "imgclf-1.imgclf:2222"]}
    assert spoken(tmp_path, ["bash", "-c", script], WORKERS="2", JOB_COMPLETION_INDEX="1") == [
        ({"cluster": cluster, "task": {"type": "worker", "index": 1}}, "train data --run-dir runs/first --batch-size 64")
    ]
