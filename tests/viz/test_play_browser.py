"""The player in a real browser: slider, keys, stepping back, what it says, and that nothing leaves the page."""

import re
import time

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz

from . import modelled, runs
from .browser import Browser, missing

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
    pytest.mark.xdist_group("browser"),  # one worker starts it
]


@pytest.fixture(scope="module")
def browser():
    with Browser() as started:
        yield started


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A tape, its drawing, and the file of its page: an LSTM of three steps, at level gate."""
    tape, loss = runs.lstm(3)
    loss.backward()
    path = viz.play(tape, level="gate").save(tmp_path_factory.mktemp("player") / "page.html")
    return tape, viz.draw(tape, level="gate"), path


@pytest.fixture
def player(browser, shown):
    """The browser with the page freshly loaded."""
    browser.media()
    browser.size(1400, 900)
    browser.open(shown[2])
    yield browser
    assert browser.complaints() == []


def go(browser, k):
    """Move the slider."""
    browser.js(
        "const slider = document.getElementById('player:slider');"
        "slider.value = arguments[0]; slider.dispatchEvent(new Event('input', { bubbles: true }))", k,
    )  # fmt: skip


def at(browser):
    """The position that the page shows."""
    return int(browser.js("return document.getElementById('player:position').textContent").split(" / ")[0])


def text(browser, name):
    return browser.js("return document.getElementById(`player:${arguments[0]}`).textContent", name)


STATE = """
return document.body.dataset.phase + document.querySelector('main').innerHTML + document.querySelector('footer').innerHTML
"""


def state(browser):
    """All that the page shows, as text, and where the slider is; scrolling apart."""
    return browser.js(STATE), browser.js("return document.getElementById('player:slider').value")


def test_nothing_leaves_the_page(player, shown):
    player.requests()
    player.open(shown[2])
    go(player, 5)
    player.press("End")
    assert player.requests() == [shown[2].as_uri()]
    assert player.js("return performance.getEntriesByType('resource')") == []


def test_a_request_would_be_refused_and_noticed(player):
    """The test above must be able to fail: the policy of the page stops a picture, and the browser says so."""
    player.js("document.body.append(Object.assign(new Image(), { src: 'https://example.invalid/x.png' }))")
    assert any("Content Security Policy" in line for line in player.complaints())


def test_it_starts_before_the_first_entry(player, shown):
    tape, drawing, _ = shown
    assert at(player) == 0 and text(player, "where").startswith("Start")
    assert player.js("return document.querySelectorAll('[data-state=active]').length") == 0
    assert player.js("return document.querySelector('.picture > svg').getAttribute('aria-label')") == drawing.alt_text
    assert f"{len(tape)} entries" in text(player, "summary")


EVERY_STEP = """
const slider = document.getElementById('player:slider'), found = [];
for (let k = 1; k <= slider.max; k++) {
  slider.value = k;
  slider.dispatchEvent(new Event('input', { bubbles: true }));
  const active = (kind) => [...document.querySelectorAll(`.picture > svg g.${kind}[data-state=active]`)].map((g) => g.id);
  found.push({
    phase: document.body.dataset.phase,
    line: document.querySelector('.tape [aria-current]').textContent.trimEnd(),
    nodes: active('node').filter((id) => !id.endsWith('.small')),
    forward: active('forward'), backward: active('backward'),
    printed: [...document.querySelectorAll('.printed')].map((p) => p.textContent),
    held: document.getElementById('player:held').textContent,
  });
}
return found;
"""


def test_every_step_shows_its_line_its_boxes_and_its_bytes(player, shown):
    tape, drawing, _ = shown
    lines = str(tape).splitlines()[1:]
    found = player.js(EVERY_STEP)
    events = tape.events
    assert len(found) == len(tape) + len(events)
    held = 0
    for k, step in enumerate(found):
        index = k if k < len(tape) else events[k - len(tape)].index
        assert step["phase"] == ("forward" if k < len(tape) else "backward")
        assert step["line"].split() == lines[index].split()  # columns are as wide as they are shown
        assert step["nodes"] == [node["id"] for node in drawing.data["nodes"] if index in node["entries"]]
        assert not step["backward"] if k < len(tape) else not step["forward"]
        held += tape[index].saved_bytes if k < len(tape) else -tape[index].saved_bytes
        assert step["held"].startswith(f"{held:,} of")
        if k >= len(tape):
            assert step["printed"] == str(events[k - len(tape)]).splitlines()
    backward = [name for step in found for name in step["backward"]]
    assert len(set(backward)) > 30


def test_numbers_of_a_step(player, shown):
    """The tanh of c<2>: what comes in, 1 - y * y, and what goes out stand there as on the tape."""
    tape, _, _ = shown
    squashed = next(entry for entry in tape.find("tanh") if entry.inputs == (tape.find("c<2>")[0].index,))
    n, event = next((n, event) for n, event in enumerate(tape.events) if event.index == squashed.index)
    go(player, len(tape) + n + 1)
    tables = player.js(
        "return [...document.querySelectorAll('#player\\\\:numbers table')]"
        ".map((table) => [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent)))"
    )
    y = event.entry.value
    for table, array in zip(tables, (event.cotangent, 1 - y * y, event.terms[0][1]), strict=True):
        shown_values = [[float(cell.replace("−", "-")) for cell in row] for row in table]
        np.testing.assert_allclose(shown_values, array, rtol=1e-3)


def test_stepping_back_shows_exactly_what_was_there(player, shown):
    turn, last = len(shown[0]), len(shown[0]) + len(shown[0].events)
    seen = set()
    for k in (0, 1, turn - 1, turn, turn + 1, last - 1):
        go(player, k)
        before = state(player)
        player.press("ArrowRight")
        assert at(player) == k + 1 and state(player) != before
        player.press("ArrowLeft")
        assert state(player) == before
        go(player, last if k < turn else 0)  # and from far away
        go(player, k)
        assert state(player) == before
        seen.add(before)
    assert len(seen) == 6


def test_the_keyboard(player, shown):
    last = len(shown[0]) + len(shown[0].events)
    player.press("ArrowRight", "ArrowRight", "ArrowRight")
    assert at(player) == 3
    player.press("ArrowLeft")
    assert at(player) == 2
    player.press("End")
    assert at(player) == last
    player.press("ArrowRight")
    assert at(player) == last
    player.press("Home")
    assert at(player) == 0
    player.press("ArrowLeft")
    assert at(player) == 0
    player.js("document.getElementById('player:slider').focus()")  # which has keys of its own: no key counts twice
    player.press("ArrowRight", "ArrowRight")
    assert at(player) == 2
    player.js("document.getElementById('player:speed').focus()")
    player.press("ArrowRight")
    assert at(player) == 2


def test_play_and_pause(player, shown):
    player.js("document.getElementById('player:speed').value = 30")
    player.press(" ")
    assert text(player, "play").strip() == "Pause"
    player.until("document.getElementById('player:slider').value > 3")
    player.press(" ")
    there = at(player)
    assert text(player, "play").strip() == "Play"
    time.sleep(0.2)
    assert at(player) == there
    player.click("#player\\:play")
    player.until(f"document.getElementById('player:slider').value > {there}")
    player.press("ArrowLeft")  # a step by hand stops it
    assert text(player, "play").strip() == "Play"


def test_playing_stops_at_the_end_and_starts_again(player, shown):
    last = len(shown[0]) + len(shown[0].events)
    player.js("document.getElementById('player:speed').value = 30")
    go(player, last - 2)
    player.click("#player\\:play")
    player.until(f"document.getElementById('player:slider').value == {last} && !document.body.classList.contains('playing')")
    player.click("#player\\:play")
    player.until("document.getElementById('player:slider').value < 100")
    player.press(" ")


def test_a_screen_reader_hears_the_line(player, shown):
    tape, _, _ = shown
    assert player.js("return document.getElementById('player:spoken').getAttribute('aria-live')") == "polite"
    player.press("ArrowRight")
    assert text(player, "spoken") == f"Forward entry 1 of {len(tape)}: h<init> = constant"
    go(player, len(tape) + 2)
    said = text(player, "spoken")
    assert said.startswith(f"Backward step 2 of {len(tape.events)}: ") and str(tape.events[1]).splitlines()[0] in said
    assert player.js("return document.getElementById('player:slider').ariaValueText") == f"Backward step 2 of {len(tape.events)}"


def names_by_role(browser):
    """What the browser tells assistive programs."""
    named = {}
    for node in browser.cdp("Accessibility.getFullAXTree")["nodes"]:
        if not node.get("ignored"):
            role, name = (node.get(key, {}).get("value", "") for key in ("role", "name"))
            named.setdefault(role, []).append(name)
    return named


def test_every_control_has_a_name(player, shown):
    named = names_by_role(player)
    for role in ("button", "slider", "combobox", "image"):
        assert named[role] and all(named[role]), (role, named[role])
    assert {"To the start", "Step back", "Play", "Step forward", "To the end"} <= set(named["button"])
    assert shown[1].alt_text in named["image"]
    player.press(" ")
    assert "Pause" in names_by_role(player)["button"]
    player.press(" ")


def test_dark_pages_and_reduced_motion(player):
    page = "return getComputedStyle(document.body).backgroundColor"
    box = "return getComputedStyle(document.querySelector('g.gate path')).fill"
    arrow = "return getComputedStyle(document.querySelector('g.backward path')).stroke"
    moves = "return getComputedStyle(document.querySelector('g.node[data-state]')).transitionDuration"
    light = [player.js(script) for script in (page, box, arrow)]
    assert player.js(moves) == "0s"
    player.media(dark=True, still=False)
    dark = [player.js(script) for script in (page, box, arrow)]
    assert [brightness(colour) > 0.8 for colour in light[:2]] == [True, True]
    assert [brightness(colour) < 0.35 for colour in dark[:2]] == [True, True]
    assert dark[2] == light[2]  # the colour of a gradient is a number
    assert player.js(moves) != "0s"


def brightness(colour):
    return max(map(int, re.findall(r"\d+", colour)[:3])) / 255


@pytest.mark.parametrize("width", [1400, 800, 400])
def test_the_page_fits(player, width):
    player.size(width, 900)
    go(player, 40)
    assert player.js("return document.documentElement.scrollWidth") <= width
    box = player.js(
        "const box = document.querySelector('[data-state=active]').getBoundingClientRect(),"
        "pane = document.querySelector('.picture').getBoundingClientRect();"
        "return [box.left - pane.left, pane.right - box.right, box.top - pane.top, pane.bottom - box.bottom]"
    )
    assert min(box) >= 0  # the box at work is in view
    footer = player.js("const box = document.querySelector('footer').getBoundingClientRect(); return [box.top, box.bottom]")
    assert 0 < footer[0] < footer[1] <= 900


BARS = """
return [...document.querySelectorAll('.picture > svg [id^="share."][data-state]')]
  .filter((bar) => getComputedStyle(bar).visibility === "visible").map((bar) => bar.id)
"""


def test_a_bar_appears_when_its_share_is_known(player, shown):
    tape, drawing, _ = shown
    (strip,) = drawing.data["shares"]
    name = f"share.{strip['weight']}"
    (weight,) = next(node["entries"] for node in drawing.data["nodes"] if node["id"] == strip["weight"])
    go(player, len(tape))
    assert player.js(BARS) == []
    seen = set()
    for k, event in enumerate(tape.events, len(tape) + 1):
        if weight in dict(event.terms) or event.index == weight:
            go(player, k)
            now = {bar.removeprefix(name) for bar in player.js(BARS) if bar != "share.title" and not bar.endswith(".zero")}
            new, seen = now - seen, now
            assert new == ({".sum"} if event.index == weight else {f".{event.entry.t}{part}" for part in PARTS})
    assert len(seen) == 3 * len(PARTS) + 1


PARTS = ("", ".norm", ".step", ".total")


def test_nothing_jumps_about_while_it_plays(player, shown):
    """The line of the tape, the numbers and the curve of the bytes stay where they are, whatever stands in them."""
    places = set()
    player.size(1400, 700)
    for k in range(0, len(shown[0]) + len(shown[0].events) + 1, 7):
        go(player, k)
        places.add(tuple(player.js(
            "return ['tape', 'numbers', 'curve', 'held'].map((name) =>"
            " document.getElementById(`player:${name}`).getBoundingClientRect().top)"
        )))  # fmt: skip
    assert len(places) == 1
    assert max(*places.pop()) < 600


CUT = "return [...document.querySelectorAll('.tape .cut')].map((cell) => [cell.textContent, cell.title])"


def test_the_tape_fits_its_place(browser, tmp_path):
    """All of its columns are seen; what is longer than a column is cut, and told in full when pointed at."""
    tape, _ = modelled.topology("encoder-decoder")
    browser.media()
    browser.size(1400, 900)
    browser.open(viz.play(tape, level="cell", unfold=False).save(tmp_path / "long names.html"))
    cut = set()
    for k in range(1, len(tape), 7):
        go(browser, k)
        assert browser.js("const tape = document.getElementById('player:tape'); return tape.scrollWidth - tape.clientWidth") == 0
        cut |= set(map(tuple, browser.js(CUT)))
    assert cut and all(text == title for text, title in cut)
    assert browser.complaints() == []


def test_a_wide_picture_stands_above_the_rest_if_all_of_it_can_be_read_there(browser, tmp_path):
    tape, loss = runs.elman(9, loss_at_every_step=False)
    loss.backward()
    browser.media()
    browser.size(1400, 1000)
    browser.open(viz.play(tape, level="cell", unfold=False).save(tmp_path / "wide.html"))
    measure = (
        "const pane = document.querySelector('.picture'), side = document.querySelector('.side').getBoundingClientRect();"
        "return [document.body.classList.contains('stacked'), pane.scrollWidth <= pane.clientWidth,"
        " pane.scrollHeight <= pane.clientHeight, side.top >= pane.getBoundingClientRect().bottom]"
    )
    assert browser.js(measure) == [True] * 4
    browser.size(1400, 600)  # too low for both
    browser.until("!document.body.classList.contains('stacked')")
    browser.size(1400, 1000)
    browser.until("document.body.classList.contains('stacked')")
    assert browser.complaints() == []


def test_the_focus_goes_from_the_picture_to_the_numbers_to_the_player(player):
    """By the Tab key, and where it is can be seen."""
    order = {}
    go(player, 60)
    for _ in range(14):
        player.press("Tab")
        name, outline = player.js(
            "const at = document.activeElement; return [at.id.replace('player:', ''), getComputedStyle(at).outlineStyle]"
        )
        order.setdefault(name, outline)
    wanted = ["picture", "tape", "numbers", "first", "back", "play", "next", "last", "slider", "speed"]
    assert [name for name in order if name in wanted] == wanted
    assert {order[name] for name in wanted} == {"solid"}


def test_small_gradients_are_seen_in_the_dark(browser, tmp_path):
    """Their colour is dark blue and must stay, so they are given a light around them."""
    w, h = tg.Parameter([[0.2]], name="w"), tg.tensor([[1.0]], name="h<init>")
    with tg.record() as tape:
        for t in range(4):
            with tg.scope("rnn", t=t):
                h = h @ w
    h.backward()
    browser.open(viz.play(tape, level="op").save(tmp_path / "small.html"))
    browser.press("End")
    lit = (
        "const arrows = [...document.querySelectorAll('.edge.backward path')];"
        "return arrows.map((path) => [path.getAttribute('stroke'), getComputedStyle(path).filter !== 'none'])"
    )
    assert not any(seen for _, seen in browser.js(lit))
    browser.media(dark=True)
    arrows = browser.js(lit)
    for colour, seen in arrows:
        assert seen == (int(colour[1:3], 16) < 0x50)
    assert {seen for _, seen in arrows} == {True, False}


def test_a_long_tape_opens_and_plays(browser, tmp_path):
    """50 steps of an LSTM, operation by operation."""
    tape, _ = modelled.recorded("LSTM", T=50)
    browser.media()
    browser.size(1400, 900)
    browser.open(viz.play(tape, level="op", steps="all", budget=10_000).save(tmp_path / "long.html"))
    go(browser, len(tape) + 300)
    event = tape.events[299]
    assert f"t = {event.entry.t}" in text(browser, "where")
    assert browser.js("return document.querySelector('.picture').scrollLeft") > 3000  # it has followed
    active = browser.js("return [...document.querySelectorAll('.picture > svg .node[data-state=active]')].map((g) => g.id)")
    assert active and all(f"t{event.entry.t}." in name for name in active if ".sum" not in name)
    assert browser.complaints() == []


def test_a_click_unfolds_a_box_in_place_and_another_goes_to_its_step(player, shown):
    tape, _, _ = shown
    folded = "return document.getElementById('player:unfolded').hidden"
    assert player.js(folded)
    player.click("[id='t0.lstm.f']")
    assert not player.js(folded)
    inside = player.js("return [...document.querySelectorAll('.unfolded [data-inside]')].map((g) => g.id)")
    assert {"finer:t0.lstm.f.matmul", "finer:t0.lstm.f.add", "finer:t0.lstm.f.sigmoid"} == set(inside)
    seen = player.js(
        "const pane = document.querySelector('.unfolded').getBoundingClientRect();"
        "return [...document.querySelectorAll('.unfolded [data-inside]')].map((g) => g.getBoundingClientRect())"
        ".every((box) => box.left >= pane.left && box.right <= pane.right && box.top >= pane.top && box.bottom <= pane.bottom)"
    )
    assert seen
    player.press("Escape")
    assert player.js(folded)
    player.click("[id='t0.lstm.concatenate']")  # one operation: nothing to unfold
    assert at(player) == tape.find("concatenate")[0].index + 1
    go(player, tape.find("f", t=1)[0].index + 1)
    player.press("u")
    assert text(player, "unfolded-name") == "t1.lstm.f"
    assert player.js("return document.querySelectorAll('.unfolded [data-inside][data-state=active]').length") == 1
    player.press("u")
    assert player.js(folded)


def test_hostile_names_are_text(browser, tmp_path):
    hostile = "</script><script>document.title = 'owned'</script><img src=x onerror=alert(1)> \u202e\u2028 \" ' & %0 `${1}`"
    x = tg.tensor([1.0], requires_grad=True, name=hostile)
    with tg.record() as tape, tg.scope("<b>scope</b>", t=0):
        y = np.tanh(x)
    y.backward()
    browser.open(viz.play(tape, level="op").save(tmp_path / "hostile.html"))
    go(browser, 4)
    assert browser.js("return document.title") == "A tape, step by step"
    assert browser.js("return document.querySelectorAll('script, img, main b:not(.what b)').length") == 2
    current = browser.js("return document.querySelector('.tape [aria-current]').textContent")
    assert hostile.replace("\u2028", "↵") in current
    assert browser.complaints() == []


def test_a_tape_without_a_backward_pass(browser, tmp_path):
    tape, _ = runs.elman(2)
    browser.open(viz.play(tape).save(tmp_path / "forward.html"))
    assert "no backward pass" in text(browser, "summary") and "run loss.backward()" in text(browser, "numbers")
    browser.press("End")
    assert at(browser) == len(tape)
    assert browser.complaints() == []


def test_a_missing_browser_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert missing() == "no chromium and no chromedriver on PATH"


SEEN = """
const seen = (element) => getComputedStyle(element).visibility === 'visible' && getComputedStyle(element).opacity > 0;
const drawn = [...document.querySelectorAll('.picture > svg :is(g.node, g.edge)')].filter(seen);
const key = [...document.querySelectorAll('.key .scale')].filter(seen);
return [...drawn.map((g) => [g.id, g.getAttribute('class').split(' ')[1]]), ...key.map(() => ['key', 'scale'])];
"""
LATE = ("backward", "trunk", "norm", "share", "scale", "legend")


def seen(player, k):
    """What of the backward pass, and of the words about it, is seen at a position: (id, kind)."""
    go(player, k)
    named = ("caption", "share")
    found = {(name, name.partition(".")[0] if name.startswith(named) else kind) for name, kind in player.js(SEEN)}
    return {(name, kind) for name, kind in found if kind in (*LATE, "caption") and not name.startswith("legend.forward")}


def test_nothing_of_the_backward_pass_is_seen_before_it_has_come_there(player, shown):
    """No arrow back, no trunk, no norm, no bar, no scale, and nothing in words."""
    tape = shown[0]
    turn, last = len(tape), len(tape) + len(tape.events)
    assert all(seen(player, k) == set() for k in (0, 1, turn // 2, turn))
    assert {kind for _, kind in seen(player, last)} == {*LATE, "caption"}
    assert {kind for _, kind in seen(player, turn + 1)} <= {"backward", "legend", "scale", "share"}
    assert "caption" not in {kind for _, kind in seen(player, last - 1)}
    for k in range(turn, last + 1, 3):  # a number comes with its arrow, a trunk with its first term
        now = seen(player, k)
        arrows = {name for name, kind in now if kind == "backward"}
        assert {name.removesuffix(".norm") for name, kind in now if kind == "norm"} <= arrows
        for trunk in (name for name, kind in now if kind == "trunk"):
            assert any(arrow.endswith(f"-{trunk.removesuffix('.trunk')}") for arrow in arrows)


def test_a_product_is_told_as_one_of_numbers_and_not_of_norms(player, shown):
    """tanh multiplies element by element, by numbers between 0 and 1; log_softmax and a loss's index do not multiply at all."""
    tape, _, _ = shown
    signs = "return [...document.querySelectorAll('#player\\\\:numbers .term .sign')].map((sign) => sign.textContent)"
    squashed = next(n for n, event in enumerate(tape.events) if event.entry.op == "tanh")
    go(player, len(tape) + squashed + 1)
    assert player.js(signs) == ["×", "="]
    local = player.js("return document.querySelectorAll('#player\\\\:numbers .term small')[0].textContent")
    assert "element by element" in local and " to " in local and "norm" not in local


def test_what_is_no_product_has_no_sign_of_one(browser, tmp_path):
    x = tg.Parameter(np.linspace(0, 1, 40).reshape(4, 10), name="x")
    with tg.record() as tape:
        loss = tg.losses.cross_entropy(x, np.array([1, 2, 3, 4]))
    loss.backward()
    n = next(n for n, event in enumerate(tape.events) if event.entry.op == "log_softmax")
    browser.media()
    browser.open(viz.play(tape, level="op").save(tmp_path / "it.html"))
    go(browser, len(tape) + n + 1)
    signs = "return [...document.querySelectorAll('#player\\\\:numbers .term .sign')].map((sign) => sign.textContent)"
    assert browser.js(signs) == ["", "→"]
    assert "kept since forward" in text(browser, "numbers")


def test_norms_in_words_are_not_seen_before_either(browser, tmp_path):
    """Those beside a loop, and in the box of the steps that are left out."""
    tape, _ = modelled.recorded("LSTM", T=8)
    browser.media()
    words = (
        "return [...document.querySelectorAll('.picture > svg :is([id$=\".label\"], .elided) text')]"
        ".filter((text) => getComputedStyle(text).visibility === 'visible').map((text) => text.textContent)"
    )
    for options in ({"level": "rolled"}, {"level": "cell", "steps": 3}):
        browser.open(viz.play(tape, unfold=False, **options).save(tmp_path / "it.html"))
        for k, expected in ((0, False), (len(tape), False), (len(tape) + len(tape.events), True)):
            go(browser, k)
            assert any("gradient" in text for text in browser.js(words)) == expected
    assert browser.complaints() == []
