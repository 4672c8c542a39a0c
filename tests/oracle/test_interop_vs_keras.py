"""Weight lists beside Keras's own layers, on its PyTorch backend: both ways, the same answers. Skipped where Keras is absent."""

import os

import numpy as np
import pytest

from tinygrad_seq import interop
from tinygrad_seq.models import GRU, LSTM, RNN

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", reason="pip install keras to compare with it")

keras.config.set_floatx("float64")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras's own, on NumPy 2
T, B, I, H = 6, 3, 3, 4

KINDS = {
    "SimpleRNN": (RNN, {}, {}),
    "GRU": (GRU, dict(reset_after=True), {}),
    "GRU reset before": (GRU, {}, dict(reset_after=False)),
    "LSTM": (LSTM, {}, {}),
}


def pair(kind, bias, both):
    """(our layer, Keras's) with weights of their own."""
    make, ours, theirs = KINDS[kind]
    layer = make(I, H, batch_first=True, bias=bias, bidirectional=both, **ours).to(np.float64)
    other = getattr(keras.layers, kind.split()[0])(H, use_bias=bias, return_sequences=True, **theirs)
    if both:
        other = keras.layers.Bidirectional(other)
    other.build((B, T, I))
    return layer, other


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_go_both_ways(kind, bias, both):
    layer, other = pair(kind, bias, both)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(B, T, I))

    def answers_agree():
        theirs = keras.ops.convert_to_numpy(other(x))
        np.testing.assert_allclose(layer(x)[0].data, theirs, rtol=0, atol=2e-6)  # its own loop over time rounds to float32

    other.set_weights([rng.normal(size=array.shape) for array in other.get_weights()])
    interop.load_keras(layer, other.get_weights())
    answers_agree()
    for parameter in layer.parameters():
        parameter.overwrite(rng.normal(size=parameter.shape))
    other.set_weights(interop.to_keras(layer))
    answers_agree()
