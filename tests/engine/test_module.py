"""Modules find their parameters wherever the attributes hold them, load all or nothing, and print as a tree."""

import copy
import pickle

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import Module, Parameter


class Affine(Module):
    def __init__(self, n_in, n_out):
        self.W = Parameter(np.arange(n_in * n_out, dtype=np.float64).reshape(n_in, n_out))
        self.b = Parameter(np.zeros(n_out))

    def forward(self, x):
        return x @ self.W + self.b


class Stack(Module):
    """Parts of all kinds, without a call of super().__init__()."""

    def __init__(self):
        self.first = Affine(2, 3)
        self.layers = [Affine(3, 3), (Affine(3, 1),)]
        self.scale = Parameter([2.0])
        self.heads = {"mean": Affine(1, 1), "gains": [Parameter([1.0]), Parameter([2.0])]}
        self.register_buffer("seen", np.zeros(2))
        self.note = "no parameter"

    def forward(self, x):
        for layer in (self.first, self.layers[0], self.layers[1][0]):
            x = np.tanh(layer(x))
        return x * self.scale


NAMES = [
    "scale", "heads.gains.0", "heads.gains.1", "first.W", "first.b", "layers.0.W", "layers.0.b", "layers.1.0.W", "layers.1.0.b",
    "heads.mean.W", "heads.mean.b",
]  # fmt: skip


def test_parameters_and_modules_are_found_by_dotted_names():
    model = Stack()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert [id(p) for p in model.parameters()] == [id(p) for _, p in model.named_parameters()]
    assert [name for name, _ in model.named_modules()] == ["", "first", "layers.0", "layers.1.0", "heads.mean"]
    assert next(model.modules()) is model


def test_a_list_may_grow_and_a_part_be_replaced():
    model = Stack()
    model.layers.append(Affine(1, 1))
    assert "layers.2.W" in dict(model.named_parameters())
    del model.first
    assert "first.W" not in dict(model.named_parameters())


def test_a_shared_parameter_is_listed_once_and_loaded_for_all():
    model = Stack()
    model.layers[0].W = model.tied = Parameter(np.ones((3, 3)))
    names = [name for name, p in model.named_parameters() if p is model.tied]
    assert names == ["tied"]
    model.load_state_dict({**model.state_dict(), "tied": np.full((3, 3), 7.0)})
    assert (model.layers[0].W.data == 7).all()


def test_a_module_that_is_shared_or_holds_its_owner_is_listed_once():
    model = Stack()
    model.again = model.first
    model.first.owner = model
    assert [name for name, _ in model.named_modules()].count("first") == 1
    assert len(list(model.modules())) == 5
    assert "shared" in repr(model)


def test_parameters_get_the_attribute_as_name_unless_they_have_one():
    named = Parameter([1.0], name="mine")
    model = Affine(1, 1)
    model.extra = named
    model.more = [Parameter([1.0])]
    assert (model.W.name, model.b.name, model.extra.name, model.more[0].name) == ("W", "b", "mine", "more.0")
    with tg.record() as tape:
        model(np.ones((1, 1)))
    assert "W" in str(tape)


def test_nothing_else_takes_a_parameters_place():
    model = Affine(2, 2)
    with pytest.raises(TypeError, match=r"Affine\.W is a parameter"):
        model.W = model.W * 2
    with pytest.raises(TypeError, match="overwrite"):
        model.W = np.zeros((2, 2))
    model.W = replacement = Parameter(np.zeros((2, 2)))
    assert model.W is replacement
    model.b = None  # a module without bias
    assert [name for name, _ in model.named_parameters()] == ["W"]


def test_call_is_forward_and_a_module_without_says_so():
    model = Affine(2, 1)
    np.testing.assert_array_equal(model(np.ones((1, 2))).data, [[1.0]])
    with pytest.raises(NotImplementedError, match="Module does not define forward"):
        Module()(1)


# ---- state ----------------------------------------------------------------------------------------------------------


def test_state_dict_is_a_copy_of_all_parameters_and_buffers():
    model = Stack()
    state = model.state_dict()
    assert list(state) == [*NAMES, "seen"]
    state["scale"][:] = 99
    state["seen"][:] = 99
    assert model.scale.data == 2
    assert (model.seen == 0).all()


def test_state_dict_goes_to_another_model_of_the_same_making():
    source, target = Stack(), Stack()
    for parameter in source.parameters():
        parameter.overwrite(parameter.data + 1)
    source.seen = np.array([3.0, 4.0])
    state = source.state_dict()
    target.load_state_dict(state)
    assert all((state[name] == array).all() for name, array in target.state_dict().items())
    state["seen"][:] = 0
    assert (target.seen == [3, 4]).all()  # a copy
    x = np.ones((2, 2))
    np.testing.assert_array_equal(target(x).data, source(x).data)


def test_a_state_that_does_not_fit_is_told_in_full_and_changes_nothing():
    model = Stack()
    before = model.state_dict()
    state = {name: array + 1 for name, array in model.state_dict().items()}
    del state["first.b"]
    state["stranger"] = np.zeros(1)
    state["scale"] = np.zeros((2, 2))
    state["heads.mean.W"] = state["heads.mean.W"].astype(np.float32)
    with pytest.raises(ValueError, match="does not fit Stack") as caught:
        model.load_state_dict(state)
    message = str(caught.value)
    assert "missing: first.b" in message
    assert "unexpected: stranger" in message
    assert "scale: shape (2, 2) instead of (1,)" in message
    assert "heads.mean.W: dtype float32 instead of float64" in message
    assert all((before[name] == array).all() for name, array in model.state_dict().items())


def test_loading_that_is_not_strict_takes_what_there_is():
    model = Affine(1, 1)
    model.load_state_dict({"W": np.array([[5.0]]), "stranger": np.zeros(3)}, strict=False)
    assert (model.W.data, model.b.data) == (5, 0)
    with pytest.raises(ValueError, match="shape"):
        model.load_state_dict({"W": np.zeros(3)}, strict=False)


def test_a_backward_pass_through_values_from_before_loading_raises():
    model = Affine(2, 1)
    x = tg.tensor(np.ones((1, 2)), requires_grad=True)
    loss = (x @ model.W).sum()
    model.load_state_dict(model.state_dict())
    with pytest.raises(tg.OverwrittenError, match="'W'"):
        loss.backward()


def test_two_parameters_of_one_name_are_refused():
    model = Module()
    model.parts = {1: Parameter([1.0]), "1": Parameter([2.0])}
    assert len(list(model.parameters())) == 2
    with pytest.raises(ValueError, match=r"'parts\.1'"):
        model.state_dict()


def test_buffers_are_state_but_not_parameters():
    model = Module()
    model.register_buffer("mean", [1.0, 2.0])
    model.register_buffer("mean", np.array([3.0, 4.0]))
    assert list(model.parameters()) == []
    assert [(name, array.tolist()) for name, array in model.named_buffers()] == [("mean", [3.0, 4.0])]
    assert not hasattr(Module(), "mean")


# ---- what is done to all of it --------------------------------------------------------------------------------------


def test_train_and_eval_reach_every_part():
    model = Stack()
    assert all(module.training for module in model.modules())
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    model.train()
    assert all(module.training for module in model.modules())


def test_zero_grad():
    model = Affine(2, 1)
    model(np.ones((1, 2))).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_to_converts_parameters_gradients_and_floating_buffers_in_place():
    model = Affine(2, 1)
    model.register_buffer("mean", np.zeros(1))
    model.register_buffer("count", np.zeros(1, int))
    before = list(model.parameters())
    loss = (model(np.ones((1, 2))) ** 2).sum()  # taped in float64, and swept after the conversion
    model.b.grad = np.ones(1)
    assert model.to(np.float32) is model
    assert [id(p) for p in model.parameters()] == [id(p) for p in before]
    assert {p.dtype for p in model.parameters()} == {np.dtype("f4")}
    assert (model.b.grad.dtype, model.mean.dtype, model.count.dtype) == (np.dtype("f4"), np.dtype("f4"), np.dtype(int))
    model.zero_grad()
    loss.backward()
    assert model.W.grad.dtype == np.float32
    np.testing.assert_array_equal(model.W.grad.data, [[2.0], [2.0]])
    model(np.ones((1, 2), np.float32)).sum().backward()
    assert model(np.ones((1, 2), np.float32)).dtype == np.float32
    with pytest.raises(TypeError, match="floating"):
        model.to(int)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"])
def test_copies_stand_alone_and_keep_what_is_shared(copied):
    model = Stack()
    model.tied = model.first.W
    model.first.W.grad = np.ones((2, 3))
    model.eval()
    other = copied(model)
    assert other.tied is other.first.W
    assert other.tied is not model.tied
    assert [name for name, _ in other.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert (other.first.W.name, other.first.W.requires_grad, other.training) == ("W", True, False)
    assert (other.first.W.grad.data == 1).all()
    other.scale.overwrite([5.0])
    other.seen[:] = 1
    assert model.scale.data == 2
    assert (model.seen == 0).all()


def test_repr_is_a_tree_with_counts():
    assert repr(Stack()) == "\n".join(
        [
            "Stack                  30  scale (1,), heads.gains.0 (1,), heads.gains.1 (1,)",
            "├─ first: Affine        9  W (2, 3), b (3,)",
            "├─ layers.0: Affine    12  W (3, 3), b (3,)",
            "├─ layers.1.0: Affine   4  W (3, 1), b (1,)",
            "└─ heads.mean: Affine   2  W (1, 1), b (1,)",
        ]
    )
    outer = Module()
    outer.inner = Module()
    outer.inner.leaf = Affine(100, 11)
    outer.last = Affine(1, 1)
    assert repr(outer) == "\n".join(
        [
            "Module              1,113",
            "├─ inner: Module    1,111",
            "│  └─ leaf: Affine  1,111  W (100, 11), b (11,)",
            "└─ last: Affine         2  W (1, 1), b (1,)",
        ]
    )
