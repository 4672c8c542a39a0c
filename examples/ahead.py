"""One step ahead: Seattle's weather and the sun's spots, forecast by a network and by the models that were there before it.

Three series, of 1461 days, 3120 months and 309 years. The question is always the same: all is measured until today, what about
the next step? Everybody learns from the beginning of a series and is asked about its end, the last year of the weather and the
last fifth of the spots. Error is the root of the mean squared error, in °C or in spots.

    persistence          as it is now. It costs nothing, and many forecasts are worse.
    AR(p)                a weighted sum of the last p values and a constant, by least squares. Yule invented it for sunspots
                         (1927), Box and Jenkins made it everybody's tool. Each temperature by its own past.
    AR(p), same inputs   the same, of all that the network reads: the season, rain and wind, and both temperatures; the square
                         roots of the spots, since where there are many they vary more.
    GRU                  a `Forecaster` that says how the value will change; the mean of what a few networks say, which differ
                         by their random numbers only.

Akaike's information criterion chooses p, on what is known. The network's settings were chosen by the last fifth of what is known,
with the rest to learn from. Neither has seen anything of what is held out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from common import options, read_rows, table, write_figure
from table import Row, report

import tinygrad_seq as tg
from tinygrad_seq.models import Forecaster

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

YEAR = 365.25  # days
ORDERS = range(1, 37)
UNSCORED = 10  # steps of a window in which the network gets to know where it is
B = 32
RATE = 5e-3  # of learning
SHOWN = 120  # steps in the picture
COLOURS = {"measured": "#b9c2d0", "GRU": "#2c4875", "persistence": "#5c6b80", "AR": "#8a96a8", "same": "#ff7c43"}


# ---- the series -----------------------------------------------------------------------------------------------------------


class Series(NamedTuple):
    """A series, step by step, and what is known of it."""

    unit: str
    when: Array
    """(n,), in years."""
    values: Array
    """(n, O), what is forecast, in its unit."""
    others: Array
    """(n, E), what is measured or known besides."""
    roots: bool
    """Whether the square root of the values is read and forecast."""
    known: int
    """The first so many steps are there to learn from; the rest is held out."""
    window: int
    """Steps of a window to train on."""
    epochs: int
    """Each goes through all windows."""

    def read(self) -> Array:
        """(n, E + O): all that a network reads, the values last; with mean 0 and deviation 1 over what is known."""
        columns = np.column_stack([self.others, np.sqrt(self.values) if self.roots else self.values])
        known = columns[: self.known]
        return np.asarray((columns - known.mean(axis=0)) / known.std(axis=0))

    def values_of(self, scaled: Array) -> Array:
        """Forecasts in the scale of `read`, in the values' unit again."""
        known = np.sqrt(self.values[: self.known]) if self.roots else self.values[: self.known]
        back = scaled * known.std(axis=0) + known.mean(axis=0)
        return np.asarray(np.maximum(back, 0) ** 2 if self.roots else back)


def weather() -> Series:
    """Seattle, 2012 to 2015: highest and lowest temperature."""
    rows = read_rows("seattle_weather.csv")
    rain, wind, *temperatures = (
        np.array([float(row[name]) for row in rows]) for name in ("precipitation", "wind", "temp_max", "temp_min")
    )
    season = 2 * np.pi * np.arange(len(rows)) / YEAR
    others = np.column_stack([np.sin(season), np.cos(season), np.sqrt(rain), wind])
    return Series(
        "°C", 2012 + np.arange(len(rows)) / YEAR, np.column_stack(temperatures), others,
        roots=False, known=len(rows) - 365, window=40, epochs=10,
    )  # fmt: skip


def sunspots(name: str, column: str, first: int, steps: int, window: int, epochs: int) -> Series:
    """The mean number of spots in each of so many steps of a year, from the first year on."""
    spots = np.array([[float(row[column])] for row in read_rows(name)])
    return Series(
        "spots", first + np.arange(len(spots)) / steps, spots, np.zeros((len(spots), 0)),
        roots=True, known=len(spots) * 4 // 5, window=window, epochs=epochs,
    )  # fmt: skip


def load() -> dict[str, Series]:
    """All three."""
    return {
        "weather": weather(),
        "sunspots, monthly": sunspots("sunspots_monthly.csv", "sunspots", 1749, 12, window=60, epochs=4),
        "sunspots, yearly": sunspots("sunspots.csv", "SUNACTIVITY", 1700, 1, window=40, epochs=40),
    }


# ---- the models that were there before ------------------------------------------------------------------------------------


def autoregression(read: Array, targets: Array, p: int, known: int) -> Array:
    """Least squares: targets<t> as a weighted sum of read<t-1>, ..., read<t-p> and a constant.

    Args:
        read: (n, I).
        targets: (n, O).
        p: how far back.
        known: the first so many steps decide the weights.

    Returns:
        (n, O), forecasts of all steps, in each of the first p the mean of what is known.
    """
    n = len(read)
    past = np.column_stack([np.ones(n - p), *(read[p - k : n - k] for k in range(1, p + 1))])  # (n - p, 1 + p I)
    weights = np.linalg.lstsq(past[: known - p], targets[p:known], rcond=None)[0]
    first = np.broadcast_to(targets[:known].mean(axis=0), (p, targets.shape[1]))
    return np.concatenate([first, past @ weights])


def information(read: Array, targets: Array, p: int, known: int) -> float:
    """Akaike's criterion (1974) of AR(p), of which less is better: N log of the mean squared error + 2 × the number of weights.

    Over what is known, from the step on that every order can forecast; summed over the targets.
    """
    errors = (autoregression(read, targets, p, known) - targets)[max(ORDERS) : known]
    weights = 1 + p * read.shape[1]  # for each target
    return float(np.sum(len(errors) * np.log((errors**2).mean(axis=0)) + 2 * weights))


def best_order(read: Array, targets: Array, known: int) -> int:
    """The p with the least `information`."""
    return min(ORDERS, key=lambda p: information(read, targets, p, known))


def by_its_own_past(series: Series) -> tuple[Array, str]:
    """AR(p), each value for itself: forecasts and name."""
    columns = series.values.T[:, :, None]
    orders = [best_order(each, each, series.known) for each in columns]
    said = [autoregression(each, each, p, series.known) for each, p in zip(columns, orders)]
    return np.column_stack(said), f"AR({', '.join(map(str, orders))})"


def by_same_inputs(series: Series) -> tuple[Array, str]:
    """AR(p) of all that the network reads: forecasts and name."""
    read = series.read()
    targets = read[:, -series.values.shape[1] :]
    p = best_order(read, targets, series.known)
    return series.values_of(autoregression(read, targets, p, series.known)), f"AR({p}), same inputs"


def persistence(series: Series) -> Array:
    """As it was a step ago."""
    return np.concatenate([series.values[:1], series.values[:-1]])


# ---- the network ----------------------------------------------------------------------------------------------------------


def network(series: Series, hidden: int, label: str) -> Array:
    """Train one on what is known. Gives its forecast of every step, (n, O), having read all steps before."""
    read = series.read().astype(np.float32)  # (n, I)
    size = series.values.shape[1]
    change = np.diff(read[:, -size:], axis=0)  # (n - 1, O)
    scale = change[: series.known - 1].std(axis=0)
    model = Forecaster(read.shape[1], hidden, size, cell="gru", dropout=0.2)
    scored = np.broadcast_to(np.arange(series.window)[:, None] >= UNSCORED, (series.window, B))

    def make(first: Array) -> tuple[Array, Array, Array]:
        steps = first + np.arange(series.window)[:, None]  # (T, B)
        return read[steps], change[steps] / scale, scored[:, : len(first)]

    def loss(model: Forecaster, window: tuple[Array, Array, Array]) -> Any:
        x, targets, scored = window
        return model.loss(x, targets, mask=scored)

    windows = tg.data.Minibatches(make, series.known - series.window, batch_size=B)  # the last one's last target is known
    optimizer = tg.optim.AdamW(model.parameters(), lr=RATE)
    schedule = tg.optim.CosineSchedule(optimizer, series.epochs * len(windows), warmup=20)
    tg.fit(model, windows, loss, optimizer=optimizer, schedule=schedule, epochs=series.epochs, clip_norm=1.0, label=label)
    said = read[:-1, -size:] + scale * model.predict(read[:-1, None])[:, 0]
    return np.concatenate([series.values[:1], series.values_of(said.astype(float))])


# ---- what came of it ------------------------------------------------------------------------------------------------------


def error(forecast: Array, series: Series) -> float:
    """The root of the mean squared error over the steps that are held out, in the values' unit."""
    return float(np.sqrt(((forecast - series.values)[series.known :] ** 2).mean()))


def ahead_figure(found: dict[str, Series], forecasts: dict[str, dict[str, Array]], errors: dict[str, dict[str, float]]) -> Figure:
    """For each series, left: everybody's error. Right: some held-out steps, measured and forecast."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.6 * len(found)), layout="constrained")
    for (name, series), (left, right) in zip(found.items(), figure.subplots(len(found), 2, squeeze=False, width_ratios=(2, 3))):
        models = list(errors[name])
        colours = [COLOURS["GRU"], COLOURS["persistence"], COLOURS["AR"], COLOURS["same"]]
        bars = left.barh(models, list(errors[name].values()), color=colours, height=0.8)
        left.bar_label(bars, fmt=f"%.4g {series.unit}", label_type="center", color="white")
        left.invert_yaxis()
        left.set(title=f"{name}: error one step ahead", xticks=[])
        left.tick_params(length=0)
        steps = slice(series.known, series.known + SHOWN)
        right.plot(series.when[steps], series.values[steps, 0], "o", color=COLOURS["measured"], markersize=4, label="measured")
        for model, colour in {models[0]: "GRU", models[-1]: "same"}.items():
            said = forecasts[name][model][steps, 0]
            right.plot(series.when[steps], said, color=COLOURS[colour], linewidth=1.2, label=model)
        right.ticklabel_format(useOffset=False)
        right.set(ylabel=series.unit, title=f"{name}: steps that were held out")
        right.legend(frameon=False, fontsize=8, ncols=3)
        right.margins(y=0.2)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
        left.spines["bottom"].set_visible(False)
    return figure


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Forecast all three series in four ways, compare, draw."""
    parser = options(__doc__, hidden=16, networks=3)
    arguments = parser.parse_args(argv)
    found = load()
    if arguments.quick:
        arguments.networks, arguments.hidden = 1, min(arguments.hidden, 4)
        found = {name: series._replace(epochs=1) for name, series in found.items()}
    tg.manual_seed(arguments.seed)
    gru = f"GRU of {arguments.hidden}, mean of {arguments.networks}"
    forecasts: dict[str, dict[str, Array]] = {}
    alone: dict[str, list[float]] = {}
    rows = []
    for name, series in found.items():
        started = time.process_time()
        labels = [f"{name}, {i + 1} of {arguments.networks}" for i in range(arguments.networks)]
        said = [network(series, arguments.hidden, label) for label in labels]
        seconds = time.process_time() - started
        alone[name] = [error(each, series) for each in said]
        forecasts[name] = {gru: np.mean(said, axis=0), "persistence": persistence(series)}
        for said, label in (by_its_own_past(series), by_same_inputs(series)):
            forecasts[name][label] = said
        for opponent in list(forecasts[name])[1:]:
            ours, theirs = (error(forecasts[name][who], series) for who in (gru, opponent))
            rows.append(Row(name, f"{series.unit} of error", gru, ours, opponent, theirs, seconds, less_is_better=True))

    errors = {name: {who: error(each, series) for who, each in forecasts[name].items()} for name, series in found.items()}
    for name, some in errors.items():
        print(f"\n{name}, {len(found[name].values) - found[name].known} steps held out, error in {found[name].unit}:\n")
        print(table(["model", "error"], [[who, f"{value:.3f}"] for who, value in some.items()]))
        print(f"\nThe networks one by one: {', '.join(f'{value:.3f}' for value in alone[name])}")
    print("\nwritten:", write_figure(ahead_figure(found, forecasts, errors), arguments.out / "ahead.png"))
    return report("ahead", rows, arguments, errors=errors, alone=alone)


if __name__ == "__main__":
    main()
