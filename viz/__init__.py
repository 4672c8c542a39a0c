"""From a tape to a picture.

    viz.draw(tape).save("bptt.svg")
    viz.play(tape).save("bptt.html")
    viz.gradient_flow(tape).savefig("flow.png")

`graph.py` says what happens in which file, and in which order to read them.
"""

from tinygrad_seq.viz.drawing import Drawing, draw
from tinygrad_seq.viz.flow import gradient_flow
from tinygrad_seq.viz.page import Page, play
from tinygrad_seq.viz.program import NoGraphvizError

__all__ = ["Drawing", "NoGraphvizError", "Page", "draw", "gradient_flow", "play"]
