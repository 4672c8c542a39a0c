"""Our recurrent layers beside PyTorch's own, in all their forms: outputs, states and all gradients to 1e-9 in float64."""

import numpy as np
import pytest

from ..models.cases import Case, assert_same, grid, ours
from .layers_in_torch import theirs

CASES = list(grid())


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_layer_is_pytorchs(case: Case) -> None:
    inputs = case.inputs(seed=1)
    assert_same(ours(case, inputs), theirs(case, inputs))


def test_the_grid_is_whole() -> None:
    for field, values in dict(
        kind={"RNN", "GRU", "LSTM"}, num_layers={1, 2}, bidirectional={False, True}, bias={False, True},
        batch_first={False, True}, nonlinearity={"tanh", "relu"}, proj_size={0, 2},
    ).items():  # fmt: skip
        assert {getattr(case, field) for case in CASES} == values
    assert len({np.array(case.lengths).tobytes() for case in CASES if case.lengths is not None}) == 4
