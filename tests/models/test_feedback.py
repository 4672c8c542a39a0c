"""The network whose memory is its output: all steps at once are the steps one after the other, forward and backward."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import FeedbackTagger, OutputRNNCell, Recurrent, RNNCell, fed_back, teacher_forced
from tinygrad_seq.models.forcing import by_teacher

T, B, I, H, O = 7, 3, 2, 5, 4


def made(**options):
    tg.manual_seed(0)
    return OutputRNNCell(I, H, O, **options).to(np.float64)


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(T, B, I)), rng.dirichlet(np.ones(O), size=(T, B)), rng.dirichlet(np.ones(O), size=B)


def results(outputs, leaves, cell):
    """Values, and the gradients of a weighted sum of them."""
    (outputs * np.cos(np.arange(outputs.size) * 1.7).reshape(outputs.shape)).sum().backward()
    found = [outputs.data] + [leaf.grad.data for leaf in [*leaves, *cell.parameters()]]
    for parameter in cell.parameters():
        parameter.zero_grad()
    return found


def leaves_of(*arrays):
    return [tg.tensor(array, requires_grad=True) for array in arrays]


FORMS = [{}, dict(bias=False), dict(nonlinearity="relu", output_activation=None), dict(output_activation="sigmoid")]


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_all_steps_at_once_are_the_steps_one_after_the_other(options):
    cell, (x, y, start) = made(**options), inputs()
    at_once, one_by_one = [], []
    for run, found in ((teacher_forced, at_once), (lambda *given: fed_back(*given[:3], 1, given[3]), one_by_one)):
        leaves = leaves_of(x, start)
        found += results(run(cell, leaves[0], y, leaves[1]), leaves, cell)
    for a, b in zip(at_once, one_by_one):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
    assert len(at_once) == len(one_by_one) == 3 + len(list(cell.parameters()))


def test_they_are_the_cell_itself_called_in_a_loop():
    cell, (x, y, start) = made(), inputs()
    expected, previous = [], start
    for t in range(T):
        expected.append(cell(x[t], previous).data)
        previous = y[t]
    np.testing.assert_allclose(teacher_forced(cell, x, y, start).data, expected, rtol=0, atol=1e-13)


def test_targets_may_be_whole_numbers():
    cell, (x, y, _) = made(), inputs()
    rows = np.eye(O, dtype=int)[y.argmax(axis=-1)]
    np.testing.assert_array_equal(teacher_forced(cell, x, rows).data, teacher_forced(cell, x, rows.astype(float)).data)


def test_running_freely_is_the_layer():
    cell, (x, _, start) = made(), inputs()
    outputs, _ = Recurrent(cell)(x, start)
    leaves, others = leaves_of(x, start), leaves_of(x, start)
    for a, b in zip(
        results(fed_back(cell, leaves[0], start=leaves[1]), leaves, cell),
        results(Recurrent(cell)(*others)[0], others, cell),
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fed_back(cell, x, start=start).data, outputs.data, rtol=0, atol=1e-13)


def test_in_between_each_step_and_row_reads_what_its_coin_says():
    cell, (x, y, _) = made(), inputs()
    tg.manual_seed(4)
    found = fed_back(cell, x, y, teacher=0.5).data
    tg.manual_seed(4)
    coins = by_teacher(0.5, T, B)
    assert 0 < coins[1:].mean() < 1
    previous = np.zeros((B, O))
    for t in range(T):
        said = cell(x[t], previous).data
        np.testing.assert_allclose(found[t], said, rtol=0, atol=1e-13)
        if t + 1 < T:
            previous = np.where(coins[t + 1][:, None], y[t], said)


def test_what_stands_between_is_applied_to_outputs_and_not_to_targets():
    cell, (x, y, _) = made(output_activation=None), inputs()
    said = [cell(x[0], np.zeros((B, O))).data]
    said.append(cell(x[1], np.tanh(said[0])).data)
    np.testing.assert_allclose(fed_back(cell, x[:2], between=np.tanh).data, said, rtol=0, atol=1e-13)
    forced = fed_back(cell, x, y, teacher=1, between=np.tanh).data
    np.testing.assert_allclose(forced, teacher_forced(cell, x, y).data, rtol=0, atol=1e-13)


def test_all_steps_at_once_are_no_loop():
    """The tape is as long for 50 steps as for 2, and still knows which step gave what to the gradient."""
    cell = made()
    lengths = []
    for steps in (2, 50):
        x, y = np.ones((steps, B, I)), np.full((steps, B, O), 0.25)
        lengths.append(len(tg.tape(teacher_forced(cell, x, y).sum())))
    assert lengths[0] == lengths[1]


def test_each_steps_part_of_a_gradient_can_be_told():
    cell, (x, y, start) = made(), inputs()
    weights = np.cos(np.arange(T * B * O)).reshape(T, B, O)
    for name, parameter in cell.named_parameters():
        at_once = tg.bptt.weight_gradients((teacher_forced(cell, x, y, start) * weights).sum(), parameter)
        in_turn = tg.bptt.weight_gradients((fed_back(cell, x, y, 1, start) * weights).sum(), parameter)
        assert at_once.keys() == in_turn.keys() == set(range(T)), name
        for t in range(T):
            np.testing.assert_allclose(at_once[t], in_turn[t], rtol=0, atol=1e-12, err_msg=name)


def test_a_cell_with_another_memory_is_refused():
    x, y, _ = inputs()
    for run in (teacher_forced, fed_back):
        with pytest.raises(TypeError, match="RNNCell carries on what no target can stand for"):
            run(RNNCell(I, O), x, y)


@pytest.mark.parametrize(("change", "match"), [
    (dict(x=np.zeros((T, B))), r"shape \(T, B, 2\)"),
    (dict(x=np.zeros((T, B, I + 1))), r"not \(7, 3, 3\)"),
    (dict(x=np.zeros((0, B, I))), "at least one step"),
    (dict(targets=np.zeros((T, B), int)), r"real numbers of shape \(7, 3, 4\), not int64 of shape \(7, 3\)"),
    (dict(targets=np.zeros((T - 1, B, O))), r"of shape \(6, 3, 4\)"),
    (dict(start=np.zeros(O)), r"start has the shape \(3, 4\), not \(4,\)"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(change, match):
    x, y, start = inputs()
    with pytest.raises(tg.ShapeError, match=match):
        teacher_forced(made(), **dict(x=x, targets=y, start=start) | change)
    with pytest.raises(tg.ShapeError, match=match):
        fed_back(made(), **dict(x=x, targets=y, start=start) | change)


def test_a_teacher_without_targets_is_refused():
    with pytest.raises(ValueError, match=r"with teacher=0\.5, targets are needed"):
        fed_back(made(), inputs()[0], teacher=0.5)


# ---- the model ------------------------------------------------------------------------------------------------------------


def test_a_feedback_tagger_predicts_as_it_runs_freely():
    tg.manual_seed(0)
    model = FeedbackTagger(I, H, O).to(np.float64)
    x, _, _ = inputs()
    cell, read, labels = model.cell, np.zeros((B, O)), []
    for t in range(T):
        o = cell(x[t], read).data
        read = np.exp(o) / np.exp(o).sum(axis=-1, keepdims=True)
        labels.append(o.argmax(axis=-1))
    np.testing.assert_array_equal(model.predict(x), labels)
    free = tg.losses.cross_entropy(model(x), np.array(labels)).item()
    np.testing.assert_allclose(model.loss(x, np.array(labels), teacher=0).item(), free, rtol=1e-14)


def test_the_gap_that_the_document_describes():
    """A memory of one bit, said aloud: trained by teacher forcing, the loss without a teacher is another one."""
    tg.manual_seed(1)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (12, 32))
    parity = np.cumsum(x, axis=0) % 2  # cannot be told from the input alone, and at once from it and the last label
    model = FeedbackTagger(2, 8, 2, embedding_size=4)
    optimizer = tg.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(80):
        optimizer.zero_grad()
        model.loss(x, parity).backward()
        optimizer.step()
    assert model.loss(x, parity).item() < 0.1
    assert model.loss(x, parity, teacher=0).item() > model.loss(x, parity).item()
    assert (model.predict(x) == parity).mean() > 0.95
