// The page's own state (objects, their points, what was said to them), and what hands do with it.
import { alert, by, progress } from "./told.js";
import { begin, followed, get, picture, tapped } from "./wire.js";
import { COLORS, View, differing, tinted, unpacked } from "./view.js";
import { KEYS, shortcuts } from "./keys.js";
import { Ops } from "./ops.js";

const QUICK_MS = 150; // the last answer took no longer: another may be asked wherever the mouse is
const MOST_OBJECTS = 12, MOST_UNDO = 200;
const TAB = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
const SIDES = ["device", "cpu"];

let told = null;                 // the server's state
let objects = [fresh()];         // prompts, as they are undone and done again
let chosen = 0;
let before = [], after = [];
const said = new Map();          // by object: {serial, device, cpu, layer, comparison, began, ...}
let preview = null;
let ready = false;
let opening = 0;
let tool = "positive";
let last_both = Infinity;

function fresh() { return { id: Math.random().toString(36).slice(2, 8), positive: [], negative: [], box: null }; }
const is_empty = (object) => !object.positive.length && !object.negative.length && !object.box;
const color_of = (object) => COLORS[objects.indexOf(object) % COLORS.length];
const answers = (object) => said.get(object.id);
const place = () => ({ photo: by("photo").value, decoder: by("decoder").value, back_end: by("back-end").value });
const decoder = () => told.decoders.find((one) => one.key === by("decoder").value);
const ms = (value) => value >= 9950 ? `${(value / 1000).toFixed(1)} s` : value >= 99.5 ? `${value.toFixed(0)} ms` : `${value.toFixed(1)} ms`;

const canvases = Object.fromEntries(["device", "cpu", "difference"].map((side) => [side, by(`${side}-pane`).firstElementChild]));
const view = new View(canvases, () => { by("zoom").textContent = `${Math.round(view.zoom * 100)} %`; });
view.marks = () => objects.map((object, at) => ({ ...object, color: color_of(object), chosen: at === chosen }));
view.layers = () => [...objects.map((object) => answers(object)?.layer), preview?.layer].filter(Boolean);

const ops = new Ops({ place, tap: () => tap_of(objects[chosen]), alert, again, chosen_is_empty: () => is_empty(objects[chosen]) });

// Ask once more what could not be answered.
function again() {
  for (const object of objects) if (answers(object)?.error) ask(object);
  shown();
}

// ---- What is asked

async function open_photo(anew) {
  const mine = ++opening;
  ready = false;
  last_both = Infinity;
  alert("");
  for (const one of said.values()) one.abort?.abort();
  said.clear();
  preview = null;
  figures();
  ops.show();
  const where = place();
  by("name").textContent = where.photo;
  try {
    if (anew) {
      objects = [fresh()];
      chosen = 0;
      before = [], after = [];
      const photo = await picture(`photo?name=${encodeURIComponent(where.photo)}`, `The photo ${where.photo}`);
      if (mine !== opening) return;
      view.show(photo, photo.naturalWidth, photo.naturalHeight);
    }
    const opened = await followed(await begin("open", where), (work) => mine === opening && progress(work));
    if (mine !== opening) return;
    if (anew) view.show(view.photo, opened.width, opened.height);
    by("encoder").textContent = `${opened.encoder}, ${ms(opened.encode_ms)}`;
    ready = true;
    controls();
    ops.look();
    for (const object of objects) if (!is_empty(object)) ask(object);
  } catch (error) {
    if (mine !== opening) return;
    progress(null);
    alert(error.message);
    controls();
  }
}

const tap_of = ({ positive, negative, box }) => ({ positive, negative, box });

// Ask both sides for an object's mask. What is asked while another answer is on its way takes its place.
async function ask(object, faint = false) {
  const earlier = faint ? preview : said.get(object.id);
  earlier?.abort?.abort();
  const one = { abort: new AbortController(), began: performance.now(), layer: faint ? null : earlier?.layer, faint, tap: tap_of(object), waiting: !faint };
  if (faint) preview = one; else said.set(object.id, one);
  if (is_empty(object)) {
    said.delete(object.id);
    shown();
    return;
  }
  const current = () => (faint ? preview === one : said.get(object.id) === one);
  const body = { ...place(), tap: one.tap, tab: TAB, object: faint ? "preview" : object.id };
  if (!faint) shown();
  try {
    for (;;) {
      one.began = performance.now();
      const work = await tapped(body, (line) => current() && heard(object, one, line), one.abort.signal);
      if (!work) break;
      if (faint) { preview = null; break; }
      await followed(work, (now) => current() && progress(now));
      if (!current()) return;
    }
  } catch (error) {
    if (error.name !== "AbortError" && current() && !faint) alert(error.message);
  }
  one.waiting = false;
  one.abort = null;
  if (current()) shown();
}

function heard(object, one, line) {
  if (line.superseded) return;
  if (line.comparison) {
    one.comparison = line.comparison;
    one.both = one.painted - one.began;
    if (!one.error) last_both = one.both;
    performance.measure("tap", { start: one.began, end: one.painted, detail: { device: one.device.ms, cpu: one.cpu.ms, faint: one.faint } });
    if (!one.faint) alert("");
    shown();
    return;
  }
  const { side } = line;
  if (line.error) {
    one[side] = line;
    one.error = true;
    last_both = Infinity;
    if (one.layer) one.layer = { ...one.layer, [side]: null, difference: null };
    shown();
    return;
  }
  one[side] = { ...line, mask: unpacked(line.mask, line.width, line.height) };
  const hex = one.faint ? "#ffffff" : color_of(object);
  const layer = one.layer = { ...(one.layer ?? {}), faint: one.faint, [side]: tinted(one[side].mask, hex) };
  layer.difference = one.device?.mask && one.cpu?.mask ? differing(one.device.mask, one.cpu.mask) : null;
  one.painted = performance.now();
  shown();
}

// ---- What is shown

function shown() {
  view.draw();
  figures();
  controls();
}

function figures() {
  const object = objects[chosen], one = answers(object);
  const shows = (id, text) => { by(id).textContent = text; };
  const compared = one?.comparison;
  shows("iou", compared ? compared.iou.toFixed(4) : "–");
  shows("pixels", compared ? `${compared.pixels.toLocaleString("en")} (${(100 * compared.pixels / (one.cpu.width * one.cpu.height)).toFixed(2)} %)` : "–");
  shows("largest", compared ? `${figure(compared.largest)}` : "–");
  shows("both-ms", compared ? ms(one.both) : "–");
  for (const side of SIDES) {
    const mine = one?.[side];
    shows(`${side}-ms`, mine?.ms === undefined ? "–" : ms(mine.ms));
    const caption = by(`${side}-said`);
    caption.classList.toggle("wrong", Boolean(mine?.error || mine?.nonfinite));
    caption.textContent = mine?.error ?? (mine ? words(mine) : one?.waiting ? "running …" : "");
  }
  const remarks = [];
  if (compared && !compared.same_candidate) remarks.push("The two sides chose different ones of their three candidates.");
  if (compared) remarks.push(`The logits that the CPU chose have an RMS of ${figure(compared.of)}. One tap's IoU is no verdict on a decoder: how much float16 explains is what “Find the ops” measures.`);
  shows("remark", remarks.join(" "));
  const links = [];
  for (const side of SIDES) {
    if (!one?.[side]?.answer) continue;
    for (const [kind, label] of [["mask", "Mask"], ["cutout", "Cut-out"]]) {
      const link = document.createElement("a");
      link.href = `answer/${one[side].answer}/${kind}.png`;
      link.download = "";
      link.textContent = `${label}, ${side === "device" ? "device" : "CPU"}`;
      links.push(link);
    }
  }
  if (links.length) by("downloads").replaceChildren(...links);
  else by("downloads").textContent = "Nothing yet: tap first.";
}

const figure = (value) => typeof value === "number" ? (value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(1) : value.toPrecision(3)) : String(value);

function words(side) {
  const broken = side.nonfinite ? `${side.nonfinite.toLocaleString("en")} values are NaN or infinite · ` : "";
  const score = side.scores[side.candidate];
  return `${broken}${ms(side.ms)} · score ${typeof score === "number" ? score.toFixed(3) : score} · ${(100 * side.area).toFixed(1)} % of the photo`;
}

function controls() {
  const object = objects[chosen];
  by("undo").disabled = !before.length;
  by("redo").disabled = !after.length;
  by("clear").disabled = is_empty(object);
  const why = decoder()?.why_not ?? {};
  for (const [name, refusal] of [["negative", why.negative], ["box", why.box]]) {
    const input = document.querySelector(`#tool [value=${name}]`);
    input.disabled = Boolean(refusal);
    input.parentElement.title = refusal || input.parentElement.dataset.title || (input.parentElement.dataset.title = input.parentElement.title);
    if (refusal && tool === name) choose_tool("positive");
  }
  const buttons = objects.map((one, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = `Object ${at + 1}`;
    button.setAttribute("aria-pressed", String(at === chosen));
    const patch = document.createElement("i");
    patch.style.setProperty("background", color_of(one));
    button.append(patch, String(at + 1));
    button.addEventListener("click", () => choose(at));
    return button;
  });
  if (objects.length < MOST_OBJECTS) {
    const more = document.createElement("button");
    more.type = "button";
    more.title = "Another object (O)";
    more.textContent = "+ Object";
    more.id = "more";
    more.disabled = is_empty(objects.at(-1));
    more.addEventListener("click", another);
    buttons.push(more);
  }
  const focused = by("objects").contains(document.activeElement) ? [...by("objects").children].indexOf(document.activeElement) : -1;
  by("objects").replaceChildren(...buttons);
  if (focused >= 0) by("objects").children[Math.min(focused, buttons.length - 1)]?.focus();
  for (const canvas of Object.values(canvases)) {
    canvas.classList.toggle("moving", tool === "move" || view.zoom > 1);
    canvas.classList.toggle("drawing", tool === "box");
  }
  const end = told?.back_ends.find((one) => one.key === by("back-end").value);
  by("device-name").textContent = end?.label ?? "Device";
  by("hover-why").textContent = last_both <= QUICK_MS ? "" : Number.isFinite(last_both) ? ` (off: the last took ${ms(last_both)})` : "";
  const hints = { positive: "Click on an object. Shift-click: a point beside it.", negative: "Click beside the object.", box: "Draw a box around the object.", move: "Drag the photo. The wheel zooms." };
  const replaces = why.more && object.positive.length ? " This decoder takes one point: another click moves it." : "";
  by("hint").textContent = ready ? hints[tool] + replaces : by("progress").hidden ? "" : "You can tap as soon as the photo is encoded.";
  ops.show();
}

// ---- What hands do

function change(edit) {
  before.push(JSON.stringify([objects, chosen]));
  if (before.length > MOST_UNDO) before.shift();
  after = [];
  edit();
}

function travel(from, to) {
  if (!from.length) return;
  to.push(JSON.stringify([objects, chosen]));
  const now = new Map(objects.map((object) => [object.id, JSON.stringify(object)]));
  [objects, chosen] = JSON.parse(from.pop());
  for (const id of [...said.keys()]) if (!objects.some((object) => object.id === id)) said.delete(id);
  for (const object of objects) if (now.get(object.id) !== JSON.stringify(object)) ask(object);
  shown();
}

function add(kind, point) {
  if (!ready) return;
  alert("");
  const why = decoder().why_not, object = objects[chosen];
  if (kind === "negative" && why.negative) { alert(why.negative); return; }
  const rounded = point.map((value) => Math.round(value * 100) / 100);
  if (rounded[0] < 0 || rounded[1] < 0 || rounded[0] >= view.width || rounded[1] >= view.height) return;
  if (object.positive.length + object.negative.length >= decoder().most_points) {
    alert(`An object has at most ${decoder().most_points} points.`);
    return;
  }
  change(() => {
    if (kind === "positive" && why.more) object.positive = [];
    object[kind].push(rounded);
  });
  preview = null;
  ask(object);
}

function add_box(first, second) {
  const box = [Math.min(first[0], second[0]), Math.min(first[1], second[1]), Math.max(first[0], second[0]), Math.max(first[1], second[1])];
  const most = [view.width, view.height, view.width, view.height];
  const inside = box.map((value, at) => Math.round(Math.min(Math.max(value, 0), most[at]) * 100) / 100);
  if (!ready || (inside[2] - inside[0]) * view.scale < 3 || (inside[3] - inside[1]) * view.scale < 3) return;
  alert("");
  change(() => { objects[chosen].box = inside; });
  ask(objects[chosen]);
}

function another() {
  if (objects.length >= MOST_OBJECTS || is_empty(objects.at(-1))) return;
  change(() => { objects.push(fresh()); chosen = objects.length - 1; });
  shown();
}

function choose(at) { chosen = (at + objects.length) % objects.length; shown(); }

function clear() {
  if (is_empty(objects[chosen])) return;
  change(() => Object.assign(objects[chosen], { positive: [], negative: [], box: null }));
  ask(objects[chosen]);
}

function choose_tool(name) {
  const input = document.querySelector(`#tool [value=${name}]`);
  if (input.disabled) { alert(decoder().why_not[name]); return; }
  input.checked = true;
  tool = name;
  controls();
}

function next_of(id) {
  const select = by(id);
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  open_photo(id === "photo");
}

const touches = new Map();
let held = null; // {x, y, from, pans, moved}
let space = false;

function at(event) {
  const area = event.currentTarget.getBoundingClientRect();
  return [event.clientX - area.left, event.clientY - area.top];
}

for (const canvas of Object.values(canvases)) {
  canvas.addEventListener("pointerdown", (event) => {
    const [x, y] = at(event);
    touches.set(event.pointerId, [x, y]);
    if (touches.size === 2) { held = null; view.rubber = null; }
    if (touches.size > 1) return;
    canvas.setPointerCapture(event.pointerId);
    const pans = tool === "move" || space || event.button === 1;
    held = { x, y, from: view.to_photo(x, y), pans, moved: false, negative: event.shiftKey || event.button === 2 };
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (touches.size === 2 && touches.has(event.pointerId)) { pinch(event.pointerId, [x, y]); return; }
    if (!held) { hover(view.to_photo(x, y), event); return; }
    if (Math.hypot(x - held.x, y - held.y) > 4) held.moved = true;
    if (held.pans || (held.moved && tool !== "box" && view.zoom > 1 && event.pointerType === "touch")) {
      held.pans = true;
      const was = touches.get(event.pointerId);
      view.move_by(x - was[0], y - was[1]);
    } else if (tool === "box") {
      const here = view.to_photo(x, y);
      view.rubber = [Math.min(held.from[0], here[0]), Math.min(held.from[1], here[1]), Math.max(held.from[0], here[0]), Math.max(held.from[1], here[1])];
      view.draw();
    }
    touches.set(event.pointerId, [x, y]);
  });
  canvas.addEventListener("pointerup", (event) => {
    const mine = held, here = view.to_photo(...at(event));
    touches.delete(event.pointerId);
    held = null;
    view.rubber = null;
    if (!mine || mine.pans) return;
    if (tool === "box" && mine.moved) add_box(mine.from, here);
    else if (!mine.moved && tool !== "move") add(mine.negative || tool === "negative" ? "negative" : "positive", mine.from);
    view.draw();
  });
  canvas.addEventListener("pointercancel", (event) => { touches.delete(event.pointerId); held = view.rubber = null; view.draw(); });
  canvas.addEventListener("pointerleave", () => { if (preview) { preview.abort?.abort(); preview = null; view.draw(); } });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    view.zoom_by(Math.exp(-Math.max(-80, Math.min(event.deltaY, 80)) / 250), ...at(event));
    controls();
  }, { passive: false });
  for (const kind of ["focus", "blur"]) canvas.addEventListener(kind, () => view.draw());
}

function pinch(id, now) {
  const other = [...touches].find(([key]) => key !== id)[1], was = touches.get(id);
  const apart = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
  view.zoom_by(apart(now, other) / Math.max(apart(was, other), 1), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  view.move_by((now[0] - was[0]) / 2, (now[1] - was[1]) / 2);
  touches.set(id, now);
  controls();
}

function hover(point, event) {
  if (event.pointerType !== "mouse" || !ready || !by("hover").checked || last_both > QUICK_MS || preview?.abort) return;
  if (tool !== "positive" && tool !== "negative") return;
  const object = objects[chosen], why = decoder().why_not;
  if (answers(object)?.waiting || point[0] < 0 || point[1] < 0 || point[0] >= view.width || point[1] >= view.height) return;
  // Not a length of prompt that was never asked: it may have to be converted first.
  const points = why.more ? 1 : object.positive.length + object.negative.length + 1;
  if (points > 1 && (tool === "negative" ? why.negative : why.more)) return;
  const imagined = { ...object, id: "preview", positive: why.more ? [] : [...object.positive], negative: [...object.negative] };
  imagined[tool].push(point);
  if (imagined.positive.length + imagined.negative.length > told.decoders[0].most_points) return;
  ask(imagined, true);
}

// ---- The keyboard

function cross(x, y) {
  const step = 1 / view.scale;
  view.cross = view.cross ?? [...view.centre];
  view.cross = [Math.min(Math.max(view.cross[0] + x * step, 0), view.width - 1), Math.min(Math.max(view.cross[1] + y * step, 0), view.height - 1)];
  view.draw();
}

shortcuts({
  positive: () => choose_tool("positive"), negative: () => choose_tool("negative"), box: () => choose_tool("box"), move: () => choose_tool("move"),
  another, next: () => choose(chosen + 1), previous: () => choose(chosen - 1),
  undo: () => travel(before, after), redo: () => travel(after, before), clear,
  in: () => { view.zoom_by(1.4); controls(); }, out: () => { view.zoom_by(1 / 1.4); controls(); }, fit: () => { view.fit(); controls(); },
  decoder: () => next_of("decoder"), back_end: () => next_of("back-end"), photo: () => told.photos.length > 1 && next_of("photo"),
  help: () => (by("help").open ? by("help").close() : by("help").showModal()),
  on_canvas: () => Object.values(canvases).includes(document.activeElement),
  cross, tap: (negative) => view.cross && add(negative || tool === "negative" ? "negative" : "positive", view.cross),
  space: (down) => { space = down; },
});
for (const [words_, meaning] of KEYS) {
  const row = document.createElement("div"), term = document.createElement("dt"), description = document.createElement("dd");
  for (const word of words_) {
    const key = document.createElement("kbd");
    key.textContent = word;
    term.append(key, " ");
  }
  description.textContent = meaning;
  row.append(term, description);
  by("key-list").append(row);
}

by("tool").addEventListener("change", (event) => { tool = event.target.value; controls(); });
by("undo").addEventListener("click", () => travel(before, after));
by("redo").addEventListener("click", () => travel(after, before));
by("clear").addEventListener("click", clear);
by("in").addEventListener("click", () => { view.zoom_by(1.4); controls(); });
by("out").addEventListener("click", () => { view.zoom_by(1 / 1.4); controls(); });
by("fit").addEventListener("click", () => { view.fit(); controls(); });
by("keys").addEventListener("click", () => by("help").showModal());
by("choices").addEventListener("change", (event) => open_photo(event.target.id === "photo"));
by("choices").addEventListener("submit", (event) => event.preventDefault());

function fill(select, options, value) {
  select.replaceChildren(...options.map(([key, label]) => new Option(label, key)));
  select.value = value;
}

async function start() {
  try {
    told = await get("state");
  } catch (error) {
    alert(error.message);
    return;
  }
  by("model").textContent = told.model;
  by("weights").textContent = `Weights: ${told.weights}.`;
  by("random").hidden = !told.random_weights;
  fill(by("photo"), told.photos.map((name) => [name, name]), told.photos[0]);
  fill(by("decoder"), told.decoders.map((one) => [one.key, one.label]), told.decoder);
  fill(by("back-end"), told.back_ends.map((one) => [one.key, one.label]), told.back_end);
  by("photo-choice").hidden = told.photos.length < 2;
  ops.offered = told.can_localize;
  await open_photo(true);
}

start();
