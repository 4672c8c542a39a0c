"use strict";
// The page shows one number, the position: 0 before the first entry, k while step k is at work. Everything on it is a
// function of that number, so stepping back is showing a smaller one, and there is nothing to undo.
{
const part = (name) => document.getElementById(`player:${name}`);
const film = JSON.parse(part("film").textContent);
const steps = [...film.forward, ...film.backward];
const turn = film.forward.length;  // the last position of the forward pass
const still = matchMedia("(prefers-reduced-motion: reduce)");
let position = 0;
let timer = null;
let unfolded = null;  // the box that is unfolded, by its number

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// ---- the picture: when is which box and arrow at work? ----

// Each actor knows the first and the last step that it plays in, forward and backward.
class Actor {
  constructor(elements) {
    this.elements = elements;
    this.forward = this.backward = null;
    this.state = null;
  }
  plays(k) {
    const phase = k <= turn ? "forward" : "backward";
    this[phase] ??= { first: k, last: k };
    this[phase].last = k;
  }
  show(k, atWork) {
    const times = k <= turn ? this.forward : this.backward;
    // Forward, what plays no part was there before (an initial state); backward, it is what no gradient reaches.
    const state = atWork ? "active"
      : !times ? (k <= turn ? "done" : "waiting")
      : k > times.last ? "done" : k > times.first ? "begun" : "waiting";
    if (state === this.state) return;
    this.state = state;
    for (const element of this.elements) element.dataset.state = state;
  }
}

// The actors of a picture. The class of an arrow is "edge backward", that of a box "node op"; an arrow's id may be a box's.
function castOf(svg, { nodes, edges }) {
  const drawn = new Map();
  for (const group of svg.querySelectorAll("g.node, g.edge")) {
    const id = group.id.replace(/^finer:/, "");
    const key = group.classList.contains("edge") ? `${group.classList[1]} ${id}` : id;
    drawn.set(key, [...drawn.get(key) ?? [], group]);
  }
  return {
    nodes: nodes.map((id) => new Actor([...drawn.get(id) ?? [], ...drawn.get(`${id}.small`) ?? []])),
    edges: edges.map(([kind, id]) => new Actor(drawn.get(`${kind} ${id}`) ?? [])),
  };
}
const [picture, finer] = part("picture").querySelectorAll("svg");
const cast = film.pictures.map((ids, n) => castOf([picture, finer][n], ids));
steps.forEach((step, i) => step.lit.forEach(([nodes, edges], n) => {
  for (const node of nodes) cast[n].nodes[node].plays(i + 1);
  for (const edge of edges) cast[n].edges[edge].plays(i + 1);
}));

// What the backward pass finds out is not seen before it has: the scale once there is a gradient, a number once its arrow has
// played, a trunk once its first term has, a bar once the sweep has passed the weight's uses at that step, the caption at the end.
const known = new Map();  // by the element: the step
cast.forEach(({ edges }, n) => {
  if (!film.backward.length) return;
  const svg = [picture, finer][n], prefix = n ? "finer:" : "";
  const told = (name, step) => svg.querySelectorAll(`g[id^="${prefix}${name}"]`).forEach((g) => known.set(g, step));
  told("legend.", turn + 1);
  told("share.", turn + 1);
  told("caption.", steps.length);
  for (const g of svg.querySelectorAll(`g[id^="${prefix}legend.forward"]`)) known.delete(g);
  const trunks = [...svg.querySelectorAll("g.trunk")];
  for (const trunk of trunks) known.set(trunk, Infinity);
  film.pictures[n].edges.forEach(([kind, id], i) => {
    if (kind !== "backward") return;
    const first = edges[i].backward?.first ?? Infinity;
    for (const part of [".norm", ".label"]) {
      const element = document.getElementById(prefix + id.replace(/~back$/, "") + part);
      if (element) known.set(element, first);
    }
    for (const trunk of trunks) {
      const end = `-${trunk.id.slice(prefix.length, -".trunk".length)}`;
      if (id.replace(/~\d+$/, "").endsWith(end)) known.set(trunk, Math.min(first, known.get(trunk)));
    }
  });
});
for (const [id, step] of film.bars) {
  for (const part of ["", ".norm", ".number", ".most", ".step", ".total"]) {
    const element = document.getElementById(id + part);
    if (element) known.set(element, step);
  }
}
for (const element of known.keys()) element.classList.add("late");

function showKnown(k) {
  for (const [element, step] of known) element.dataset.state = k >= step ? "done" : "waiting";
}

function showPicture(k) {
  showKnown(k);
  cast.forEach(({ nodes, edges }, n) => {
    const [litNodes, litEdges] = k ? steps[k - 1].lit[n] : [[], []];
    nodes.forEach((actor, i) => actor.show(k, litNodes.includes(i)));
    edges.forEach((actor, i) => actor.show(k, litEdges.includes(i)));
  });
  if (k) follow(steps[k - 1].lit[0][0].flatMap((i) => cast[0].nodes[i].elements)[0]);
}

// Scroll the box at work into view, if it is not.
function follow(element) {
  if (!element) return;
  const pane = part("picture"), box = element.getBoundingClientRect(), frame = pane.getBoundingClientRect();
  const outside = box.left < frame.left || box.right > frame.right || box.top < frame.top || box.bottom > frame.bottom;
  if (!outside) return;
  pane.scrollBy({
    left: (box.left + box.right - frame.left - frame.right) / 2,
    top: (box.top + box.bottom - frame.top - frame.bottom) / 2,
    behavior: still.matches || timer ? "auto" : "smooth",
  });
}

// ---- the tape, as it prints ----

const oneLine = (text) => text.replace(/[\n\r\v\f\x85\u2028\u2029]/g, "↵");
const rows = [film.titles, ...film.rows].map((cells) => cells.map(oneLine));
const needed = film.titles.map((_, c) => Math.max(...rows.map((cells) => [...cells[c]].length)));
const shortened = [5, 2, 3], LEAST = 8;  // inputs, scopes and names are cut where there is no room; the line below has all
let widths = needed;

// As wide as needed, and as narrow as the place allows.
function fitColumns() {
  const probe = make("span", {}, "0".repeat(100));
  part("tape").replaceChildren(make("div", {}, probe));
  const room = Math.floor((part("tape").clientWidth - 18) / (probe.getBoundingClientRect().width / 100));
  widths = [...needed];
  const over = () => widths.reduce((sum, width) => sum + width + 2, -2) - room;
  while (over() > 0 && shortened.some((c) => widths[c] > LEAST)) {
    widths[shortened.reduce((a, b) => widths[b] > widths[a] ? b : a)] -= 1;  // the widest of them
  }
}
const toTheRight = new Set([0, 1, film.titles.length - 1]);
const AROUND = 3;  // lines shown above and below the current one

function line(row, attributes) {
  return make("div", attributes, ...rows[row].map((text, c) => {
    const free = widths[c] - [...text].length, gap = " ".repeat(Math.max(0, free)), between = c + 1 < widths.length ? "  " : "";
    const cut = free < 0 ? { class: "cut", style: `width: ${widths[c]}ch`, title: text } : {};
    return make("span", {}, make("span", cut, toTheRight.has(c) ? gap + text : text + gap), between);
  }));
}

function showTape(k) {
  const current = k ? steps[k - 1].row : -1;
  const top = Math.max(0, Math.min(current - AROUND, film.rows.length - 2 * AROUND - 1));
  const lines = [line(0, { class: "titles" })];
  for (let row = top; row < Math.min(top + 2 * AROUND + 1, film.rows.length); row++) {
    const ahead = k <= turn && row > current;
    lines.push(line(row + 1, row === current ? { "aria-current": "step" } : ahead ? { class: "still" } : {}));
  }
  part("tape").replaceChildren(...lines);
}

// What ran, in a line: h<2> = tanh(z<2>)
function call(row) {
  const [index, , , name, op, inputs] = film.rows[row];
  return `${name || `%${index}`} = ${op}${inputs ? `(${inputs.split(" ").join(", ")})` : ""}`;
}
const label = (row) => film.rows[row][3] || `%${film.rows[row][0]}`;

// ---- the numbers ----

function digits(x) {
  if (typeof x !== "number") return String(x).replace("-", "−");  // what is not finite comes as text
  const tiny = x !== 0 && Math.abs(x) < 1e-4;
  return (tiny ? x.toExponential(2) : String(Number(x.toPrecision(4)))).replaceAll("-", "−");
}
const shape = (array) => array.shape.join("×") || "a number";

function matrix(array) {
  if (!("values" in array)) return "";
  const { values } = array;
  const lines = !Array.isArray(values) ? [[values]] : !Array.isArray(values[0]) ? [values] : values;
  return make("table", { class: "matrix", role: "presentation" },
    ...lines.map((cells) => make("tr", {}, ...cells.map((x) => make("td", {}, digits(x))))));
}

const normOf = (array) => array.norm === null ? "" : `, norm\u00a0${digits(array.norm)}`;
const spanOf = ([low, high]) => low === undefined ? "" : low === high ? `, ${digits(low)}` : `, ${digits(low)} to ${digits(high)}`;

// A line of the numbers: a sign, the name of an array, what there is to say of it, and its values if it is small.
function told(sign, name, array, role = "", more = "", size = normOf(array)) {
  const what = make("span", { class: "what" }, make("b", {}, name), make("small", {}, role + shape(array) + size + more));
  return make("div", { class: "row" }, make("span", { class: "sign" }, sign), what, matrix(array));
}

function forwardNumbers(step) {
  const name = label(step.row);
  const inputs = step.inputs.slice(0, 6).filter((i) => film.forward[i].value);
  const given = inputs.map((i) => told("", label(i), film.forward[i].value, "input, "));
  return [make("p", { class: "printed" }, call(step.row)),
    step.value ? told("", name, step.value) : make("p", { class: "none" }, "Nobody has kept this value; tg.record() keeps all."),
    given.length ? make("div", { class: "term" }, ...given) : ""];
}

function backwardNumbers(step) {
  const name = `d ${label(step.row)}`;
  const several = step.incoming.length > 1;  // outputs of one call
  const incoming = step.incoming.map((array, i) => told("", several ? `${name} [${i}]` : name, array, "incoming, "));
  if (step.terms.length) return [...incoming, ...step.terms.map((term) => termOf(step, term))];
  return [make("p", { class: "printed" }, name), ...incoming,
    make("p", { class: "none" }, "This is where it arrives: nothing on the tape made this value.")];
}

function termOf(step, { to, line, local, outgoing }) {
  const from = label(step.row);
  const [before] = step.incoming;
  const gain = step.incoming.length === 1 && outgoing.norm / before.norm;
  const partial = `∂ ${from} / ∂ ${to}`;
  // What is multiplied are numbers, not norms; and where the line above is no product, there is no sign of one.
  const factors = {
    partials: () => [told("×", partial, local.arrays[0], "element by element, ", "", spanOf(local.range))],
    jacobian: () => [told("×", partial, local.arrays[0], "as matrices, ", "", spanOf(local.range))],
    saved: () => local.arrays.length ? local.arrays.map((array, i) => told("", local.labels[i], array, "kept since forward, "))
      : [make("p", { class: "none" }, "It is linear: elements are moved or added up.")],
  }[local.kind]();
  const stretched = local.kind === "partials" && shape(before) !== shape(outgoing) ? ", added up over the stretched axes" : "";
  const became = Number.isFinite(gain) ? `, ${digits(gain)} times what came in` : "";
  return make("div", { class: "term" }, make("p", { class: "printed" }, line), ...factors,
    told(local.kind === "saved" ? "→" : "=", `to d ${to}`, outgoing, "outgoing, ", became + stretched));
}

function showNumbers(k) {
  const content = !k ? [make("p", { class: "none" }, film.backward.length
      ? "Nothing has run yet. The tape runs forward first, then its gradients flow back."
      : "Nothing has run yet. This tape has seen no backward pass: run loss.backward() before playing it.")]
    : k <= turn ? forwardNumbers(steps[k - 1]) : backwardNumbers(steps[k - 1]);
  part("numbers").replaceChildren(...content);
}

// ---- the bytes ----

const held = [0, ...steps.map((step) => step.held)];
const peak = Math.max(...held);
const across = (k) => 400 * k / steps.length;
const curve = part("curve");
const drawingOf = (tag, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  curve.append(element);
  return element;
};
function area(from, to, name) {
  let path = `M${across(from)},60`;
  for (let k = from; k <= to; k++) path += `L${across(k).toFixed(2)},${(58 - 54 * held[k] / (peak || 1)).toFixed(2)}`;
  drawingOf("path", { class: name, d: `${path}L${across(to).toFixed(2)},60` });
}
area(0, turn, "forward");
if (film.backward.length) area(turn, steps.length, "backward");
const cursor = drawingOf("line", { class: "cursor", y1: 0, y2: 60 });

function showBytes(k) {
  const said = `${held[k].toLocaleString("en")} of at most ${peak.toLocaleString("en")} bytes`;
  part("held").textContent = said;
  curve.setAttribute("aria-label", `Curve of the bytes held: ${said}`);
  cursor.setAttribute("x1", across(k));
  cursor.setAttribute("x2", across(k));
}

// ---- the position ----

function place(k) {
  if (!k) return ["Start", ""];
  return k <= turn ? ["Forward", `entry ${k} of ${turn}`] : ["Backward", `step ${k - turn} of ${steps.length - turn}`];
}

function show(k) {
  position = Math.max(0, Math.min(steps.length, k));
  const step = steps[position - 1];
  const [phase, count] = place(position);
  const side = position <= turn ? "forward" : "backward";
  if (document.body.dataset.phase !== side) document.body.dataset.phase = side;  // restyles the whole page
  showPicture(position);
  showTape(position);
  showNumbers(position);
  showBytes(position);
  const t = step && film.rows[step.row][1];
  part("where").replaceChildren(make("span", { class: "phase" }, phase), count + (t ? `, t = ${t}` : ""));
  part("slider").value = position;
  part("slider").setAttribute("aria-valuetext", `${phase} ${count}`);
  part("position").textContent = `${position} / ${steps.length}`;
  for (const name of ["first", "back"]) part(name).disabled = position === 0;
  for (const name of ["next", "last"]) part(name).disabled = position === steps.length;
  if (!timer) speak();
}

// Screen readers hear the current line; while playing they would hear nothing else, so then they do not.
function speak() {
  const step = steps[position - 1];
  const printed = (terms) => terms.map((term) => term.line).join("; ") || `d ${label(step.row)}`;
  const line = !step ? "" : position <= turn ? call(step.row) : printed(step.terms);
  part("spoken").textContent = [place(position).join(" "), line].filter(Boolean).join(": ");
}

function play() {
  if (position === steps.length) show(0);
  sayPlaying(true);
  tick();
}

function tick() {
  timer = setTimeout(() => {
    show(position + 1);
    if (position < steps.length) tick(); else pause();
  }, 1000 / part("speed").value);
}

function pause() {
  clearTimeout(timer);
  timer = null;
  sayPlaying(false);
  speak();
}

function sayPlaying(playing) {
  document.body.classList.toggle("playing", playing);
  part("play").querySelector("span").textContent = playing ? "Pause" : "Play";
}

function go(k) {
  if (timer) pause();
  show(k);
}
const act = {
  first: () => go(0), last: () => go(steps.length),
  back: () => go(position - 1), next: () => go(position + 1),
  play: () => timer ? pause() : play(),
  unfold: () => unfoldCurrent(), fold: () => fold(),
};
for (const [name, action] of Object.entries(act)) part(name).addEventListener("click", action);
part("slider").max = steps.length;
part("slider").addEventListener("input", (event) => go(Number(event.target.value)));
part("slider").parentElement.style.setProperty("--split", `${100 * turn / steps.length}%`);

const keys = { Home: "first", End: "last", ArrowLeft: "back", ArrowRight: "next", " ": "play", u: "unfold", Escape: "fold" };
document.addEventListener("keydown", (event) => {
  const name = keys[event.key];
  if (!name || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  if (event.target.matches("select") || (event.key === " " && event.target.matches("button"))) return;  // theirs
  event.preventDefault();
  act[name]();
});

// ---- the size of the picture; a click on a box goes to its step ----

const { width, height } = picture.viewBox.baseVal;
let zoom = 1;
function resize(to) {
  fold();
  zoom = Math.max(0.1, Math.min(4, to));
  picture.style.maxWidth = "none";
  picture.style.width = `${width * zoom}px`;
  picture.style.height = `${height * zoom}px`;
}
const toWidth = () => part("picture").clientWidth / width, toHeight = () => (part("picture").offsetHeight - 20) / height;
const fitting = () => Math.min(toWidth(), toHeight(), 1.25);
const READABLE = 0.75;  // at this size or larger the smallest text can be read
// A picture that is wide stands above the rest if it can be read as a whole there, and only there.
function arrange() {
  const { classList } = document.body;
  classList.remove("stacked");
  if (fitting() >= READABLE) return;
  classList.add("stacked");
  if (fitting() < READABLE) classList.remove("stacked");
}
// At first all of it, if that can be read; else as high as the pane, and it scrolls.
const readable = () => fitting() >= READABLE ? fitting() : Math.max(READABLE, Math.min(toHeight(), 1.1));
part("smaller").addEventListener("click", () => resize(zoom / 1.25));
part("larger").addEventListener("click", () => resize(zoom * 1.25));
part("fit").addEventListener("click", () => resize(Math.min(toWidth(), toHeight())));

cast[0].nodes.forEach((actor, i) => {
  for (const element of actor.elements) {
    element.dataset.seek = "";
    element.addEventListener("click", () => {
      const times = position <= turn ? actor.forward : actor.backward;
      if (film.inside[i]) unfold(i); else if (times) go(times.first);
    });
  }
});

// ---- a box unfolded in place: the part of the finer picture that it stands for, over the box ----

function unfold(i) {
  const over = part("unfolded"), pane = part("picture");
  if (unfolded === i) return fold();
  fold();
  unfolded = i;
  over.hidden = false;
  const parts = film.inside[i].flatMap((n) => cast[1].nodes[n].elements);
  for (const element of parts) element.dataset.inside = "";
  const boxes = parts.map((element) => element.getBBox());
  const pad = 16, left = Math.min(...boxes.map((b) => b.x)) - pad, top = Math.min(...boxes.map((b) => b.y)) - pad;
  const wide = Math.max(...boxes.map((b) => b.x + b.width)) + pad - left;
  const high = Math.max(...boxes.map((b) => b.y + b.height)) + pad - top;
  const shift = finer.querySelector("g.graph").transform.baseVal.consolidate().matrix;
  finer.setAttribute("viewBox", `${left + shift.e} ${top + shift.f} ${wide} ${high}`);
  const scale = Math.min(zoom, 0.9 * pane.clientWidth / wide, 0.9 * pane.clientHeight / high);
  finer.style.width = `${wide * scale}px`;
  finer.style.height = `${high * scale}px`;
  part("unfolded-name").textContent = film.pictures[0].nodes[i];
  const box = cast[0].nodes[i].elements[0].getBoundingClientRect(), frame = pane.getBoundingClientRect();
  const x = (box.left + box.right) / 2 - frame.left + pane.scrollLeft;
  const y = (box.top + box.bottom) / 2 - frame.top + pane.scrollTop;
  const most = Math.max(width * zoom, pane.clientWidth) - over.offsetWidth - 4;
  over.style.left = `${Math.max(4, Math.min(most, x - over.offsetWidth / 2))}px`;
  over.style.top = `${Math.max(4, y - over.offsetHeight / 2)}px`;
  follow(over);
}

function fold() {
  for (const element of part("unfolded").querySelectorAll("[data-inside]")) delete element.dataset.inside;
  unfolded = null;
  part("unfolded").hidden = true;
}

// The box at work, for those who do not click.
function unfoldCurrent() {
  const i = position ? steps[position - 1].lit[0][0].find((n) => film.inside[n]) : undefined;
  if (unfolded !== null && (i === undefined || i === unfolded)) fold(); else if (i !== undefined) unfold(i);
}
part("unfold").hidden = part("hint").hidden = !Object.keys(film.inside).length;

part("summary").textContent += ` · ${turn.toLocaleString("en")} entries · ` +
  (film.backward.length ? `${film.backward.length.toLocaleString("en")} steps back` : "no backward pass");
arrange();
fitColumns();
resize(readable());
show(0);
let zoomed = false;  // by hand; else the picture follows the window
for (const name of ["smaller", "larger", "fit"]) part(name).addEventListener("click", () => { zoomed = true; });
addEventListener("resize", () => {
  if (!zoomed) {
    arrange();
    resize(readable());
  }
  fitColumns();
  show(position);
});
}
