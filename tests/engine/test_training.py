"""`fit`: it trains, and a run that was stopped anywhere, by whatever, goes on as if it had never been."""

import io
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import optim, random
from tinygrad_seq.models import GRU, Dropout, Linear
from tinygrad_seq.runs import Run, undisturbed

EPOCHS = 3


@pytest.fixture(autouse=True)
def _generator_as_it_was():
    before = random.get_state()
    yield
    random.set_state(before)


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch):
    """Where many files are written and none is killed in the middle."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


class Net(tg.Module):
    """Everything at once that a resumed run must bring back: dropout, a state to carry, a buffer that a step changes."""

    def __init__(self):
        self.gru = GRU(2, 4)
        self.dropout = Dropout(0.3)
        self.readout = Linear(4, 1)
        self.register_buffer("seen", np.array(0))

    def forward(self, x, state=None):
        self.seen = self.seen + len(x)
        outputs, state = self.gru(x, state)
        return self.readout(self.dropout(outputs)), state

    def loss(self, x, y, state=...):
        prediction, after = self(x, None if state is ... else state)
        value = tg.losses.mse(prediction, y)
        return value if state is ... else (value, after)


def loss(model, batch):
    return model.loss(*batch)


def carrying(model, batch, state):
    return model.loss(*batch, state=state)


class Problem:
    """A small run: `fit` it, stop it, ask for all that it has changed."""

    def __init__(self, folder=None, carry=False, noisy=False, schedule=optim.CosineSchedule, **options):
        tg.manual_seed(5)
        rng = np.random.default_rng(0)
        x = rng.normal(size=(6, 5, 2)).astype(np.float32)
        y = x.cumsum(0)[:, :, :1]
        self.model = Net()
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.02)
        self.schedule = None
        if schedule is optim.PlateauSchedule:
            self.schedule = schedule(self.optimizer, patience=0, threshold=0.5)
        elif schedule is not None:
            self.schedule = schedule(self.optimizer, 9, warmup=2)
        if carry:
            self.data, self.loss = [(x[t : t + 2], y[t : t + 2]) for t in range(0, 6, 2)], carrying
        else:
            self.data, self.loss = tg.data.Minibatches(lambda some: (x[:, some], y[:, some]), 5, 2), loss
        if noisy:
            self.data = Noisy(self.data)
        self.options = dict(carry=carry, clip_norm=0.5, file=io.StringIO()) | options
        if folder is not None:
            self.options |= dict(checkpoint=folder / "run.safetensors")

    def fit(self, **options):
        options = dict(epochs=EPOCHS, loss=self.loss) | self.options | options
        return tg.fit(self.model, self.data, optimizer=self.optimizer, schedule=self.schedule, **options)

    def everything(self):
        """Bytes and plain data, equal only where all bits are."""
        state = {name: array.tobytes() for name, array in self.model.state_dict().items()}
        kept = [{k: np.asarray(v).tobytes() for k, v in one.items()} for one in self.optimizer.kept]
        schedule = self.schedule.state_dict() if self.schedule else None
        return state, self.optimizer.settings, kept, schedule, random.get_state()


class Noisy:
    """Data that draw while they are gone through, between the draws of the model's dropout."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        for x, y in self.batches:
            yield x + random.generator().normal(size=x.shape).astype(np.float32) / 10, y

    def __len__(self):
        return len(self.batches)


def validation(model):
    assert not model.training
    return float(np.abs(model.readout.W.data).sum()) + random.generator().normal() / 100


class Killed(BaseException):
    """What no code catches on purpose."""


# ---- it trains ------------------------------------------------------------------------------------------------------


def test_the_loop_does_what_one_writes_by_hand():
    problem = Problem()
    history = problem.fit()

    by_hand = Problem()
    expected = []
    for _ in range(EPOCHS):
        drawn = np.random.PCG64(int(random.generator().integers(2**63)))
        with random.replaying(drawn.state):
            batches = list(by_hand.data)
        for batch in batches:
            value = loss(by_hand.model, batch)
            by_hand.optimizer.zero_grad()
            value.backward()
            optim.clip_grad_norm_(by_hand.model.parameters(), 0.5)
            by_hand.optimizer.step()
            by_hand.schedule.step()
            expected.append(value.item())
    assert history["losses"] == expected
    assert by_hand.everything() == problem.everything()


def test_the_loss_falls_and_the_history_tells_it():
    problem = Problem(schedule=None)
    history = problem.fit(epochs=20, validate=validation)
    assert history.keys() == {"losses", "norms", "epochs", "best"}
    assert len(history["losses"]) == len(history["norms"]) == 60
    assert np.mean(history["losses"][-6:]) < 0.7 * np.mean(history["losses"][:6])
    first, second = history["epochs"][:2]
    assert first.keys() == {"epoch", "steps", "loss", "lr", "validation"}
    assert (second["epoch"], second["steps"], second["lr"]) == (1, 6, 0.02)
    assert second["loss"] == pytest.approx(np.mean(history["losses"][3:6]))
    figures = [epoch["validation"] for epoch in history["epochs"]]
    assert history["best"] == int(np.argmin(figures))


def test_epochs_are_in_another_order_each_time_and_a_seed_repeats_them():
    problem = Problem()
    orders = []
    problem.data = tg.data.Minibatches(lambda some: orders.append(some.tolist()) or problem_batch(some), 5, 2)
    problem.fit()
    assert all(sorted(np.concatenate(orders[i : i + 3])) == list(range(5)) for i in (0, 3, 6))
    assert orders[:3] != orders[3:6]
    again, orders[:] = orders[:], []
    random.manual_seed(5)
    problem = Problem()
    problem.data = tg.data.Minibatches(lambda some: orders.append(some.tolist()) or problem_batch(some), 5, 2)
    problem.fit()
    assert orders == again


def problem_batch(some):
    return np.ones((2, len(some), 2), np.float32), np.ones((2, len(some), 1), np.float32)


def test_the_models_own_loss_is_the_default():
    class Line(Linear):
        def loss(self, x, y):
            return tg.losses.mse(self(x), y)

    x = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
    model = Line(1, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    history = tg.fit(model, [(x, 2 * x)], optimizer=optimizer, epochs=100, file=io.StringIO())
    assert history["losses"][-1] < 1e-6
    problem, default = Problem(carry=True), Problem(carry=True)
    problem.loss = None
    random.manual_seed(1)
    expected = default.fit()
    random.manual_seed(1)
    assert problem.fit() == expected
    with pytest.raises(TypeError, match="Linear has no loss of its own"):
        tg.fit(Linear(1, 1), [(x, x)], optimizer=optimizer, epochs=1)


def test_values_are_clipped():
    problem = Problem(schedule=None)
    problem.optimizer = optim.SGD(problem.model.parameters(), lr=1.0)
    before = problem.model.state_dict()
    problem.fit(clip_norm=None, clip_value=1e-3, epochs=1)
    moved = max(float(np.abs(array - before[name]).max()) for name, array in problem.model.state_dict().items() if name != "seen")
    assert 0 < moved <= 3.01e-3  # three steps of at most 1e-3


def test_a_state_is_carried_from_batch_to_batch_but_not_its_graph_nor_over_the_epochs_end():
    problem = Problem(carry=True)
    seen = []

    def watched(model, batch, state):
        seen.append(state)
        return carrying(model, batch, state)

    problem.fit(loss=watched, epochs=2)
    assert [state is None for state in seen] == [True, False, False] * 2
    assert not any(state.requires_grad for state in seen if state is not None)


def test_patience_and_the_best_parameters():
    figures = iter([3.0, 1.0, float("nan"), 2.0, 1.0, 0.0])
    kept = []

    def validate(model):
        kept.append(model.state_dict())
        return next(figures)

    problem = Problem(schedule=None)
    history = problem.fit(epochs=10, validate=validate, patience=3)
    assert len(history["epochs"]) == 5  # an equal one is no better
    assert history["best"] == 1
    assert all((kept[1][name] == array).all() for name, array in problem.model.state_dict().items())
    assert any((kept[4][name] != array).any() for name, array in problem.model.state_dict().items())


def test_a_plateau_schedule_goes_by_epochs_and_by_the_validation():
    problem = Problem(schedule=optim.PlateauSchedule)
    history = problem.fit(validate=lambda model: 1.0)
    assert [epoch["lr"] for epoch in history["epochs"]] == pytest.approx([0.02, 0.002, 0.0002])
    assert problem.schedule.n == EPOCHS


def test_modes_and_gradients_are_left_as_they_were():
    problem = Problem()
    problem.model.readout.eval()
    problem.fit(validate=validation)
    assert problem.model.training and problem.model.gru.training and not problem.model.readout.training
    assert all(parameter.grad is None for parameter in problem.model.parameters())


def test_progress_is_shown(capsys):
    file = io.StringIO()
    Problem().fit(validate=lambda model: 0.25, label="learning", file=file)
    shown = file.getvalue()
    assert "learning" in shown and "9/9" in shown and "loss " in shown and "validation 0.250" in shown
    assert capsys.readouterr() == ("", "")


# ---- stopped, and going on ------------------------------------------------------------------------------------------

VARIANTS = {
    "shuffled": {},
    "noisy": dict(noisy=True),
    "carried": dict(carry=True),
    "plateau": dict(schedule=optim.PlateauSchedule, validate=validation),
    "validated": dict(validate=validation, patience=2),
}


def stopped_in_step(problem, number, error):
    """Fit until step `number`, then raise: in the loss in odd steps, in even ones while the gradient is computed."""
    count = 0

    def fail(g=None):
        raise error

    def objective(*arguments):
        nonlocal count
        count += 1
        result = problem.loss(*arguments)
        if count == number and count % 2:
            fail()
        if count == number:
            (result[0] if isinstance(result, tuple) else result).register_hook(fail)
        return result

    with pytest.raises(type(error)):
        problem.fit(loss=objective)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("error", "every"), [(KeyboardInterrupt, None), (Killed, 2)])
@pytest.mark.usefixtures("no_waiting_for_the_disk")
def test_a_run_that_is_stopped_in_any_step_is_the_uninterrupted_one_bit_for_bit(tmp_path, variant, error, every):
    whole = Problem(tmp_path, **VARIANTS[variant])
    expected = whole.fit(), whole.everything()
    steps = len(expected[0]["losses"])
    assert steps >= 9
    for number in range(1, steps + 1):
        (tmp_path / "run.safetensors").unlink()
        stopped_in_step(Problem(tmp_path, every=every, **VARIANTS[variant]), number, error())
        if not (tmp_path / "run.safetensors").exists():
            assert error is Killed and number <= every  # before anything was written
            Problem(tmp_path, **VARIANTS[variant]).fit()
            continue
        again = Problem(tmp_path, **VARIANTS[variant])
        random.manual_seed(number)  # a new process has drawn something else
        assert (again.fit(resume=True), again.everything()) == expected


@pytest.mark.usefixtures("no_waiting_for_the_disk")
def test_the_file_is_written_every_so_many_steps_and_after_each_epoch(tmp_path, monkeypatch):
    written, save = [], Run.save
    monkeypatch.setattr(Run, "save", lambda run: (written.append(run.steps), save(run)))
    Problem(tmp_path, every=2).fit()  # three steps in an epoch
    assert written == [2, 3, 4, 6, 6, 8, 9]


def test_a_run_that_is_interrupted_at_every_single_step_again_and_again(tmp_path):
    whole = Problem(tmp_path)
    expected = whole.fit(), whole.everything()
    (tmp_path / "run.safetensors").unlink()
    for step in (1, 2, 1, 2, 1, 1, 1, 2, 3, 2, 1):  # of those that are left; in the first one nothing is gained
        stopped_in_step(Problem(tmp_path, resume=True), step, KeyboardInterrupt())
    again = Problem(tmp_path)
    assert (again.fit(resume=True), again.everything()) == expected


@pytest.mark.parametrize("place", ["validate", "save", "learned", "finished_epoch", "optimizer"])
def test_an_interrupt_at_other_places(tmp_path, monkeypatch, place):
    """SIGINT itself, while the model is validated, the file written, or in the middle of an update, which is finished first."""
    options = dict(validate=validation)
    whole = Problem(tmp_path, **options)
    expected = whole.fit(), whole.everything()
    (tmp_path / "run.safetensors").unlink()

    problem = Problem(tmp_path, **options)
    calls = 0

    def interrupting(function):
        def called(*arguments):
            nonlocal calls
            calls += 1
            if calls == 2:
                signal.raise_signal(signal.SIGINT)
            return function(*arguments)

        return called

    if place == "validate":
        problem.options["validate"] = interrupting(validation)
    elif place == "optimizer":
        problem.optimizer.moved = interrupting(problem.optimizer.moved)  # the second of six parameters
    else:
        method = getattr(tg.runs.Run, place)
        monkeypatch.setattr(tg.runs.Run, place, lambda *arguments: interrupting_method(*arguments))
        interrupting_method = interrupting(method)
    with pytest.raises(KeyboardInterrupt):
        problem.fit()
    monkeypatch.undo()
    if place == "optimizer":
        stepped = [kept["t"] for kept in problem.optimizer.kept]
        assert stepped == [1] * len(stepped)
    again = Problem(tmp_path, **options)
    assert (again.fit(resume=True), again.everything()) == expected


def test_a_finished_run_is_not_run_again_but_may_be_prolonged(tmp_path):
    options = dict(validate=validation, schedule=None)
    problem = Problem(tmp_path, **options)
    history = problem.fit(epochs=2)
    again = Problem(tmp_path, **options)
    again.loss = None
    assert again.fit(epochs=2, resume=True, loss=lambda *_: pytest.fail("it was finished")) == history
    assert again.everything()[0] == problem.everything()[0]  # the best parameters
    longer = Problem(tmp_path, **options)
    resumed = longer.fit(epochs=4, resume=True)
    (tmp_path / "run.safetensors").unlink()
    whole = Problem(tmp_path, **options)
    assert whole.fit(epochs=4) == resumed
    assert whole.everything() == longer.everything()


def test_without_resume_a_run_starts_anew_and_without_a_file_it_starts_at_all(tmp_path):
    problem = Problem(tmp_path)
    first = problem.fit(resume=True)
    assert Problem(tmp_path).fit(epochs=1)["losses"] == first["losses"][:3]


def test_the_file_is_a_checkpoint_like_others(tmp_path):
    problem = Problem(tmp_path)
    problem.fit()
    model = Net()
    tg.load(tmp_path / "run.safetensors", model)
    assert {name: array.tobytes() for name, array in model.state_dict().items()} == problem.everything()[0]


def test_another_program_in_another_process_killed_and_resumed(tmp_path):
    """SIGKILL from outside at some moment, then the same command again until it is done."""
    script = tmp_path / "train.py"
    script.write_text(f"""
import hashlib, io, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from pathlib import Path
from test_training import Problem
folder = Path(sys.argv[1])
problem = Problem(folder, every=1, resume=True)
history = problem.fit(epochs=60)
print(hashlib.sha256(repr((history, problem.everything())).encode()).hexdigest())
""", encoding="utf-8")  # fmt: skip

    def start(folder):
        folder.mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, str(script), str(folder)], stdout=subprocess.PIPE, text=True)

    whole = start(tmp_path / "whole").communicate(timeout=120)[0]
    file = tmp_path / "killed" / "run.safetensors"
    for _ in range(2):
        process = start(tmp_path / "killed")
        before = file.stat().st_mtime_ns if file.exists() else 0
        changes = 0
        while changes < 20 and process.poll() is None:
            now = file.stat().st_mtime_ns if file.exists() else before
            changes, before = changes + (now != before), now
        process.kill()
        assert process.communicate(timeout=60)[0] == ""  # it was not finished
    assert start(tmp_path / "killed").communicate(timeout=120)[0] == whole != ""


# ---- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyError("no"), KeyboardInterrupt()])
def test_any_error_leaves_the_state_after_the_last_whole_step(error):
    problem = Problem()
    with pytest.raises(type(error)):
        problem.fit(loss=fails_at(4, error))
    shorter = Problem()
    shorter.fit(epochs=1)
    assert problem.everything()[:4] == shorter.everything()[:4]
    assert problem.model.training
    assert all(parameter.grad is None for parameter in problem.model.parameters())


def fails_at(number, error):
    count = 0

    def objective(model, batch):
        nonlocal count
        count += 1
        value = loss(model, batch)
        if count == number:
            value.backward()
            raise error
        return value

    return objective


def test_a_loss_that_is_not_finite_stops_the_run_before_it_does_harm():
    count = 0

    def exploding(model, batch):
        nonlocal count
        count += 1
        return loss(model, batch) * (np.inf if count == 5 else 1)

    problem = Problem()
    with pytest.raises(FloatingPointError, match=r"the loss is inf at step 4 \(batch 1 of epoch 1\)"):
        problem.fit(loss=exploding)
    assert all(np.isfinite(array).all() for array in problem.model.state_dict().values())
    assert problem.schedule.n == 4


@pytest.mark.parametrize(("options", "error", "message"), [
    (dict(epochs=0),                          ValueError, "epochs must be at least 1, not 0"),
    (dict(patience=0, validate=validation),   ValueError, "patience must be at least 1"),
    (dict(patience=1),                        ValueError, "patience needs validate"),
    (dict(every=1),                           ValueError, "need checkpoint"),
    (dict(resume=True),                       ValueError, "need checkpoint"),
    (dict(loss=lambda model, batch: 1.0),     TypeError,  "a scalar tensor; got a float"),
    (dict(loss=lambda model, batch: model(batch[0])[0]), TypeError, r"got a tensor of shape \(6, 2, 1\)"),
    (dict(loss=lambda *_: 1.0, carry=True),   TypeError,  "gives a pair, the loss and the state, not a float"),
    (dict(loss=carrying, carry=False),        TypeError,  "missing 1 required positional argument"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(options, error, message):
    problem = Problem()
    before = problem.everything()[:4]
    with pytest.raises(error, match=message):
        problem.fit(**options)
    after = problem.everything()[:4]
    assert after == before


def test_data_that_cannot_be_gone_through_again_are_refused():
    problem = Problem()
    problem.data = iter(list(problem.data))
    with pytest.raises(TypeError, match="an iterator is gone through only once"):
        problem.fit()
    problem.data = []
    with pytest.raises(ValueError, match="the data give no batches"):
        problem.fit()


def test_a_function_may_give_the_data():
    expected = Problem().fit()
    problem = Problem()
    batches = problem.data
    problem.data = lambda: (batch for batch in batches)
    assert problem.fit() == expected


def test_checkpoints_that_do_not_fit_are_told_and_change_nothing(tmp_path):
    problem = Problem(tmp_path)
    stopped_in_step(problem, 3, KeyboardInterrupt())

    shorter = Problem(tmp_path)
    shorter.data = list(shorter.data)[:1]
    with pytest.raises(tg.CheckpointError, match="behind batch 2 of an epoch, and the data give only 1"):
        shorter.fit(resume=True)

    other = Problem(tmp_path)
    other.model.readout = Linear(4, 1, bias=False)
    other.optimizer = optim.Adam(other.model.parameters())
    other.schedule = None
    before = other.everything()
    with pytest.raises(tg.CheckpointError, match=r"unexpected: readout\.b"):
        other.fit(resume=True)
    assert other.everything() == before

    tg.save(tmp_path / "run.safetensors", problem.model, problem.optimizer, {"epoch": 3}, schedule=problem.schedule)
    before = problem.everything()
    with pytest.raises(tg.CheckpointError, match="does not hold a run that fit has written; load reads"):
        problem.fit(resume=True)
    assert problem.everything() == before


@pytest.mark.parametrize(("change", "message"), [
    (lambda run, arrays: run.update(epoch="1"),                              "does not hold a run"),
    (lambda run, arrays: run.update(taken=-1),                               "does not hold a run"),
    (lambda run, arrays: run.update(best=1),                                 "does not hold a run"),
    (lambda run, arrays: run.update(epochs=[]),                              "does not hold a run"),
    (lambda run, arrays: run.update(epochs=[{}]),                            "does not hold a run"),
    (lambda run, arrays: run["epochs"][0].update(loss="x"),                  "does not hold a run"),
    (lambda run, arrays: run.update(more=1),                                 "does not hold a run"),
    (lambda run, arrays: run.pop("waited"),                                  "does not hold a run"),
    (lambda run, arrays: run.update(carried=[0, 7]),                         "does not hold a run"),
    (lambda run, arrays: run.update(carried={"h": "x"}),                     "does not hold a run"),
    (lambda run, arrays: arrays.update(losses=np.zeros(9)),                  "does not hold a run"),
    (lambda run, arrays: arrays.pop("norms"),                                "does not hold a run"),
    (lambda run, arrays: run.update(drawn_from={"bit_generator": "MT19937"}), "not the state of a generator"),
    (lambda run, arrays: run.update(drawn_from=[1]),                         "not the state of a generator"),
    (lambda run, arrays: arrays.pop("best.readout.b"),                       r"missing: readout\.b"),
    (lambda run, arrays: arrays.update({"best.readout.b": np.zeros(3)}),     r"readout\.b: shape \(3,\) instead of \(1,\)"),
])  # fmt: skip
def test_a_run_that_cannot_be_is_told_and_changes_nothing(tmp_path, change, message):
    path = tmp_path / "run.safetensors"
    problem = Problem(tmp_path, validate=validation)
    stopped_in_step(problem, 5, KeyboardInterrupt())
    metadata, arrays = tg.peek(path)
    change(metadata["run"], arrays)
    tg.save(path, problem.model, problem.optimizer, metadata, schedule=problem.schedule, arrays=arrays)
    other = Problem(tmp_path, validate=validation)
    before = other.everything()
    with pytest.raises(tg.CheckpointError, match=message):
        other.fit(resume=True)
    assert other.everything() == before


# ---- interrupts -------------------------------------------------------------------------------------------------------


def test_an_interrupt_waits_for_the_end_of_the_block():
    done = []

    def interrupted():
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_in_the_block_comes_out_as_it_is():
    with pytest.raises(KeyError), undisturbed():
        raise KeyError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_train_too():
    problem = Problem()
    histories = []
    thread = threading.Thread(target=lambda: histories.append(problem.fit(epochs=1)))
    thread.start()
    thread.join()
    assert len(histories[0]["losses"]) == 3


def test_an_optimiser_of_another_model_is_refused():
    model, other = Linear(2, 1), Linear(2, 1)
    batch = (np.ones((3, 2), np.float32), np.ones((3, 1), np.float32))
    for optimizer, error in ((tg.optim.SGD(other.parameters(), lr=0.1), ValueError), (tg.optim.SGD, TypeError)):
        with pytest.raises(error, match=r"of (this model|model\.parameters)"):
            tg.fit(model, [batch], lambda model, batch: tg.losses.mse(model(batch[0]), batch[1]), optimizer=optimizer, epochs=1)
