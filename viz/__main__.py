"""`python -m tinygrad_seq.viz lstm --steps 5 --level gate -o lstm.svg`: a picture of any cell or model, from a run of it.

Each model is made small, run once on random numbers under `tg.record()`, swept backward, and drawn. `gallery` writes all
the figures of `gallery.py`. This file and that one are the only ones here that know models by name.
"""

from __future__ import annotations

import argparse
import difflib
import io
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq import models
from tinygrad_seq.models.stacks import recurrent
from tinygrad_seq.serialize import _write_at_once
from tinygrad_seq.viz import gallery
from tinygrad_seq.viz.drawing import FORMATS, draw
from tinygrad_seq.viz.flow import gradient_flow
from tinygrad_seq.viz.networks import without_lines
from tinygrad_seq.viz.notation import NOTATIONS
from tinygrad_seq.viz.page import LONGEST, Page, play
from tinygrad_seq.viz.program import NoGraphvizError

NUMBERS, CELL_STEPS = 20_000_000, 100_000  # the most that a model and its data may have, and the most steps of cells, to be drawn
CLASSES = 3  # of what a model says at a step, and of its targets
CELLS = {"rnn": models.RNN, "gru": models.GRU, "lstm": models.LSTM}
PLOTS = ("png", "svg", "pdf")

EXAMPLES = """\
examples:
  tinygrad-viz lstm --steps 5 --level gate -o lstm.svg     an LSTM, gate by gate, and its gradients
  tinygrad-viz rnn --steps 20 --level cell -o rnn.png      where the gradient of a basic RNN dies
  tinygrad-viz gru --level rolled -o gru.svg               one cell, with a loop
  tinygrad-viz encoder-decoder --cell gru -o seq2seq.svg   a topology, with a cell of your choice
  tinygrad-viz lstm --html                                 a page that plays the sweep, step by step
  tinygrad-viz lstm --steps 40 --flow -o flow.png          curves, heatmap and spectra instead of a graph
  tinygrad-viz rnn --steps 20 --text                       for a terminal: a bar for each step
  tinygrad-viz gallery --out gallery                       the figures of the overview, and more, with a page around

Without the script on PATH: python -m tinygrad_seq.viz ..."""


# ---- the models -------------------------------------------------------------------------------------------------------


class Size(NamedTuple):
    """How large a model and its data are."""

    steps: int
    layers: int
    hidden: int
    inputs: int
    batch: int

    @property
    def numbers(self) -> int:
        """About how many numbers its weights, with four gates, and the values of a run are."""
        weights = 4 * self.layers * self.hidden * (self.inputs + self.hidden)
        return weights + self.steps * self.batch * (self.inputs + 16 * self.layers * self.hidden)

    @property
    def cell_steps(self) -> int:
        """How often a cell runs."""
        return self.steps * self.layers

    def features(self, *shape: int) -> tg.Tensor:
        """Random inputs, (T, B, I) or of another shape."""
        shape = shape or (self.steps, self.batch, self.inputs)
        return tg.tensor(tg.random.generator().normal(size=shape).astype(np.float32), name="x")

    def labels(self, steps: int | None = None, classes: int = CLASSES) -> Any:
        """Random classes, (T, B)."""
        return tg.random.generator().integers(0, classes, size=(self.steps if steps is None else steps, self.batch))


SMALL = Size(steps=5, layers=1, hidden=4, inputs=3, batch=2)  # by default

Model = Callable[[Size, Any], Any]  # (size, cell) -> the loss of one run


class Kind(NamedTuple):
    """A model that can be drawn: what it is, how it is run, and whether its cell can be chosen."""

    said: str
    run: Model
    chooses: bool = False


def _last_step(size: Size, cell: Any) -> Any:
    """Layers of a cell, read off at the last step: all of the gradient must come the whole way."""
    layers, readout = recurrent(cell, size.inputs, size.hidden, size.layers), models.Linear(size.hidden, CLASSES)
    for name, weight in readout.named_parameters():
        weight.name = f"{name}_y"
    outputs, _ = layers(size.features())
    with tg.scope("readout", role="readout"):
        logits = readout(outputs[-1])
    return tg.losses.cross_entropy(logits, size.labels()[-1])


def _output_rnn(size: Size, cell: Any) -> Any:
    if size.layers > 1:
        raise ValueError("output-rnn has one layer: what it hands on is its output")
    outputs, _ = models.Recurrent(models.OutputRNNCell(size.inputs, size.hidden, CLASSES))(size.features())
    return tg.losses.nll(tg.log(outputs[-1]), size.labels()[-1])


def _tagger(size: Size, cell: Any, bidirectional: bool = False) -> Any:
    model = models.SequenceTagger(
        size.inputs, size.hidden, CLASSES, cell=cell, num_layers=size.layers, bidirectional=bidirectional
    )
    return model.loss(size.features(), size.labels())


def _bidirectional(size: Size, cell: Any) -> Any:
    return _tagger(size, cell, bidirectional=True)


def _classifier(size: Size, cell: Any) -> Any:
    model = models.SequenceClassifier(size.inputs, size.hidden, CLASSES, cell=cell, num_layers=size.layers)
    return model.loss(size.features(), size.labels()[0])


def _all_but_the_end(size: Size) -> int:
    """How many labels a model writes that says the end of them in a step of its own."""
    if size.steps < 2:
        raise ValueError("what is written has two steps at least, the second of which says the end: --steps 2")
    return size.steps - 1


def _generator(size: Size, cell: Any) -> Any:
    model = models.SequenceGenerator(size.inputs, size.hidden, CLASSES, cell=cell, num_layers=size.layers, max_length=size.steps)
    about, target = size.features(size.batch, size.inputs), size.labels(_all_but_the_end(size))
    # Free running: each step reads what the last one said.
    return model.loss(about, target, teacher=0.0, choose="best")


def _encoder_decoder(size: Size, cell: Any, attention: str | None = None) -> Any:
    model = models.EncoderDecoder(
        CLASSES, CLASSES, size.hidden, cell=cell, num_layers=size.layers, attention=attention, max_length=size.steps
    )
    return model.loss(size.labels(), size.labels(_all_but_the_end(size)))


def _attention(kind: str) -> Model:
    """An encoder and decoder of this kind of attention."""
    return lambda size, cell: _encoder_decoder(size, cell, kind)


def _language_model(size: Size, cell: Any) -> Any:
    model = models.LanguageModel(CLASSES, size.inputs, size.hidden, size.layers, cell=cell)
    return model.loss(size.labels(size.steps + 1))


def _teacher_forcing(size: Size, cell: Any) -> Any:
    if size.layers > 1:
        raise ValueError("teacher-forcing has one layer: its targets stand for the only memory that it has")
    targets = size.labels()
    fed = np.eye(CLASSES, dtype=np.float32)[targets]
    said = models.teacher_forced(models.OutputRNNCell(size.inputs, size.hidden, CLASSES), size.features(), fed)
    return tg.losses.nll(tg.log(said), targets)


def _cell(cell: Any) -> Model:
    """A model that is layers of this cell."""
    return lambda size, _: _last_step(size, cell)


def _resetting_after(inputs: int, hidden: int) -> Any:
    return models.GRUCell(inputs, hidden, reset_after=True)


# fmt: off
MODELS: dict[str, Kind] = {
    "rnn":              Kind("a basic recurrent network, hidden to hidden",            _cell("rnn")),
    "output-rnn":       Kind("a recurrent network, output to hidden",                  _output_rnn),
    "gru":              Kind("a gated recurrent unit",                                 _cell("gru")),
    "gru-reset-after":  Kind("a GRU that resets after the product, as PyTorch's",      _cell(_resetting_after)),
    "simplified-gru":   Kind("a GRU with an update gate only",                         _cell(models.SimplifiedGRUCell)),
    "lstm":             Kind("long short-term memory",                                 _cell("lstm")),
    "peephole":         Kind("an LSTM whose gates see the memory",                     _cell(models.PeepholeLSTMCell)),
    "coupled":          Kind("an LSTM that forgets where it writes",                   _cell(models.CoupledLSTMCell)),
    "layer-norm":       Kind("an LSTM with layer normalisation",                       _cell(models.LayerNormLSTMCell)),
    "tagger":           Kind("many-to-many of the same length",                        _tagger, True),
    "classifier":       Kind("many-to-one",                                            _classifier, True),
    "generator":        Kind("one-to-many, its output fed back",                       _generator, True),
    "encoder-decoder":  Kind("many-to-many of different lengths",                      _encoder_decoder, True),
    "bahdanau":         Kind("an encoder-decoder that looks back, additive attention", _attention("bahdanau"), True),
    "luong":            Kind("one with multiplicative attention",                      _attention("luong"), True),
    "bidirectional":    Kind("a tagger that reads from both ends",                     _bidirectional, True),
    "language-model":   Kind("what comes next, at every step",                         _language_model, True),
    "teacher-forcing":  Kind("an output RNN fed with its targets: all steps at once",  _teacher_forcing),
}
# fmt: on


def run(name: str, size: Size, cell: str = "rnn", backward: bool = True, seed: int = 0) -> tg.Tape:
    """The tape of one run of a model, on random numbers of this seed.

    Args:
        name: of the model, from `MODELS`.
        size: of the model and its data.
        cell: "rnn", "gru" or "lstm", for the models that take any.
        backward: whether to run the backward pass.
        seed: of the engine's generator, which is left as it was.
    """
    with tg.random.replaying(tg.random.get_state()):
        tg.manual_seed(seed)
        with tg.record() as tape:
            loss = MODELS[name].run(size, cell)
            loss.name = "L"
    if backward:
        loss.backward()
    return leading_to(loss, without_lines(tape))


def leading_to(loss: tg.Tensor, tape: tg.Tape) -> tg.Tape:
    """The part of a tape that the loss was computed from: a layer also gives a last state, which nothing here reads."""
    found = {tape.entry_of(loss).index}
    for entry in reversed(list(tape)):
        if entry.index in found:
            found.update(entry.inputs)
    return tg.Tape(tape._recording, sorted(found))


# ---- the command ------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status, 2 where it was used wrongly or nothing could be written."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _gallery(options) if options.model == "gallery" else _draw(options)
    except (ValueError, TypeError, ImportError, OSError, NoGraphvizError) as error:
        print(f"{parser.prog} {options.model}: error: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print(f"{parser.prog} {options.model}: error: not enough memory; lower --hidden, --steps or --batch", file=sys.stderr)
        return 2
    return 0


def _draw(options: argparse.Namespace) -> None:
    """Run a model and write what was asked for."""
    path = _path(options)
    size = Size(options.steps, options.layers, options.hidden, options.inputs, options.batch)
    _refuse_too_large(size)
    tape = run(options.model, size, getattr(options, "cell", "rnn"), options.backward, options.seed)
    if options.flow:
        figure = gradient_flow(tape, title=f"{options.model}, {options.steps} steps")
        _save_figure(figure, _needed(path))
        print(path)
        return
    shown = {"level": options.level, "steps": options.show, "notation": options.notation}
    if options.html:
        print(_page(tape, shown).save(_needed(path)))
        return
    drawing = draw(tape, **shown)
    if options.text:
        print(drawing.text())
    if path is not None:
        print(f"{drawing.save(path)}: {drawing.alt_text}")


def _refuse_too_large(size: Size) -> None:
    """Before anything is run: a model to be drawn is small, and one that is not fills the memory, or never ends."""
    counts: tuple[Callable[[Size], int], ...] = (lambda each: each.numbers, lambda each: each.cell_steps)
    for count, most, what in zip(counts, (NUMBERS, CELL_STEPS), ("numbers", "steps of cells")):
        if count(size) > most:
            largest = min(Size._fields, key=lambda name: count(size._replace(**{name: getattr(SMALL, name)})))
            raise ValueError(f"a run of this size has about {count(size):,} {what}, {most:,} is the most here; lower --{largest}")


def _page(tape: tg.Tape, shown: dict[str, Any]) -> Page:
    """The player; the way out is another one here than in Python."""
    if len(tape) + len(tape.events) > LONGEST:
        raise ValueError(f"{len(tape) + len(tape.events):,} steps are too many to play ({LONGEST:,} at most); lower --steps")
    return play(tape, **shown)


def _path(options: argparse.Namespace) -> Path | None:
    """Where to write to, checked before anything is run; None if only text is asked for."""
    endings = ("html",) if options.html else PLOTS if options.flow else FORMATS
    if options.output is None:
        ending = ".html" if options.html else "-flow.png" if options.flow else ".svg"  # a plot does not replace a picture
        return None if options.text else Path(options.model + ending)
    path = Path(options.output)
    if path.suffix.lower().lstrip(".") not in endings:
        what = "the player is a page" if options.html else "a plot" if options.flow else "a picture"
        raise ValueError(f"{what}: {path.name!r} ends in none of {', '.join('.' + each for each in endings)}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file in it")
    return path


def _needed(path: Path | None) -> Path:
    if path is None:
        raise ValueError("--text is for drawings; it does not go with --html or --flow")
    return path


def _save_figure(figure: Any, path: Path) -> None:
    """Write a plot, as a whole or not at all; the same bytes for the same numbers."""
    import matplotlib

    kind, content = path.suffix.lower().lstrip("."), io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with matplotlib.rc_context({"svg.hashsalt": "tinygrad_seq"}):
        figure.savefig(content, format=kind, dpi=150, metadata=undated)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_at_once(path, content.getvalue())


def _gallery(options: argparse.Namespace) -> None:
    print(gallery.write(options.out, png=options.png))


class _Parser(argparse.ArgumentParser):
    """Says which name was meant where one was mistyped, instead of listing all."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        mistyped = re.search(r"argument MODEL: invalid choice: '([^']*)'", message)
        if mistyped:
            near = difflib.get_close_matches(mistyped[1], [*MODELS, "gallery"], n=3)
            meant = f"did you mean {' or '.join(near)}?" if near else f"{self.prog} --help lists them"
            message = f"there is no model {mistyped[1]!r}; {meant}"
        super().error(message)


# ---- its arguments ----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    kinds = {name: kind.said for name, kind in MODELS.items()} | {"gallery": "the figures of the overview, and a page around"}
    listed = "\n".join(f"  {name:<17} {said}" for name, said in kinds.items())
    parser = _Parser(
        prog="tinygrad-viz",
        description="Draw a recurrent network from a run of it: time from left to right, gradients back again.",
        epilog=f"models:\n{listed}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="model", required=True, metavar="MODEL", help="one of those below; MODEL --help")
    for name, kind in MODELS.items():
        _add_options(commands.add_parser(name, description=f"{name}: {kind.said}."), kind)
    one = commands.add_parser("gallery", description="Write all figures as SVG, and a page around them.")
    one.add_argument("--out", default="gallery", metavar="DIR", help="the folder to write to (default: %(default)s)")
    one.add_argument("--png", action="store_true", help="write each figure as PNG, too")
    return parser


def _add_options(parser: argparse.ArgumentParser, kind: Kind) -> None:
    size = parser.add_argument_group("size")
    said_of = ("in time", "on top of each other", "units of a state", "features of an input", "rows")
    for name, default, said in zip(Size._fields, SMALL, said_of):
        size.add_argument(f"--{name}", type=_count, default=default, metavar="N", help=f"{said} (default: {default})")
    if kind.chooses:
        size.add_argument("--cell", choices=CELLS, default="rnn", help="(default: %(default)s)")
    size.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and data (default: %(default)s)")
    picture = parser.add_argument_group("picture")
    levels = ("auto", "rolled", "cell", "gate", "op")
    picture.add_argument("--level", choices=levels, default="auto", help="of detail (default: %(default)s)")
    way = picture.add_mutually_exclusive_group()
    way.add_argument("--backward", action="store_true", default=True, help="with gradients (default)")
    way.add_argument("--forward", action="store_false", dest="backward", help="the forward pass alone")
    picture.add_argument("--notation", choices=NOTATIONS, help="of labels: document (a<0>, W_aa) or ascii")
    show = 'steps to show, the others become one box; or "all"'
    picture.add_argument("--show", type=_shown, default="auto", metavar="N", help=show)
    kinds = picture.add_mutually_exclusive_group()
    kinds.add_argument("--html", action="store_true", help="a page that plays the run forward and backward, step by step")
    kinds.add_argument("--flow", action="store_true", help="plots of the gradient's way instead of a graph (needs matplotlib)")
    kinds.add_argument("--text", action="store_true", help="print a line for each step; a file is written with -o only")
    endings = " ".join("." + each for each in FORMATS)
    otherwise = "MODEL.svg, MODEL.html, MODEL-flow.png"
    picture.add_argument("-o", "--output", metavar="FILE", help=f"the ending says the format: {endings} (default: {otherwise})")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _shown(text: str) -> int | str:
    if text in ("all", "auto"):
        return text
    return _count(text)


if __name__ == "__main__":
    sys.exit(main())
