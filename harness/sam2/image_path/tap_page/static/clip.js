// A clip's page: clicks by frame and object, one tracking of them at a time, and the masks that it wrote.
import { alert, by, progress } from "./told.js";
import { begin, followed, get, picture } from "./wire.js";
import { COLORS, View, tinted } from "./view.js";

const TAB = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
const MOST_UNDO = 200, MASKS_KEPT = 200;

let told = null;
let clip = null;            // {frames, width, height}
let prompts = {};           // by frame, by object
let objects = 1, chosen = 1;
let before = [];
let frame = 0;
let tool = "positive";
let tracking = null;        // the work that is going on
let tracked = null;         // {run, start, tapped} of the masks that are shown
let playing = 0;
const masks = new Map();    // by run, object and frame: a canvas
const layers = new Map();   // by object: of the frame that is shown

const color_of = (object) => COLORS[(object - 1) % COLORS.length];
const fresh = () => ({ positive: [], negative: [], box: null });
const is_empty = (tap) => !tap || (!tap.positive.length && !tap.negative.length && !tap.box);
const here = () => prompts[frame] ?? {};

const view = new View({ device: by("canvas") }, () => {});
view.marks = () => Object.entries(here()).map(([object, tap]) => ({ ...tap, color: color_of(Number(object)), chosen: Number(object) === chosen }));
view.layers = () => [...layers.values()].map((device) => ({ device }));

// ---- Frames and masks

let wanted = 0;

async function show(number) {
  frame = Math.min(Math.max(number, 0), clip.frames - 1);
  const mine = ++wanted;
  by("slider").value = frame;
  by("frame").textContent = `${frame + 1} of ${clip.frames}`;
  let photo;
  try {
    photo = await picture(`frame/${frame}.jpg`, `Frame ${frame + 1}`);
  } catch (error) {
    if (mine === wanted) alert(error.message);
    return;
  }
  const found = await Promise.all(Array.from({ length: objects }, (_, at) => mask(at + 1, frame)));
  if (mine !== wanted) return; // another frame was asked for meanwhile
  layers.clear();
  found.forEach((canvas, at) => canvas && layers.set(at + 1, canvas));
  view.photo = photo;
  view.draw();
  controls();
}

async function mask(object, number) {
  if (!tracked || number < tracked.start) return null;
  const key = `tracked/${tracked.run}/mask/${object}/${number}.png`;
  if (masks.has(key)) return masks.get(key);
  const reply = await fetch(key).catch(() => null);
  if (reply?.status !== 200) return null; // none there (yet)
  const bitmap = await createImageBitmap(await reply.blob());
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, width, height).data, inside = new Uint8Array(width * height);
  for (let at = 0; at < inside.length; at++) inside[at] = pixels[4 * at] > 127 ? 1 : 0;
  const canvas = tinted({ inside, width, height }, color_of(object));
  masks.set(key, canvas);
  if (masks.size > MASKS_KEPT) masks.delete(masks.keys().next().value);
  return canvas;
}

async function play() {
  if (playing) { playing = 0; controls(); return; }
  const mine = playing = Math.random();
  controls();
  if (frame === clip.frames - 1) await show(0);
  while (playing === mine && frame < clip.frames - 1) {
    const began = performance.now();
    await show(frame + 1);
    await new Promise((resolve) => setTimeout(resolve, Math.max(1000 / told.rate - (performance.now() - began), 0)));
  }
  if (playing === mine) playing = 0;
  controls();
}

// ---- Tracking

const asked = () => Object.fromEntries(Object.entries(prompts)
  .map(([number, taps]) => [number, Object.fromEntries(Object.entries(taps).filter(([, tap]) => !is_empty(tap)))])
  .filter(([, taps]) => Object.keys(taps).length));

async function track() {
  const mine = asked();
  if (tracking || !Object.keys(mine).length) return;
  alert("");
  by("downloads").textContent = "The tracker is at work.";
  try {
    const work = await begin("track", { prompts: mine, tab: TAB });
    tracking = work;
    tracked = { run: work.id, start: Math.min(...Object.keys(mine).map(Number)) };
    masks.clear();
    controls();
    let last = 0;
    const found = await followed(work, (now) => {
      progress(now);
      if (!playing && performance.now() - last > 500) { last = performance.now(); show(frame); } // masks as they come
    });
    by("weights").textContent = `Weights: ${found.weights}.`;
    by("random").hidden = !found.random_weights;
    const links = [["overlay.mp4", "Overlay, MP4"], ["masks.zip", "Masks, PNG in a ZIP"], ["track.json", "track.json"]].map(([file, label]) => {
      const link = document.createElement("a");
      link.href = `tracked/${found.run}/${file}`;
      link.download = "";
      link.textContent = label;
      return link;
    });
    by("downloads").replaceChildren(...links);
  } catch (error) {
    alert(error.message);
    by("downloads").textContent = "Nothing: the tracking did not end.";
  }
  progress(null);
  tracking = null;
  await show(frame);
}

// ---- What hands do

function change(edit) {
  before.push(JSON.stringify([prompts, objects, chosen]));
  if (before.length > MOST_UNDO) before.shift();
  edit();
  view.draw();
  controls();
}

function undo() {
  if (!before.length) return;
  [prompts, objects, chosen] = JSON.parse(before.pop());
  view.draw();
  controls();
}

function edited(edit) {
  alert("");
  change(() => {
    prompts[frame] ??= {};
    edit(prompts[frame][chosen] ??= fresh());
  });
}

function another() {
  if (objects < told.most_objects) change(() => { chosen = ++objects; });
}

function choose(object) { chosen = (object - 1 + objects) % objects + 1; view.draw(); controls(); }

function clear() {
  if (!is_empty(here()[chosen])) change(() => { delete prompts[frame][chosen]; });
}

function choose_tool(name) {
  document.querySelector(`#tool [value=${name}]`).checked = true;
  tool = name;
  controls();
}

let held = null;

function at(event) {
  const area = event.currentTarget.getBoundingClientRect();
  return view.to_photo(event.clientX - area.left, event.clientY - area.top).map((value, axis) =>
    Math.round(Math.min(Math.max(value, 0), (axis ? view.height : view.width)) * 100) / 100);
}

by("canvas").addEventListener("pointerdown", (event) => {
  if (!clip) return;
  event.currentTarget.setPointerCapture(event.pointerId);
  held = { from: at(event), x: event.clientX, y: event.clientY, negative: event.shiftKey || event.button === 2 };
});
by("canvas").addEventListener("pointermove", (event) => {
  if (!held || tool !== "box") return;
  const to = at(event);
  view.rubber = [0, 1].map((axis) => Math.min(held.from[axis], to[axis])).concat([0, 1].map((axis) => Math.max(held.from[axis], to[axis])));
  view.draw();
});
by("canvas").addEventListener("pointerup", (event) => {
  const mine = held, box = view.rubber;
  held = view.rubber = null;
  if (!mine) return;
  const moved = Math.hypot(event.clientX - mine.x, event.clientY - mine.y) > 4;
  if (tool === "box" && moved && box && box[2] > box[0] && box[3] > box[1]) edited((tap) => { tap.box = box; });
  else if (tool !== "box" && !moved && mine.from[0] < view.width && mine.from[1] < view.height) {
    edited((tap) => tap[mine.negative ? "negative" : tool].push(mine.from));
  }
  view.draw();
});
by("canvas").addEventListener("pointercancel", () => { held = view.rubber = null; view.draw(); });
by("canvas").addEventListener("contextmenu", (event) => event.preventDefault());

function controls() {
  by("undo").disabled = !before.length;
  by("clear").disabled = is_empty(here()[chosen]);
  const all = asked(), frames = Object.keys(all).map(Number);
  by("track").disabled = Boolean(tracking) || !frames.length;
  by("track").textContent = tracking ? "Tracking …" : tracked ? "Track again" : "Track";
  by("play").textContent = playing ? "❚❚" : "▶";
  by("canvas").classList.toggle("drawing", tool === "box");
  by("hint").textContent = clip ? { positive: "Click on an object, then Track. Shift-click: a point beside it.", negative: "Click beside the object.", box: "Draw a box around the object." }[tool] : "";
  by("asked").textContent = frames.length ? `Clicks on frame ${frames.map((number) => number + 1).join(", ")}.` : "No clicks yet.";
  by("marks").replaceChildren(...frames.flatMap((number) => Object.keys(all[number]).map((object, place) => {
    const dot = document.createElement("i");
    dot.style.setProperty("left", `${100 * number / Math.max(clip.frames - 1, 1)}%`);
    dot.style.setProperty("background", color_of(Number(object)));
    dot.style.setProperty("top", `${2 * place}px`);
    return dot;
  })));
  const buttons = Array.from({ length: objects }, (_, place) => {
    const button = document.createElement("button"), patch = document.createElement("i");
    button.type = "button";
    button.setAttribute("aria-pressed", String(place + 1 === chosen));
    patch.style.setProperty("background", color_of(place + 1));
    button.append(patch, String(place + 1));
    button.addEventListener("click", () => choose(place + 1));
    return button;
  });
  const more = document.createElement("button");
  more.type = "button";
  more.textContent = "+ Object";
  more.title = "Another object (O)";
  more.disabled = !told || objects >= told.most_objects;
  more.addEventListener("click", another);
  by("objects").replaceChildren(...buttons, more);
}

document.addEventListener("keydown", (event) => {
  if (!clip || event.ctrlKey || event.metaKey || event.altKey || (event.target.closest?.("dialog") && event.key !== "?")) return;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const acts = {
    p: () => choose_tool("positive"), n: () => choose_tool("negative"), b: () => choose_tool("box"), o: another, u: undo, t: track, k: play,
    "[": () => choose(chosen - 1), "]": () => choose(chosen + 1), delete: clear, backspace: clear,
    "?": () => (by("help").open ? by("help").close() : by("help").showModal()),
  };
  if (step) show(frame + step * (event.shiftKey ? 10 : 1));
  else if (acts[event.key.toLowerCase()]) acts[event.key.toLowerCase()]();
  else return;
  event.preventDefault();
});

by("tool").addEventListener("change", (event) => { tool = event.target.value; controls(); });
by("undo").addEventListener("click", undo);
by("clear").addEventListener("click", clear);
by("track").addEventListener("click", track);
by("play").addEventListener("click", play);
by("slider").addEventListener("input", (event) => { playing = 0; show(Number(event.target.value)); });
by("keys").addEventListener("click", () => by("help").showModal());

async function start() {
  try {
    told = await get("state");
    by("name").textContent = told.name;
    clip = await followed(await begin("open", {}), progress);
  } catch (error) {
    progress(null);
    alert(error.message);
    return;
  }
  by("slider").max = clip.frames - 1;
  Object.assign(view, { width: clip.width, height: clip.height });
  view.fit();
  await show(0);
}

start();
