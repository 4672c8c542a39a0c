"""Teacher forcing and what it costs: the gap between training and testing, and how much faster training is in return.

A network whose only memory is its last output (`OutputRNNCell`, the text's RNN2) follows the temperatures of Seattle. It is told
the season, rain and wind of each day, and reads what it has said of the day before. In training somebody decides what it reads,

    teacher forcing       what has been measured: each step is right up to the day before, and no step waits for another
    free running          what it has said itself, mistakes and all, as it must where nobody has measured yet
    scheduled sampling    either, by chance: the teacher's at first, more and more its own (Bengio et al., 2015)

and at test time there are two questions: what about tomorrow, with everything measured until today ("forced"), and what about
the next weeks, with no temperature measured any more ("free"). The gap between the two is what the text warns of: "the input
distribution of training and testing is different, since we don't have realized output in testing". All three networks start
from the same weights, see the same stretches of days, and make as many steps.

The second part times the other side of it: all steps at once (`teacher_forced`) against one after the other (`fed_back`), which
must say the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from common import options, read_rows, table, write_figure
from table import Row, report

import tinygrad_seq as tg
from tinygrad_seq.models import OutputRNNCell, fed_back, forcing, teacher_forced

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

YEAR = 365.25  # days
TESTED = 365  # the last days of the table, which no training sees
DAYS, ROWS = 30, 32  # of a batch
WAYS = ("teacher forcing", "scheduled sampling", "free running")
YESTERDAY, SEASON = "(as on the day before)", "(season, rain, wind)"  # what needs no training
COLOURS = dict(zip(WAYS, ("#d45087", "#ff7c43", "#2c4875")))
GREY = "#5c6b80"


# ---- the series -----------------------------------------------------------------------------------------------------------


class Weather(NamedTuple):
    """Day by day, float32; scaled so that the days before the tested ones have mean 0 and deviation 1."""

    x: Array
    """(days, 4): sine and cosine of the season, rain, wind."""
    y: Array
    """(days, 2): highest and lowest temperature."""
    degrees: Array
    """(2,): what a deviation of 1 is, in °C."""


def weather() -> Weather:
    """Seattle, 2012 to 2015."""
    rows = read_rows("seattle_weather.csv")
    season = 2 * np.pi * np.arange(len(rows)) / YEAR
    measured = np.array([[float(row[name]) for name in ("precipitation", "wind", "temp_max", "temp_min")] for row in rows])
    known = measured[:-TESTED]
    scaled = (measured - known.mean(axis=0)) / known.std(axis=0)
    x = np.column_stack([np.sin(season), np.cos(season), scaled[:, :2]])
    return Weather(x.astype(np.float32), scaled[:, 2:].astype(np.float32), known.std(axis=0)[2:])


class Stretch(NamedTuple):
    """Some days in a row, time first, several such rows side by side."""

    x: Array
    """(T, B, 4)."""
    y: Array
    """(T, B, 2)."""
    start: Array
    """(B, 2), the y of the day before, which is known in any case."""


def stretches(series: Weather, first: Array, days: int) -> Stretch:
    """The stretches of so many days that begin at days `first` (B,), each at least 1."""
    index = first + np.arange(days)[:, None]
    return Stretch(series.x[index], series.y[index], series.y[first - 1])


# ---- three ways to train --------------------------------------------------------------------------------------------------


def teacher_of(way: str, steps: int) -> float | forcing.TeacherSchedule:
    """The probability that a step reads what was measured; scheduled sampling spends the last fifth of its steps without."""
    if way == "scheduled sampling":
        return forcing.LinearDecay(max(1, steps * 4 // 5))
    return 1.0 if way == "teacher forcing" else 0.0


def outputs(cell: OutputRNNCell, some: Stretch, teacher: Any) -> Any:
    """What the network says of these days, (T, B, 2)."""
    if float(teacher) == 1:
        return teacher_forced(cell, some.x, some.y, some.start)
    return fed_back(cell, some.x, some.y, teacher, some.start)


def train(way: str, series: Weather, steps: int, hidden: int, seed: int) -> tuple[OutputRNNCell, float]:
    """A network trained in this way, and the seconds that it took."""
    tg.manual_seed(seed)
    cell = OutputRNNCell(4, hidden, 2, output_activation=None)
    optimizer = tg.optim.Adam(cell.parameters(), lr=3e-3)
    schedule = tg.optim.CosineSchedule(optimizer, steps)
    teacher = teacher_of(way, steps)
    days = np.random.default_rng([seed, 1])  # the same for each way
    started = time.process_time()
    bar = tg.progress(range(steps), f"{way}, seed {seed}")
    for _ in bar:
        some = stretches(series, days.integers(1, len(series.y) - TESTED - DAYS, size=ROWS), DAYS)
        loss = tg.losses.mse(outputs(cell, some, teacher), some.y)
        loss.backward()
        tg.optim.clip_grad_norm_(cell.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if isinstance(teacher, forcing.TeacherSchedule):
            teacher.step()
        bar.note(loss=loss.item(), teacher=float(teacher))
    return cell, time.process_time() - started


# ---- two ways to test -----------------------------------------------------------------------------------------------------


def errors(said: Array, truth: Array, degrees: Array) -> Array:
    """The root of the mean squared error in °C, for each day of the stretch: (T, B, 2) -> (T,)."""
    squared: Array = (((said - truth) * degrees) ** 2).mean(axis=(1, 2))
    return np.sqrt(squared)


def tested(series: Weather, days: int) -> Stretch:
    """All stretches of so many days in the part that was held out."""
    end = len(series.y)
    return stretches(series, np.arange(end - TESTED, end - days + 1), days)


def measure(cell: OutputRNNCell, series: Weather, some: Stretch) -> dict[str, Array]:
    """°C of error on each day, "forced" and "free", (T,) each."""
    with tg.no_grad():
        return {
            name: errors(outputs(cell, some, teacher).numpy(), some.y, series.degrees)
            for name, teacher in {"forced": 1.0, "free": 0.0}.items()
        }


def persistence(some: Stretch) -> dict[str, Array]:
    """As it was yesterday, or, where nobody measures any more, as on the last day when somebody did."""
    return {"forced": np.concatenate([some.start[None], some.y[:-1]]), "free": np.broadcast_to(some.start, some.y.shape)}


def by_season(series: Weather, some: Stretch) -> Array:
    """Nothing but today's x, by least squares: what a network can say that has lost all memory."""
    known = slice(0, len(series.y) - TESTED)
    wide = np.column_stack([series.x[known], np.ones(len(series.x[known]))])
    weights = np.linalg.lstsq(wide, series.y[known], rcond=None)[0]
    return np.asarray(some.x @ weights[:-1] + weights[-1])


# ---- all steps at once ----------------------------------------------------------------------------------------------------


class Timed(NamedTuple):
    """Teacher forcing over T steps: all at once beside one after the other."""

    T: int
    at_once: float
    """Seconds of a training step's forward and backward pass, the median."""
    one_by_one: float
    ratio: float
    """The median of one_by_one / at_once over pairs that were measured side by side."""
    apart: float
    """The largest difference of any gradient, relative to the gradient's largest entry."""


def timed(T: int, pairs: int, seed: int, hidden: int = 64, rows: int = 32) -> Timed:
    """Measure both in turns, so that whatever else the machine does meets both alike."""
    tg.manual_seed(seed)
    cell = OutputRNNCell(8, hidden, 8, output_activation=None)
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(size=(T, rows, 8)).astype(np.float32) for _ in range(2))
    ways: dict[str, Callable[[], Any]] = {
        "at once": lambda: teacher_forced(cell, x, y),
        "one by one": lambda: fed_back(cell, x, y, teacher=1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    gradients: dict[str, list[Array]] = {}
    for _ in range(pairs + 1):
        for name, way in ways.items():
            cell.zero_grad()
            started = time.perf_counter()
            tg.losses.mse(way(), y).backward()
            seconds[name].append(time.perf_counter() - started)
            gradients[name] = [p.grad.numpy().copy() for p in cell.parameters() if p.grad is not None]
    fast, slow = (np.array(seconds[name][1:]) for name in ways)  # without the first, which warms up
    apart = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(*gradients.values()))
    return Timed(T, float(np.median(fast)), float(np.median(slow)), float(np.median(slow / fast)), apart)


# ---- shown ----------------------------------------------------------------------------------------------------------------


def forcing_figure(free: dict[str, Array], baselines: dict[str, Array], speed: Sequence[Timed]) -> Figure:
    """Left: the error over the days that nobody has measured. Right: how much faster all steps at once are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for way, runs in free.items():
        days = np.arange(1, runs.shape[1] + 1)
        left.plot(days, runs.mean(axis=0), color=COLOURS[way], linewidth=2, label=f"trained by {way}")
        left.fill_between(days, runs.min(axis=0), runs.max(axis=0), color=COLOURS[way], alpha=0.15, linewidth=0)
    for (name, error), style in zip(baselines.items(), (":", "--")):
        left.plot(np.arange(1, len(error) + 1), error, color=GREY, linestyle=style, linewidth=1, label=name)
    left.set(xlabel="days since the last measured one", ylabel="error (°C)", title="Running freely, trained in three ways")
    lengths = [each.T for each in speed]
    right.plot(lengths, [1000 * each.one_by_one for each in speed], "o-", color=COLOURS["free running"], label="one by one")
    right.plot(lengths, [1000 * each.at_once for each in speed], "s-", color=COLOURS["teacher forcing"], label="all at once")
    for each in speed:
        right.annotate(f"{each.ratio:.1f}×", (each.T, 1000 * each.one_by_one), (0, 7), textcoords="offset points", ha="center")
    right.set(xscale="log", yscale="log", xlabel="steps T", ylabel="ms for forward and backward")
    right.set(title="Teacher forcing when all memory is the output")
    right.set_xticks(lengths, [str(T) for T in lengths])
    right.minorticks_off()
    right.margins(y=0.15)
    for axes in (left, right):
        axes.grid(True, color="#e5e9f1", linewidth=0.6)
        axes.legend(framealpha=0.85, edgecolor="none", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


# ---- all of it ------------------------------------------------------------------------------------------------------------


def in_one(error: Array) -> float:
    """The error of all days together, of the errors of each."""
    return float(np.sqrt((error**2).mean()))


def compare(series: Weather, some: Stretch, arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Each way with each seed: a row of the table for each way, and the error on each free day, (seeds, T)."""
    rows, free = [], {}
    for way in WAYS:
        runs = [train(way, series, arguments.steps, arguments.hidden, arguments.seed + i) for i in range(arguments.runs)]
        found = [measure(cell, series, some) for cell, _ in runs]
        free[way] = np.array([each["free"] for each in found])
        means = {name: float(np.mean([in_one(each[name]) for each in found])) for name in ("forced", "free")}
        seconds = float(np.median([seconds for _, seconds in runs]))
        rows.append({"trained by": way, **means, "gap": means["free"] - means["forced"], "seconds": seconds})
    return rows, free


def untrained(name: str, said: dict[str, Array], series: Weather, some: Stretch) -> dict[str, Any]:
    """The row of what needs no training."""
    forced, free = (in_one(errors(said[kind], some.y, series.degrees)) for kind in ("forced", "free"))
    return {"trained by": name, "forced": forced, "free": free, "gap": free - forced, "seconds": None}


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train in three ways, test in two, time, draw."""
    parser = options(__doc__, steps=600, hidden=32, runs=3, days=28, pairs=31)
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.steps, arguments.runs, arguments.pairs = min(arguments.steps, 5), 1, min(arguments.pairs, 2)
    if arguments.days >= TESTED:
        parser.error(f"--days must be less than {TESTED}, the days that are held out")
    series = weather()
    some = tested(series, arguments.days)
    rows, free = compare(series, some, arguments)
    season = by_season(series, some)
    others = {YESTERDAY: persistence(some), SEASON: dict(forced=season, free=season)}
    rows += [untrained(name, said, series, some) for name, said in others.items()]
    print(f"\nSeattle, °C of error on {TESTED} held-out days, free for {arguments.days} days; {arguments.runs} seeds:\n")
    print(table(list(rows[0]), [list(row.values()) for row in rows]))

    speed = [timed(T, arguments.pairs, arguments.seed) for T in (16, 64, 256)]
    print("\nTeacher forcing, a step's forward and backward pass (32 rows, 64 units), all steps at once or one by one:\n")
    print(table(["T", "at once, ms", "one by one, ms", "ratio", "gradients apart"],
                [[each.T, 1000 * each.at_once, 1000 * each.one_by_one, each.ratio, each.apart] for each in speed]))  # fmt: skip

    lines = {
        "as on the last measured day": errors(persistence(some)["free"], some.y, series.degrees),
        "season, rain and wind alone": errors(season, some.y, series.degrees),
    }
    print("\nwritten:", write_figure(forcing_figure(free, lines, speed), arguments.out / "forcing.png"))
    by = {row["trained by"]: row for row in rows}
    reported = [
        Row("temperature, free", "°C of error", f"trained by {ours}", by[ours]["free"], theirs, by[theirs]["free"],
            by[ours]["seconds"], less_is_better=True)
        for ours, theirs in [*((way, WAYS[0]) for way in WAYS[1:]), (WAYS[0], SEASON)]
    ]  # fmt: skip
    return report("forcing", reported, arguments, gaps=rows, speed=[each._asdict() for each in speed])


if __name__ == "__main__":
    main()
