"""Checkpoints: all comes back, a crash leaves the old file, and a file that is wrong in any way changes nothing."""

import json
import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinygrad_seq import Module, Parameter, optim, random
from tinygrad_seq.serialize import CheckpointError, load, peek, save


class Net(Module):
    def __init__(self, shape=(3, 2), dtype=np.float64):
        self.W = Parameter(random.generator().normal(size=shape), dtype=dtype)
        self.b = Parameter(np.zeros(shape[1:]), dtype=dtype)
        self.register_buffer("count", np.array(0))


@pytest.fixture(autouse=True)
def _generator_as_it_was():
    before = random.get_state()
    yield
    random.set_state(before)


def training(shape=(3, 2)):
    """A model in training: (module, optimizer, schedule, one step)."""
    net = Net(shape)
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    schedule = optim.CosineSchedule(optimizer, steps=20, warmup=3)

    def step():
        for parameter in net.parameters():
            parameter.grad = random.generator().normal(size=parameter.shape)
        optimizer.step()
        schedule.step()
        net.count = net.count + 1

    return net, optimizer, schedule, step


def everything(net, optimizer, schedule):
    """All that loading may change, as one comparable value."""
    kept = [{name: np.asarray(value).tolist() for name, value in one.items()} for one in optimizer.kept]
    state = {name: array.tolist() for name, array in net.state_dict().items()}
    return state, optimizer.settings, kept, schedule.state_dict(), random.get_state()


# ---- there and back -------------------------------------------------------------------------------------------------


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path):
    path = tmp_path / "run.safetensors"
    net, optimizer, schedule, step = training()
    for _ in range(5):
        step()
    save(path, net, optimizer, {"epoch": 5}, schedule=schedule)
    for _ in range(5):
        step()
    expected = everything(net, optimizer, schedule)

    net, optimizer, schedule, step = training()
    step()
    assert load(path, net, optimizer, schedule=schedule) == {"epoch": 5}
    for _ in range(5):
        step()
    assert everything(net, optimizer, schedule) == expected


def test_without_an_optimiser_only_the_module_is_touched(tmp_path):
    net, optimizer, schedule, step = training()
    step()
    save(tmp_path / "run", net, optimizer, schedule=schedule)
    other = Net()
    before = random.get_state()
    assert load(str(tmp_path / "run"), other) is None
    assert random.get_state() == before
    np.testing.assert_array_equal(other.W.data, net.W.data)
    assert other.count == 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_dtype_and_layout_of_array(tmp_path, dtype):
    net = Net((4, 6), dtype)
    net.W.data = np.asfortranarray(net.W.data)[::2]
    net.register_buffer("mask", np.array([True, False]))
    net.register_buffer("swapped", np.arange(3, dtype=">i4"))
    net.register_buffer("nothing", np.zeros((0, 3)))
    net.W.data[0, 0] = np.nan
    save(tmp_path / "a", net)
    other = Net((2, 6), dtype)
    other.b = Parameter(np.ones(6), dtype=dtype)
    other.register_buffer("mask", np.array([False, False]))
    other.register_buffer("swapped", np.zeros(3, "=i4"))
    other.register_buffer("nothing", np.zeros((0, 3)))
    load(tmp_path / "a", other)
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, net.state_dict()[name])


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
))  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_metadata_comes_back(tmp_path, metadata):
    net = Net()
    save(tmp_path / "m", net, metadata=metadata)
    assert load(tmp_path / "m", net) == metadata


def test_arrays_of_the_callers_and_the_metadata_are_there_without_a_module(tmp_path):
    net, optimizer, _, _ = training()
    arrays = {"best.W": np.arange(6.0).reshape(2, 3)[:, ::2], "mask": np.array([True, False]), "model.W": np.array(7, np.int16)}
    save(tmp_path / "a", net, optimizer, {"size": [3, 2]}, arrays=arrays)
    metadata, found = peek(tmp_path / "a")
    assert metadata == {"size": [3, 2]}
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    load(tmp_path / "a", Net(), optimizer)  # they are not taken for the module's or the optimiser's

    save(tmp_path / "a", net)
    assert peek(str(tmp_path / "a")) == (None, {})
    with pytest.raises(TypeError, match=r"array\.words is object"):
        save(tmp_path / "a", net, arrays={"words": np.array(["a"], object)})
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        peek(tmp_path / "none")


def test_the_file_is_ordinary_safetensors(tmp_path):
    net, optimizer, _, step = training()
    step()
    save(tmp_path / "a", net, optimizer)
    tensors = safetensors.numpy.load_file(tmp_path / "a")
    assert set(tensors) == {"model.W", "model.b", "model.count"} | {f"optimizer.{i}.{name}" for i in (0, 1) for name in "mv"}
    np.testing.assert_array_equal(tensors["model.W"], net.W.data)


def test_the_metadata_is_json(tmp_path):
    with pytest.raises(TypeError, match="metadata must be what JSON can hold"):
        save(tmp_path / "a", Net(), metadata={"array": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="a long double is a double here")
def test_long_doubles_are_refused_by_name(tmp_path):
    net = Net()
    net.register_buffer("long", np.zeros(2, np.longdouble))
    with pytest.raises(TypeError, match=r"model\.long is float"):
        save(tmp_path / "a", net)


# ---- what does not fit ------------------------------------------------------------------------------------------------


def rewritten(path, change):
    """The file with `change(tensors, header)` made and a right checksum: as someone would who means harm."""
    from tinygrad_seq.serialize import _digest

    tensors = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, "numpy") as file:
        header = json.loads(file.metadata()["tinygrad_seq"])
    change(tensors, header)
    text = json.dumps(header)
    path.write_bytes(safetensors.numpy.save(tensors, {"tinygrad_seq": text, "sha256": _digest(text, tensors)}))


def drop(where, *keys):
    def change(tensors, header):
        target = {"tensors": tensors, "header": header}[where]
        for key in keys[:-1]:
            target = target[key]
        del target[keys[-1]]

    return change


def put(where, *keys_and_value):
    *keys, last, value = keys_and_value

    def change(tensors, header):
        target = {"tensors": tensors, "header": header}[where]
        for key in keys:
            target = target[key]
        target[last] = value

    return change


@pytest.mark.parametrize(("change", "message"), [
    (drop("tensors", "model.W"),                                    "missing: W"),
    (put("tensors", "model.x", np.zeros(1)),                        "unexpected: x"),
    (put("tensors", "model.W", np.zeros((2, 3))),                   r"W: shape \(2, 3\) instead of \(3, 2\)"),
    (put("tensors", "model.W", np.zeros((3, 2), np.float32)),       "W: dtype float32 instead of float64"),
    (drop("tensors", "optimizer.0.m"),                              "v instead of m, v"),
    (put("tensors", "optimizer.0.m", np.zeros(3)),                  "has m as float64 of shape"),
    (put("tensors", "optimizer.7.m", np.zeros(3)),                  r"no parameter for optimizer\.7\.m"),
    (put("tensors", "optimizer.x.m", np.zeros(3)),                  r"no parameter for optimizer\.x\.m"),
    (drop("header", "optimizer"),                                   "saved without optimizer"),
    (put("header", "optimizer", "optimizer", "SGD"),                "no state of Adam, but of SGD"),
    (put("header", "optimizer", "settings", "lr", -1),              "lr = -1"),
    (put("header", "optimizer", "settings", "betas", [[1], 2]),     "betas"),
    (put("header", "optimizer", "kept", 0, "t", "many"),            "after which step"),
    (put("header", "optimizer", "kept", [1, 2]),                    "malformed"),
    (put("header", "optimizer", [1, 2]),                            "malformed"),
    (drop("header", "schedule"),                                    "saved without schedule"),
    (put("header", "schedule", "steps", 0),                         "no learning rate"),
    (put("header", "schedule", "n", "3"),                           "n = '3'"),
    (put("header", "schedule", "factor", 3),                        "no state of CosineSchedule"),
    (drop("header", "generator"),                                   "saved without generator"),
    (put("header", "generator", "state", "state", "x"),             "not the state of a generator"),
    (put("header", "format", 99),                                   "format"),
])  # fmt: skip
def test_a_file_that_does_not_fit_is_told_and_changes_nothing(tmp_path, change, message):
    path = tmp_path / "run"
    net, optimizer, schedule, step = training()
    step()
    save(path, net, optimizer, schedule=schedule)
    rewritten(path, change)
    net, optimizer, schedule, step = training()
    step()
    before = everything(net, optimizer, schedule)
    with pytest.raises(CheckpointError, match=message):
        load(path, net, optimizer, schedule=schedule)
    assert everything(net, optimizer, schedule) == before


def test_the_checkpoint_of_another_model(tmp_path):
    save(tmp_path / "a", Net((5, 5)))
    net = Net()
    before = net.state_dict()
    with pytest.raises(CheckpointError, match=r"(?s)does not fit Net.*W: shape \(5, 5\).*b: shape \(5,\)"):
        load(tmp_path / "a", net)
    assert all((before[name] == array).all() for name, array in net.state_dict().items())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of a checkpoint, and a place to put harmed ones."""
    folder = tmp_path_factory.mktemp("harm")
    net, optimizer, schedule, step = training()
    step()
    save(folder / "good", net, optimizer, {"note": "x" * 50}, schedule=schedule)
    return (folder / "good").read_bytes(), folder / "bad"


def refused_and_nothing_changed(path, data):
    path.write_bytes(data)
    net, optimizer, schedule, _ = training()
    before = everything(net, optimizer, schedule)
    with pytest.raises(CheckpointError):
        load(path, net, optimizer, schedule=schedule)
    assert everything(net, optimizer, schedule) == before


@given(st.data())
@settings(max_examples=300)
def test_any_bit_that_is_flipped_is_noticed(written, data):
    good, path = written
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    bad = bytearray(good)
    bad[bit // 8] ^= 1 << bit % 8
    refused_and_nothing_changed(path, bytes(bad))


@given(st.data())
@settings(max_examples=100)
def test_any_cut_is_noticed(written, data):
    good, path = written
    refused_and_nothing_changed(path, good[: data.draw(st.integers(0, len(good) - 1))])


def crafted(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        pickle.dumps(Net),
        struct.pack("<Q", 2**63) + b"{}",
        crafted(b"[" * 100_000),
        crafted({}),
        crafted({"a": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}, b"\0" * 8),
        crafted({"a": {"dtype": "F64", "shape": [-1], "data_offsets": [0, 8]}}, b"\0" * 8),
        crafted({"a": {"dtype": "O", "shape": [1], "data_offsets": [0, 8]}}, b"\0" * 8),
        crafted({"__metadata__": {"tinygrad_seq": "[" * 100_000, "sha256": ""}}),
    ],
    ids=["empty", "pickle", "huge header", "deep header", "nothing", "huge shape", "negative shape", "objects", "no checksum"],
)
def test_a_hostile_file(tmp_path, data):
    refused_and_nothing_changed(tmp_path / "bad", data)


def test_a_malformed_header_with_a_right_checksum(tmp_path):
    from tinygrad_seq.serialize import _digest

    for text in ("{", "[]", "[" * 100_000, "3"):
        data = safetensors.numpy.save({}, {"tinygrad_seq": text, "sha256": _digest(text, {})})
        refused_and_nothing_changed(tmp_path / "bad", data)


def test_bfloat16_is_refused_by_name(tmp_path):
    path = tmp_path / "b"
    path.write_bytes(crafted({"model.W": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, b"\0" * 4))
    with pytest.raises(CheckpointError, match=r"model\.W \(BF16\)"):
        load(path, Net())


def test_weights_that_others_have_saved_are_told_how_to_read(tmp_path):
    safetensors.numpy.save_file({"W": np.zeros((3, 2))}, tmp_path / "w")
    with pytest.raises(CheckpointError, match="load_state_dict"):
        load(tmp_path / "w", Net())


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match="no checkpoint at"):
            load(path, Net())


# ---- a crash on the way -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["os.replace", "os.fsync"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_while_saving_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, broken, error):
    path = tmp_path / "a"
    net = Net()
    save(path, net, metadata="old")
    before = path.read_bytes()

    def fail(*args):
        raise error("no space left")

    monkeypatch.setattr(broken, fail)
    with pytest.raises(error):
        save(path, net, metadata="new")
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_the_new_file_is_on_the_disk_before_it_takes_the_place(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (order.append(name), real(*args))[1])
    save(tmp_path / "a", Net())
    assert order == (["fsync", "replace", "fsync"] if os.name == "posix" else ["fsync", "replace"])


@pytest.mark.skipif(os.name != "posix", reason="links and modes are POSIX's")
def test_links_and_modes(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "real").touch()
    (tmp_path / "latest").symlink_to(tmp_path / "runs" / "real")
    before = os.umask(0o027)
    try:
        save(tmp_path / "latest", Net(), metadata=1)
    finally:
        os.umask(before)
    assert (tmp_path / "latest").is_symlink()
    assert load(tmp_path / "runs" / "real", Net()) == 1
    assert (tmp_path / "runs" / "real").stat().st_mode & 0o777 == 0o640  # as any new file would have


KILLS = """
import os, random, signal, sys, time
import numpy as np
from tinygrad_seq import Module, Parameter
from tinygrad_seq.serialize import load, save

path, kills, looks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
net = Module()
net.W = Parameter(np.zeros(20_000))
os.fsync = lambda file: None  # what the system has, it keeps when a process is killed; so most of the time is spent in our code
started = time.perf_counter()
save(path, net, metadata=0)
a_save = time.perf_counter() - started
last = 0

def start():
    child = os.fork()
    number = last
    while not child:  # save without pause, each time other values
        number += 1
        net.W.overwrite(float(number))
        save(path, net, metadata=number)
    return child

def look():
    global last
    found = load(path, net)
    assert (net.W.data == found).all() and found >= last, (found, last)
    last = found

def kill(child):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

for _ in range(kills):
    child = start()
    time.sleep(random.uniform(0, 3 * a_save))
    kill(child)
    look()
child = start()
for _ in range(looks):
    time.sleep(random.uniform(0, a_save / 10))
    look()  # at what a kill would have left at this moment
kill(child)
print(last)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize(("kills", "looks"), [(1000, 1000)])
def test_a_process_that_is_killed_leaves_a_whole_file(tmp_path, kills, looks):
    """Kills at random moments while a process saves without pause; the file loads each time, and is no older than before."""
    command = [sys.executable, "-c", KILLS, str(tmp_path / "a"), str(kills), str(looks)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    left = [path.name for path in tmp_path.iterdir() if path.name != "a"]
    assert all(name.startswith(".a.") and name.endswith(".tmp") for name in left)
    assert len(left) > 1 and int(done.stdout) > 10  # it was killed in the middle of a file, and behind a whole one


def test_arguments_in_another_order_are_told_the_right_one(tmp_path):
    for wrong in (str(tmp_path / "m.safetensors"), {"W": np.ones(2)}):
        with pytest.raises(TypeError, match=r"save\(path, module, optimizer\)"):
            save(tmp_path / "m.safetensors", wrong)
    assert list(tmp_path.iterdir()) == []
