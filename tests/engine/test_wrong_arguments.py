"""Arguments of another kind: each error says what came, what was asked for and the way there, and changes nothing.

Every call below is one that somebody makes who comes from elsewhere, or who types in a hurry: a module where its parameters are
asked for, a single loss where a list is, a name where a tensor is. Left alone, each would end in an AttributeError, KeyError
or IndexError from our inside, or in nothing at all.
"""

import io
import re
from operator import attrgetter

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.explain import ELSEWHERE, HABITS, told
from tinygrad_seq.models import LSTM, RNN, Linear, SequenceGenerator, SequenceTagger


class Bench:
    """A module with an optimiser, three recurrent steps and their losses; new for each call."""

    def __init__(self):
        tg.manual_seed(0)
        self.module = Linear(3, 2)
        self.optimizer = tg.optim.Adam(self.module.parameters(), lr=0.1)
        self.rnn = RNN(3, 4)
        self.writer = SequenceGenerator(2, 4, output_size=7)
        self.x = np.ones((5, 2, 3), np.float32)
        self.W = tg.Parameter(np.eye(3) / 2, name="W")
        self.states, self.losses = [], []
        h = tg.tensor(np.ones((1, 3)))
        for t in range(3):
            with tg.scope("rnn", t=t):
                h = np.tanh(h @ self.W)
                h.name = f"h<{t}>"
            self.states.append(h)
            self.losses.append(h.sum())
        self.loss = self.losses[-1]
        self.tape = tg.tape(self.loss)
        self.window = next(iter(tg.bptt.Truncated(2)(self.x)))
        self.vocabulary = tg.data.Vocabulary("abc")

    def fit(self, **options):
        model, data = options.pop("model", self.module), options.pop("data", [(self.x[0],)])
        loss = options.pop("loss", lambda model, batch: (model(batch[0]) ** 2).sum())
        return tg.fit(model, data, loss, **{"optimizer": self.optimizer, "epochs": 1, "file": io.StringIO(), **options})

    def everything(self):
        """All that a call could have changed, in a comparable form."""
        parameters = [*self.module.parameters(), *self.rnn.parameters(), self.W]
        gradients = [None if parameter.grad is None else parameter.grad.numpy().tolist() for parameter in parameters]
        values = [parameter.numpy().tolist() for parameter in parameters]
        kept = self.optimizer.state_dict()["kept"]
        return values, gradients, self.optimizer.lr, kept, tg.random.get_state(), tg.default_dtype()


OPTIM = [
    (lambda b: tg.optim.Adam(b.module),                             TypeError,  r"not a Linear; pass its \.parameters\(\)"),
    (lambda b: tg.optim.Adam(b.module.parameters),                  TypeError,  "not a method; call it"),
    (lambda b: tg.optim.Adam(3.0),                                  TypeError,  "not a float; module.parameters"),
    (lambda b: tg.optim.Adam(Linear),                               TypeError,  "not the class Linear; module.parameters"),
    (lambda b: tg.optim.Adam([b.module]),                           TypeError,  r"not a Linear; pass its \.parameters\(\)"),
    (lambda b: tg.optim.Adam(b.module.named_parameters()),          TypeError,  "not a tuple; named_parameters"),
    (lambda b: tg.optim.Adam(b.module.state_dict()),                TypeError,  r"not a str; of a dict, pass d\.values"),
    (lambda b: tg.optim.Adam([{"params": [b.W], "lr": 1.0}]),       TypeError,  "make an optimiser for each"),
    (lambda b: tg.optim.Adam([b.W.numpy()]),                        TypeError,  "tg.Parameter"),
    (lambda b: tg.optim.Adam([b.W], betas=[0.9, 0.99]),             ValueError, r"betas = \[.*\] is out of range.* a tuple"),
    (lambda b: tg.optim.Adam([b.W], lr="0.1"),                      ValueError, "lr = '0.1' .* a finite number, at least 0"),
    (lambda b: tg.optim.SGD([b.W], nesterov=1),                     ValueError, "nesterov = 1 .* True or False"),
    (lambda b: tg.optim.clip_grad_norm_(b.module, 1.0),             TypeError,  r"not a Linear; pass its \.parameters\(\)"),
    (lambda b: tg.optim.clip_grad_norm_(b.optimizer, 1.0),          TypeError,  r"not an Adam; pass its \.parameters$"),
    (lambda b: tg.optim.clip_grad_norm_([b.W.numpy()], 1.0),        TypeError,  r"not an array of shape \(3, 3\)"),
    (lambda b: tg.optim.clip_grad_value_(b.module.state_dict(), 1), TypeError,  "clipping takes parameters, not a str"),
    (lambda b: tg.optim.clip_grad_norm_([b.W], None),               TypeError,  "max_norm must be a number above 0, not None"),
    (lambda b: tg.optim.clip_grad_norm_(iter([]), 1.0),             ValueError, "clipping was given no parameters: an iterator"),
    (lambda b: tg.optim.Adam(iter([])),                             ValueError, "an optimiser was given no .* only once"),
    (lambda b: tg.optim.Adam([]),                                   ValueError, "there are no parameters to learn"),
    (lambda b: tg.optim.clip_grad_value_([b.W], "1"),               TypeError,  "clip_value must be a number above 0, not '1'"),
    (lambda b: b.optimizer.load_state_dict(b.optimizer),            TypeError,  "a state is what .*, not an Adam"),
    (lambda b: b.optimizer.load_state_dict(b.module.state_dict()),  ValueError, "does not say of which optimiser"),
    (lambda b: tg.optim.StepSchedule(b.module, 3),                  TypeError,  "of an optimiser, .*not of a Linear"),
    (lambda b: tg.optim.CosineSchedule(0.1, 3),                     TypeError,  "of an optimiser, .*not of a float"),
    (lambda b: tg.optim.StepSchedule(b.optimizer, "3"),             TypeError,  "every must be a whole number, not '3'"),
    (lambda b: tg.optim.ConstantSchedule(b.optimizer).load_state_dict(None), TypeError, "and not None"),
]  # fmt: skip

FUNCTIONS = [
    (lambda b: tg.grad(3),                                TypeError, r"grad takes a function, not an int: grad\(f\)\(x\)"),
    (lambda b: tg.grad(b.loss, b.W),                      TypeError, r"not a tensor of shape \(\): .* loss\.backward\(\)"),
    (lambda b: tg.value_and_grad(None),                   TypeError, "value_and_grad takes a function, not None"),
    (lambda b: tg.hessian(b.loss),                        TypeError, "takes a function, not a tensor"),
    (lambda b: tg.jacobian("f"),                          TypeError, "jacobian takes a function, not a str"),
    (lambda b: tg.vjp(3, 1.0),                            TypeError, "vjp takes a function, not an int"),
    (lambda b: tg.jvp(3, (1.0,), (1.0,)),                 TypeError, "jvp takes a function, not an int"),
    (lambda b: tg.jvp(np.tanh, np.ones(2), np.ones(2)),   TypeError, r"jvp\(f, \(x,\), \(v,\)\), not an array of shape"),
    (lambda b: tg.checkpoint(b.loss),                     TypeError, "checkpoint takes a function, not a tensor"),
    (lambda b: tg.check_grads(b.loss),                    TypeError, "check_grads takes a function, not a tensor"),
    (lambda b: b.W.register_hook(3),                      TypeError, "register_hook takes a function, not an int"),
    (lambda b: tg.tensor([1.0], "cuda"),                  TypeError, "requires_grad is True or False, not 'cuda'"),
    (lambda b: setattr(b.W, "requires_grad", 1),          TypeError, "requires_grad is True or False, not 1"),
    (lambda b: tg.tensor([1.0], name=3),                  TypeError, "a name is a string, not an int"),
    (lambda b: setattr(b.W, "grad", 3),                   ValueError, r"shape \(\) does not fit .* \(3, 3\)"),
    (lambda b: tg.primitive(np.cosh, vjp=lambda g: g),    TypeError, "vjp has an entry for each input"),
]  # fmt: skip

TAPE = [
    (lambda b: tg.tape(3),                            TypeError,  "tg.tape needs a tensor, .*not an int"),
    (lambda b: tg.tape(None),                         TypeError,  "not None"),
    (lambda b: tg.tape(b.W.numpy()),                  TypeError,  "not an array of shape"),
    (lambda b: tg.tape(b.losses),                     TypeError,  r"not a list; of a list, pass \*list"),
    (lambda b: b.tape[100],                           IndexError, r"no entry 100 on this tape of \d+ entries"),
    (lambda b: b.tape["h<1>"],                        TypeError,  r"'h<1>' is no number; tape\.find\(name\)"),
    (lambda b: b.tape.find("nothing")[0],             IndexError, "no entries: nothing was found"),
    (lambda b: b.tape.find(b.W),                      TypeError,  r"a Parameter .* is none; tape\.entry_of\(tensor\)"),
    (lambda b: b.tape.find(3),                        TypeError,  "an int is none"),
    (lambda b: b.tape.at("1"),                        TypeError,  "step t must be a whole number, not '1'"),
    (lambda b: b.tape.at(1.5),                        TypeError,  "step t must be a whole number, not 1.5"),
    (lambda b: b.tape.entry_of("h<1>"),               TypeError,  "entry_of needs a tensor, .* not a str"),
    (lambda b: b.tape.entry_of(tg.tensor([1.0])),     KeyError,   "is not on the tape"),
    (lambda b: b.tape.sweep(3),                       TypeError,  "sweep needs a tensor, .* not an int"),
    (lambda b: tg.check_tape(3),                      TypeError,  "takes a tape or a tensor, not an int"),
    (lambda b: tg.check_tape([b.loss]),               TypeError,  "takes a tape or a tensor, not a list"),
]  # fmt: skip

THROUGH_TIME = [
    (lambda b: tg.bptt.weight_gradients(b.loss, "W"),              tg.AutodiffError, "of a str, which is on no graph"),
    (lambda b: tg.bptt.weight_gradients([b.loss], b.W),            tg.AutodiffError, "of a list, which is on no graph"),
    (lambda b: tg.bptt.state_gradients(b.loss, 3),                 TypeError,        "states are a list, .* not an int"),
    (lambda b: tg.bptt.state_gradients(b.loss, "h"),               TypeError,        "states are a list, .* not a str"),
    (lambda b: tg.bptt.flow(b.loss, b.states),                     TypeError,        "losses are a list.* put a single one in"),
    (lambda b: tg.bptt.flow(3, b.states),                          TypeError,        "losses are a list, .* not an int"),
    (lambda b: tg.bptt.flow(b.losses, {"h": b.states}),            TypeError,        r'not a dict; .*values\["h"\]'),
    (lambda b: tg.bptt.jacobians(3),                               TypeError,        "states are a list, .* not an int"),
    (lambda b: tg.bptt.verdict(b.states),                          TypeError,        r"what jacobians\(states\) .* not a list"),
    (lambda b: tg.bptt.verdict(0.5),                               TypeError,        "not a float"),
    (lambda b: tg.bptt.Truncated("20"),                            TypeError,        "k1 must be a whole number, not '20'"),
    (lambda b: tg.bptt.Truncated(20, 40.0),                        TypeError,        "k2 must be a whole number, not 40.0"),
    (lambda b: tg.bptt.Truncated(2)([b.x, b.x[:3]]),               tg.ShapeError,    "given one by one"),
    (lambda b: b.window.new(3),                                    tg.ShapeError,    "with a time axis 0 are needed"),
    (lambda b: b.window.new(b.x),                                  tg.ShapeError,    "this window's 2 steps, and got those of 5"),
    (lambda b: tg.bptt.segments(3),                                TypeError,        "a layer or function, .* not an int"),
    (lambda b: tg.bptt.segments(b.rnn, join="sum"),                TypeError,        "for join one such as sum, not a str"),
    (lambda b: tg.bptt.segments(b.rnn, "3"),                       TypeError,        "a segment must be a whole number"),
    (lambda b: tg.bptt.segments(lambda x, state: x)(b.x),          TypeError,        "gives a pair, .* not an array"),
]  # fmt: skip

FILES = [
    (lambda b: tg.save("a/b/x.safetensors", b.module),             FileNotFoundError,  r"no folder .*b for x\.safetensors"),
    (lambda b: tg.save(".", b.module),                             IsADirectoryError,  "is a folder; a file is needed"),
    (lambda b: tg.save(b.module, "x.safetensors"),                 TypeError,          "takes a module, not a str"),
    (lambda b: tg.save("x.safetensors", b.module.state_dict()),    TypeError,          "takes a module, not a dict"),
    (lambda b: tg.save("x.safetensors", b.module, b.module),       TypeError,          "takes an optimiser, .* not a Linear"),
    (lambda b: tg.save("x.safetensors", b.module, {"epoch": 3}),   TypeError,          "not a dict; metadata is given by name"),
    (lambda b: tg.save("x.safetensors", b.module, schedule=b.optimizer), TypeError,    "one of the schedules .* not an Adam"),
    (lambda b: tg.save("x.safetensors", b.module, arrays=[b.x]),   TypeError,          "by name, as a dict, and not as a list"),
    (lambda b: tg.save("x.safetensors", b.module, arrays=b.x),     TypeError,          "as an array of shape"),
    (lambda b: tg.save("x.safetensors", b.module, arrays={"a": "abc"}), TypeError,     "text goes into metadata"),
    (lambda b: tg.load("x.safetensors", b.module.state_dict()),    TypeError,          "takes a module, not a dict"),
    (lambda b: tg.load("x.safetensors", b.module, "adam"),         TypeError,          "takes an optimiser, .* not a str$"),
    (lambda b: tg.load("x.safetensors", b.module, schedule=3),     TypeError,          "one of the schedules .* not an int"),
    (lambda b: b.module.load_state_dict("x.safetensors"),          TypeError,          r"not a str; tg\.load\(path, module\)"),
    (lambda b: b.module.load_state_dict(b.module),                 TypeError,          r"not a Linear; pass its state_dict"),
    (lambda b: b.module.load_state_dict({"W": "a", "b": 3}),       ValueError,         r"(?s)W: tensors hold.*b: shape \(\)"),
    (lambda b: b.module.to("cuda"),                                TypeError,          "not 'cuda' .there are no devices"),
    (lambda b: b.module.to(None),                                  TypeError,          "a floating dtype, .* not None"),
]  # fmt: skip

LOSSES = [
    (lambda b: tg.losses.mse(None, 3.0),                                   TypeError,  "prediction cannot be None"),
    (lambda b: tg.losses.mse(b.loss, "a"),                                 TypeError,  "target cannot be a str"),
    (lambda b: tg.losses.mse(b.module, b.x),                               TypeError,  "prediction cannot be a Linear"),
    (lambda b: tg.losses.cross_entropy(b.rnn(b.x), np.zeros((5, 2), int)), TypeError,  r"tuple of tensors; .*\(outputs, state\)"),
    (lambda b: tg.losses.cross_entropy(b.states[0], None),                 TypeError,  "targets cannot be None"),
    (lambda b: tg.losses.cross_entropy(b.states[0], [0], mask="a"),        TypeError,  "mask cannot be a str"),
    (lambda b: tg.losses.cross_entropy(b.states[0], [0], weight="a"),      TypeError,  "weight cannot be a str"),
    (lambda b: tg.losses.cross_entropy(b.states[0], [-100]),               IndexError, "ignore_index=-100 passes over such rows"),
    (lambda b: tg.losses.cross_entropy(b.states[0], [0], ignore_index=1.5), TypeError, "ignore_index must be a whole number"),
    (lambda b: tg.losses.cross_entropy(b.states[0], [0], label_smoothing="a"), TypeError, "label_smoothing is a number"),
    (lambda b: tg.losses.binary_cross_entropy(b.states[0], None),          TypeError,  "targets cannot be None"),
]  # fmt: skip

DATA = [
    (lambda b: tg.data.Vocabulary(3),                       TypeError,  "a text is a string, or a list of tokens, not an int"),
    (lambda b: tg.data.Vocabulary.of(["a", ["b"]]),         TypeError,  "a token is a string, not a list"),
    (lambda b: b.vocabulary.encode(None),                   TypeError,  "not None"),
    (lambda b: b.vocabulary.encode([["a"]]),                TypeError,  "a token is a string, not a list"),
    (lambda b: b.vocabulary.decode(None),                   TypeError,  "token numbers are integers, not None"),
    (lambda b: tg.data.batches("abc", 1, 1),                TypeError,  r"not <U3; vocabulary\.encode"),
    (lambda b: tg.data.batches(iter([1, 2]), 1, 1),         TypeError,  "not a list_iterator"),
    (lambda b: tg.data.batches(range(9), "2", 3),           TypeError,  "batch_size must be a whole number, not '2'"),
    (lambda b: tg.data.batches(range(9), 2, 3.5),           TypeError,  "steps must be a whole number, not 3.5"),
    (lambda b: tg.data.pad(3),                              TypeError,  "pad takes a list of sequences, not an int"),
    (lambda b: tg.data.pad("abc"),                          TypeError,  "pad takes a list of sequences, not a str"),
    (lambda b: tg.data.pad(iter([])),                       ValueError, "an iterator gives them only once"),
    (lambda b: tg.data.valid([3], "4"),                     TypeError,  "steps must be a whole number"),
    (lambda b: tg.data.buckets([1, 2], 2.5),                TypeError,  "batch_size must be a whole number"),
    (lambda b: tg.data.buckets([1, 2], 2, rng=0),           TypeError,  r"np\.random\.default_rng\(0\), not 0"),
    (lambda b: tg.data.Minibatches([1, 2, 3], 3, 2),        TypeError,  "make is a function, .* not a list"),
    (lambda b: tg.data.Minibatches(list, 3, "2"),           TypeError,  "batch_size must be a whole number"),
    (lambda b: tg.data.Minibatches(list, 3, 2, rng=3),      TypeError,  "not 3"),
]  # fmt: skip

FIT = [
    (lambda b: b.fit(model=None),                                      TypeError,  "fit trains a module, not None"),
    (lambda b: b.fit(data=3),                                          TypeError,  "a list of batches, .* not an int"),
    (lambda b: b.fit(loss="mse"),                                      TypeError,  r"loss\(model, batch\), not 'mse'"),
    (lambda b: b.fit(optimizer=tg.optim.Adam),                         TypeError,  "one of tg.optim, .*not the class Adam"),
    (lambda b: b.fit(schedule=b.optimizer),                            TypeError,  "one of the schedules .* not an Adam"),
    (lambda b: b.fit(epochs="3"),                                      TypeError,  "epochs must be a whole number, not '3'"),
    (lambda b: b.fit(epochs=1.5),                                      TypeError,  "epochs must be a whole number, not 1.5"),
    (lambda b: b.fit(clip_norm="1"),                                   TypeError,  "clip_norm must be a number above 0"),
    (lambda b: b.fit(clip_value=-1),                                   ValueError, "clip_value must be above 0, not -1"),
    (lambda b: b.fit(validate=3),                                      TypeError,  r"validate\(model\), not 3"),
    (lambda b: b.fit(checkpoint="a/b/x.safetensors"),                  FileNotFoundError, "no folder"),
    (lambda b: b.fit(checkpoint="x.safetensors", every=2.5),           TypeError,  "every must be a whole number"),
    (lambda b: b.fit(file="log.txt"),                                  TypeError,  "file is an open one, .* not 'log.txt'"),
]  # fmt: skip


MODELS = [
    (lambda b: Linear(3.0, 2),                                         TypeError,  "input_size must be a whole number, not 3.0"),
    (lambda b: RNN(3, 8 / 2),                                          TypeError,  "hidden_size must be a whole number, not 4.0"),
    (lambda b: LSTM(3, "4"),                                           TypeError,  "hidden_size must be a whole number, not '4'"),
    (lambda b: LSTM(3, 4, num_layers=1.5),                             TypeError,  "num_layers must be a whole number, not 1.5"),
    (lambda b: SequenceTagger(7, 4, num_classes=2.0),                  TypeError,  "num_classes must be a whole number, not 2.0"),
    (lambda b: SequenceGenerator(2, 4, output_size="7"),               TypeError,  "output_size must be a whole number, not '7'"),
    (lambda b: b.rnn(None),                                            TypeError,  "RNN takes real numbers, got None"),
    (lambda b: b.rnn([tg.tensor(x) for x in b.x]),                     TypeError,  r"got a list: .*tg\.stack"),
    (lambda b: b.module("abc"),                                        TypeError,  "Linear takes real numbers, got a str"),
    (lambda b: b.writer.predict(np.arange(2), beam="4"),               TypeError,  "beam must be a whole number, not '4'"),
    (lambda b: b.writer.search(np.arange(2), beam=2.5),                TypeError,  "beam must be a whole number, not 2.5"),
    (lambda b: b.writer.predict(np.arange(2), max_length="a"),         TypeError,  "max_length must be a whole number, not 'a'"),
    (lambda b: b.writer.sample(np.arange(2), temperature="hot"),       TypeError,  "temperature is a number .* not 'hot'"),
]  # fmt: skip

THE_REST = [
    (lambda b: tg.scope(3),                            TypeError,  "called by a string, not by an int"),
    (lambda b: tg.scope(None),                         TypeError,  "called by a string, not by None"),
    (lambda b: tg.scope("rnn", t="3"),                 TypeError,  "step t must be a whole number, not '3'"),
    (lambda b: tg.scope("rnn", t=1.5),                 TypeError,  "step t must be a whole number, not 1.5"),
    (lambda b: tg.set_default_dtype(None),             TypeError,  "a floating one, not None"),
    (lambda b: tg.one_hot([0], "a"),                   TypeError,  r"one_hot of \(1,\) int64: "),
    (lambda b: tg.init.zeros(2, 3),                    TypeError,  "3 is no dtype: a shape is one argument"),
    (lambda b: tg.init.xavier_uniform(3, 2),           TypeError,  "a shape is a tuple, .* not an int"),
    (lambda b: tg.init.orthogonal(b.W),                TypeError,  "not a Parameter of shape"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        pytest.param(*case, id=f"{group}-{number}")
        for group, cases in dict(
            functions=FUNCTIONS,
            optim=OPTIM,
            tape=TAPE,
            through_time=THROUGH_TIME,
            files=FILES,
            losses=LOSSES,
            data=DATA,
            fit=FIT,
            models=MODELS,
            the_rest=THE_REST,
        ).items()
        for number, case in enumerate(cases)
    ],
)
def test_what_came_is_told_and_nothing_is_changed(call, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bench = Bench()
    before = bench.everything()
    with pytest.raises(error, match=words) as caught:
        call(bench)
    assert type(caught.value) is error
    assert bench.everything() == before
    assert list(tmp_path.iterdir()) == []
    bench.loss.backward()  # and the graph is as it was


@pytest.mark.parametrize(("options", "words"), [
    (dict(data=iter([1, 2])),       "an iterator is gone through only once"),
    (dict(loss=tg.losses.mse),      "prediction cannot be a Linear"),
])  # fmt: skip
def test_what_fit_sees_in_the_first_batch_only(options, words):
    bench = Bench()
    before = bench.everything()[:4]
    with pytest.raises(TypeError, match=words):
        bench.fit(**options)
    assert bench.everything()[:4] == before


def test_a_validation_that_gives_no_number_is_told():
    for wrong in (None, "a", np.ones(2)):
        with pytest.raises(TypeError, match=r"validate\(model\) gives one number, .* not "):
            Bench().fit(validate=lambda model, wrong=wrong: wrong)


def test_iterators_are_as_good_as_lists_where_steps_are_listed():
    """What is gone through twice is not empty the second time."""
    bench = Bench()
    expected = tg.bptt.flow(bench.losses, bench.states)
    assert expected.any()
    np.testing.assert_array_equal(tg.bptt.flow(iter(bench.losses), iter(bench.states)), expected)
    expected = tg.bptt.state_gradients(bench.loss, bench.states)
    found = tg.bptt.state_gradients(bench.loss, iter(bench.states))
    assert len(found) == 3
    np.testing.assert_array_equal(found, expected)


def test_whole_numbers_may_be_numpys():
    bench = Bench()
    assert len(bench.tape.at(np.int64(1))) == len(bench.tape.at(1)) > 0
    assert repr(tg.bptt.Truncated(np.int32(2))) == "Truncated(k1=2, k2=2)"
    assert bench.tape[np.int64(0)].index == 0
    with tg.scope("rnn", t=np.int64(2)) as scope:
        assert scope.t == 2 and type(scope.t) is int


@pytest.mark.parametrize(("name", "words"), [
    ("cat",             "use tg.concatenate"),
    ("zeros",           "NumPy makes arrays; tg.tensor"),
    ("nn",              "layers are in tg.models"),
    ("LSTM",            "use tg.models.LSTM"),
    ("Adam",            "use tg.optim.Adam"),
    ("clip_grad_norm_", "use tg.optim.clip_grad_norm_"),
    ("cross_entropy",   "use tg.losses.cross_entropy"),
    ("Vocabulary",      "use tg.data.Vocabulary"),
    ("flow",            "use tg.bptt.flow"),
    ("float32",         "NumPy has the dtypes"),
])  # fmt: skip
def test_names_that_are_elsewhere_are_told(name, words):
    assert not hasattr(tg, name)
    with pytest.raises(AttributeError, match=f"'tinygrad_seq' has no attribute '{name}': {words}"):
        getattr(tg, name)


def test_a_name_that_is_nowhere_gets_no_hint():
    with pytest.raises(AttributeError, match=r"'tinygrad_seq' has no attribute 'Nonsense'$"):
        _ = tg.Nonsense
    with pytest.raises(AttributeError, match=r"has no attribute 'NamedTuple'$"):  # though a module of ours has imported it
        _ = tg.NamedTuple
    with pytest.raises(ImportError, match="nonsense"):
        from tinygrad_seq import nonsense  # noqa: F401


@pytest.mark.parametrize(("name", "words"), [
    ("t",       "use T"),
    ("mul",     r"use \*"),
    ("long",    r"use astype\(np.int64\)"),
    ("sigmoid", r"use tg\.sigmoid\(x\)"),
    ("tanh",    r"use np\.tanh\(x\)"),
    ("grad_fn", r"print\(tg\.tape\(x\)\)"),
])  # fmt: skip
def test_methods_of_other_tensors_are_told(name, words):
    with pytest.raises(AttributeError, match=f"a Tensor has no '{name}': {words}"):
        getattr(tg.tensor([1.0]), name)


def test_what_the_hints_name_is_there():
    """Every `tg.`, `np.` and `x.` name in the tables, and the method after "use"."""
    for hint in [*HABITS.values(), *ELSEWHERE.values()]:
        for root, path in re.findall(r"\b(tg|np|x)((?:\.\w+)+)", hint):
            attrgetter(path[1:])({"tg": tg, "np": np, "x": tg.tensor([1.0], requires_grad=True)}[root])
        for method in re.findall(r"^use (\w+)(?=[(;]|$)", hint):
            assert hasattr(tg.Tensor, method)


@pytest.mark.parametrize(("value", "words"), [
    (None,                   "None"),
    (3.0,                    "a float"),
    (3,                      "an int"),
    (np.float32(3),          "a float32 of shape ()"),
    (np.ones((2, 3)),        "an array of shape (2, 3)"),
    (tg.tensor([1.0]),       "a tensor of shape (1,)"),
    (Linear,                 "the class Linear"),
    ([1],                    "a list"),
])  # fmt: skip
def test_things_in_words(value, words):
    assert told(value) == words
