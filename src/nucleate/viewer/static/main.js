// The page: one image in one or two panes, and the panel next to them.

import * as api from "./api.js";
import { meaning, named, ramp, scale } from "./colours.js";
import { takeDrops } from "./drops.js";
import { imageOf, save } from "./files.js";
import { draw as drawHistogram } from "./histogram.js";
import { Overlay } from "./overlay.js";

const $ = (id) => document.getElementById(id);
const BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==";
const KEYS = [
  ["arrows", "move"], ["+ −", "zoom"], ["0", "whole image"], ["1", "actual size (1:1)"],
  ["N P", "next or previous nucleus in view"], ["O", "nuclei on or off"], ["C", "next colour"],
  ["R", "draw a region: click, or"], ["Space", "a corner in the middle of the view"],
  ["Backspace", "remove the last corner"], ["Enter", "close the region"],
  ["V", "use the current view as region"], ["Esc", "whole image"],
];

let item = null; // the server's description of the image
let panes = []; // {viewer, overlay}
let layer = 0; // the layer that is counted
let filters = []; // [column, low, high]; null means no limit
let region = null; // corners, or null for the whole image
let drawing = null; // corners while a region is drawn
let spans = new Map(); // "layer/column" -> {span, low, high}
let chosen = -1; // row of the nucleus from which N and P continue

const number = (value) => (value === null || value === undefined ? "–" :
  Math.abs(value) >= 100 ? Math.round(value).toLocaleString("en") : Number(value.toPrecision(3)).toString());
const label = (name) => name.replaceAll("_", " ").replace(/\bum2\b/, "µm²").replace(/\bum\b/, "µm");
const tried = (act) => (...given) => Promise.resolve(act(...given)).catch((error) => say(error.message));
const say = (words) => { $("status").textContent = words; };

// message shown when there is no image: in place of the image, or as a banner above nuclei
function empty(title, text = "", banner = false) {
  $("empty").hidden = !title;
  $("empty").classList.toggle("banner", banner);
  [$("empty-title").textContent, $("empty-text").textContent] = [title, text];
}

function option(value, words = value) {
  const made = document.createElement("option");
  [made.value, made.textContent] = [value, words];
  return made;
}

async function spanOf(which, column) {
  const key = `${item.id}/${which}/${column}`;
  if (!spans.has(key)) spans.set(key, await api.column(item.id, which, column));
  return spans.get(key);
}

// ---- the image ---------------------------------------------------------------------------

function closePanes() {
  for (const pane of panes) { pane.overlay.close(); pane.tracker.destroy(); pane.viewer.destroy(); pane.element.remove(); }
  panes = [];
}

let showing = 0;
async function show(about, place = {}) {
  showing++;
  closePanes();
  [item, region, drawing, layer, hovered, chosen] = [about, null, null, 0, { row: -1 }, -1];
  asking++;
  choosing++; // ignore pending responses about the previous image
  $("draw").setAttribute("aria-pressed", "false");
  say("");
  filters = (Array.isArray(place.filters) ? place.filters : []).filter((f) => Array.isArray(f) && sortable().includes(f[0]));
  $("nucleus").hidden = true;
  $("note").hidden = !item.note || !item.pixels; // a missing image is reported in its place
  $("note").textContent = item.note;
  empty(item.pixels ? "" : "The image cannot be shown: only its nuclei are drawn.", item.note, true);
  const none = !item.layers.length ? "This image has no result yet. Segment it with nucleate segment, then view the output folder." :
    item.layers.every((one) => !one.count) ? "No nuclei were found. Check the resolution (mpp) and the stain of the image." : "";
  $("status-empty").hidden = !none;
  $("status-empty").textContent = none;
  $("facts").textContent = `${item.name}: ${item.width.toLocaleString("en")} × ${item.height.toLocaleString("en")} pixels` +
    (item.mpp ? `, ${number(item.mpp)} µm per pixel` : ", resolution unknown");
  const two = item.layers.length === 2;
  $("layout-row").hidden = !two;
  $("layout").replaceChildren(...(two ? [option("together", "one over the other"), option("beside", "side by side"),
    option("first", item.layers[0].name), option("second", item.layers[1].name)] : [option("first")]));
  const judged = two && "outcome" in item.layers[0].names;
  $("layout").value = place.layout && two ? place.layout : two ? (judged ? "together" : "beside") : "first";
  $("nuclei-controls").hidden = !item.layers.length;
  for (const select of [$("colour"), $("column"), $("add-filter")]) {
    const first = select === $("column") ? [] : [option("", select === $("colour") ? "nothing" : "a column …")];
    const offered = select === $("add-filter") ? sortable() : columns();
    select.replaceChildren(...first, ...offered.map((name) => option(name, label(name))));
  }
  $("colour").value = columns().includes(place.colour) ? place.colour : judged ? "outcome" : "";
  $("column").value = columns().includes("area_um2") ? "area_um2" : columns()[0] ?? "";
  await lay(place);
}

// columns to offer: named columns with more than one value, and all numeric columns
function columns() {
  const found = new Set();
  for (const about of item.layers) {
    for (const [name, names] of Object.entries(about.names)) if (names.length > 1) found.add(name);
    for (const name of about.numeric) found.add(name);
  }
  return [...found];
}

// columns with the same meaning in all layers, which can be used as filters
function sortable() {
  return columns().filter((name) => {
    const values = item.layers.map((about) => about.names[name]).filter(Boolean);
    return values.length < 2 || String(values[0]) === String(values[1]);
  });
}

const has = (which, name) => item.layers[which].numeric.includes(name) || name in item.layers[which].names;
const holder = (name) => (has(layer, name) ? layer : item.layers.findIndex((_, i) => has(i, name)));
// filters for a request: a layer without the column is not filtered by it
const filtersOf = (which) => filters.filter(([name]) => has(which, name))
  .map(([name, low, high]) => [name, low ?? -1e38, high ?? 1e38]);

async function lay(place = {}) {
  const kept = place.centre ? place : here();
  closePanes();
  const layers = item.layers.map((_, i) => i);
  const layout = $("layout").value;
  const sets = layout === "beside" ? [[0], [1]] : layout === "together" ? [layers] : layout === "second" ? [[1]] : [layers.slice(0, 1)];
  layer = sets[0][0] ?? 0;
  panes = sets.map((set) => makePane(set, sets.length > 1));
  await Promise.all(panes.map((pane) => new Promise((done) => pane.viewer.addOnceHandler("open", done))));
  for (const pane of panes) if (kept.centre) go(pane.viewer, kept);
  panes.forEach((pane, i) => pane.viewer.addHandler("viewport-change", () => follow(i)));
  await restyle();
}

function makePane(layers, titled) {
  const element = document.createElement("div");
  element.className = "pane";
  $("panes").append(element);
  if (titled) {
    const title = element.appendChild(document.createElement("div"));
    [title.className, title.textContent] = ["title", item.layers[layers[0]].name];
  }
  const top = Math.ceil(Math.log2(Math.max(item.width, item.height, 1)));
  const viewer = OpenSeadragon({
    element, showNavigationControl: false, keyboardNavEnabled: false, animationTime: 0.4, minZoomImageRatio: 0.6, maxZoomPixelRatio: 16,
    visibilityRatio: 0.2, gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true }, drawer: "canvas",
    imageSmoothingEnabled: false, silenceMultiImageWarnings: true,
    tileSources: {
      width: item.width, height: item.height, tileSize: item.tile_px, tileOverlap: 0, minLevel: 0, maxLevel: top,
      getTileUrl: (level, x, y) => item.pixels ? `api/items/${item.id}/tiles/${top - level}/${x}_${y}.jpg` : BLANK,
    },
  });
  viewer.canvas.setAttribute("aria-label", `Image ${item.name}: move with the arrow keys, zoom with + and −`);
  const overlay = new Overlay(viewer, element, item, layers);
  overlay.onerror = (error) => say(error.message);
  const bar = element.appendChild(document.createElement("div"));
  bar.className = "bar";
  viewer.addHandler("update-viewport", () => drawBar(bar, overlay));
  viewer.addHandler("canvas-click", (event) => { if (event.quick) tried(click)(overlay, event.position); });
  viewer.addHandler("canvas-double-click", (event) => { if (drawing) { event.preventDefaultAction = true; closeRegion(); } });
  viewer.addHandler("viewport-change", keepPlace);
  const tracker = new OpenSeadragon.MouseTracker({
    element: viewer.canvas, moveHandler: (event) => hover(overlay, event.position), leaveHandler: () => { asking++; $("tip").hidden = true; },
  });
  return { element, viewer, overlay, tracker };
}

// Panes move together: the pane moved last leads, and moves that it causes are not propagated back.
let led = [];
function follow(i) {
  if (panes.length < 2) return;
  const bounds = panes[i].viewer.viewport.getBounds();
  const same = led[i] && Math.abs(led[i].x - bounds.x) + Math.abs(led[i].y - bounds.y) + Math.abs(led[i].width - bounds.width) < 1e-6;
  if (same) return;
  panes.forEach((pane, k) => {
    if (k === i) return;
    const view = pane.viewer.viewport;
    view.zoomTo(panes[i].viewer.viewport.getZoom(), null, true);
    view.panTo(bounds.getCenter(), true);
    led[k] = view.getBounds();
  });
  led[i] = null;
}

function here() {
  if (!panes.length) return {};
  const { box, scale: zoom } = panes[0].overlay.seen();
  return { centre: [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], zoom };
}

function go(viewer, { centre, zoom }) {
  const wide = viewer.container.clientWidth / zoom / item.width;
  const high = (wide * viewer.container.clientHeight) / viewer.container.clientWidth;
  const [x, y] = centre.map((v) => v / item.width);
  viewer.viewport.fitBounds(new OpenSeadragon.Rect(x - wide / 2, y - high / 2, wide, high), true);
}

function drawBar(bar, overlay) {
  const { scale: zoom } = overlay.seen();
  const unit = item.mpp ?? 1;
  const most = (120 / zoom) * unit;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((k) => k * power).find((v) => v <= most) ?? power;
  const words = !item.mpp ? `${number(length)} px` : length >= 1000 ? `${number(length / 1000)} mm` : `${number(length)} µm`;
  bar.innerHTML = `<i style="width:${(length / unit) * zoom}px"></i>${words}`;
}

// ---- colours, filters, counts --------------------------------------------------------------

let styling = 0;
async function restyle() {
  const mine = ++styling;
  const column = $("colour").value;
  const scales = new Map();
  for (let which = 0; which < item.layers.length; which++) {
    const names = item.layers[which].names[column];
    const known = has(which, column) ? column : "";
    const span = known && !names ? (await spanOf(which, known)).span : null;
    scales.set(which, scale(known, names, span));
  }
  if (mine !== styling) return; // superseded
  for (const pane of panes) Object.assign(pane.overlay, { filtersOf, column, scales });
  await Promise.all([legend(column), ...panes.map((pane) => pane.overlay.fetch(true))]);
  for (const pane of panes) pane.overlay.ring = ringShown();
  await count();
  keepPlace();
}

async function legend(column) {
  const box = $("legend");
  box.replaceChildren();
  if (!column) return;
  const names = item.layers.flatMap((about) => about.names[column] ?? []);
  if (names.length) {
    const all = new Map();
    for (const about of item.layers) (about.names[column] ?? []).forEach((n, i) => all.set(n, named(column, n, i)));
    for (const [name, colour] of all) {
      const one = box.appendChild(document.createElement("span"));
      one.className = "name";
      one.innerHTML = `<i style="border-color:${colour}"></i>`;
      one.append(name);
      if (meaning(column, name)) one.append(`: ${meaning(column, name)}`);
    }
    return;
  }
  const mine = styling;
  const { span } = await spanOf(holder(column), column);
  if (mine !== styling) return;
  box.replaceChildren();
  const bar = box.appendChild(document.createElement("canvas"));
  [bar.width, bar.height] = [280, 10];
  const ctx = bar.getContext("2d");
  for (let x = 0; x < 280; x++) { ctx.fillStyle = ramp(x / 279); ctx.fillRect(x, 0, 1, 10); }
  const ends = box.appendChild(document.createElement("div"));
  ends.className = "scale";
  ends.innerHTML = `<span>${number(span[0])}</span><span>${number(span[1])}</span>`;
}

let counting = 0;
async function count() {
  if (!item.layers.length) return;
  const mine = ++counting;
  const column = has(layer, $("column").value) ? $("column").value : null;
  try {
    const reply = await api.select(item.id, layer, { filters: filtersOf(layer), ring: region, column });
    if (mine !== counting) return; // superseded by a later request
    $("count").textContent = reply.count.toLocaleString("en");
    $("count").title = `of ${reply.of.toLocaleString("en")}`;
    const area = reply.mm2 === undefined ? "" : `, ${number(reply.mm2)} mm², ${number(reply.count / reply.mm2)} per mm²`;
    $("region").textContent = `${region ? "Region" : "Whole image"}: ${reply.count.toLocaleString("en")} of ` +
      `${reply.of.toLocaleString("en")} nuclei${area}`;
    $("clear").disabled = !region;
    $("histogram").parentElement.hidden = !reply.histogram;
    if (reply.histogram) histogram(column, reply);
  } catch (error) {
    if (mine !== counting) return;
    if (region) setRegion(null); // remove the region that could not be counted
    say(error.message);
  }
}

function histogram(column, reply) {
  const canvas = $("histogram");
  const ends = drawHistogram(canvas, reply.histogram, Boolean(item.layers[layer].names[column]), number);
  const words = `${label(column)}: mean ${number(reply.mean)}, median ${number(reply.median)}`;
  $("histogram-text").textContent = `${words}. The first and last bars also count all values outside the range.`;
  canvas.setAttribute("aria-label", `Histogram of ${words}, ${ends}`);
}

async function listFilters() {
  const box = $("filters");
  box.replaceChildren();
  for (const filter of filters) {
    const [column] = filter;
    const { low, high, span } = await spanOf(holder(column), column);
    const made = box.appendChild(document.createElement("div"));
    made.className = "filter";
    const head = made.appendChild(document.createElement("header"));
    head.append(label(column));
    const gone = head.appendChild(document.createElement("button"));
    [gone.textContent, gone.ariaLabel] = ["×", `Remove the filter of ${column}`];
    gone.onclick = () => { filters = filters.filter((f) => f !== filter); listFilters(); changed(); };
    for (const [end, title] of [[1, "at least"], [2, "at most"]]) {
      const row = made.appendChild(document.createElement("div"));
      const slider = row.appendChild(document.createElement("input"));
      const field = row.appendChild(document.createElement("input"));
      Object.assign(slider, { type: "range", min: 0, max: 1000, step: 1, ariaLabel: `${column} ${title}` });
      Object.assign(field, { type: "number", step: "any", ariaLabel: `${column} ${title}, number` });
      // the ends of the slider are the ends of the column; in between it covers the usual values
      const own = end === 1 ? low : high;
      const value = (t) => (t <= 0 || t >= 1000 ? (t <= 0) === (end === 1) ? null : t <= 0 ? low : high :
        Number((span[0] + ((span[1] - span[0]) * t) / 1000).toPrecision(6)));
      const place = (v) => (v === null ? (end === 1 ? 0 : 1000) : v <= low ? 0 : v >= high ? 1000 :
        Math.min(Math.max((1000 * (v - span[0])) / (span[1] - span[0]), 1), 999));
      const put = () => {
        [field.value, field.placeholder] = [filter[end] ?? "", number(own)];
        slider.setAttribute("aria-valuetext", number(filter[end] ?? own));
        say(filter[1] !== null && filter[2] !== null && filter[1] > filter[2] ? `${label(column)}: the minimum is above the maximum.` : "");
      };
      slider.value = place(filter[end]);
      put();
      slider.oninput = () => { filter[end] = value(Number(slider.value)); put(); changed(); };
      field.onchange = () => {
        filter[end] = field.value === "" ? null : Number(field.value);
        slider.value = place(filter[end]);
        put();
        changed();
      };
    }
  }
}

let changing = 0;
function changed() {
  clearTimeout(changing);
  count();
  changing = setTimeout(tried(restyle), 60);
}

// ---- one nucleus ---------------------------------------------------------------------------

function place(overlay, position) {
  const { box, scale: zoom } = overlay.seen();
  return [box[0] + position.x / zoom, box[1] + position.y / zoom];
}

let hovered = { row: -1 };
let asking = 0;
async function hover(overlay, position) {
  const found = overlay.at(...place(overlay, position));
  const tip = $("tip");
  if (!found) { asking++; tip.hidden = true; hovered = { row: -1 }; return; }
  const pane = overlay.canvas.parentElement;
  [tip.style.left, tip.style.top] = [`${pane.offsetLeft + position.x + 14}px`, `${position.y + 14}px`];
  if (found.row !== hovered.row || found.layer !== hovered.layer) {
    hovered = found;
    const mine = ++asking;
    const facts = await api.nucleus(item.id, found.layer, found.row).catch(() => null);
    if (mine !== asking || !facts) return;
    const colour = $("colour").value;
    const lines = [`nucleus ${facts.id}`];
    for (const name of new Set(["area_um2", "class", "outcome", "score", colour])) {
      if (name === "class" && item.layers[found.layer].names.class.length < 2) continue;
      if (facts[name] === undefined) continue;
      lines.push(`${label(name)}  ${typeof facts[name] === "string" ? facts[name] : number(facts[name])}`);
    }
    tip.textContent = lines.join("\n");
  }
  tip.hidden = false;
}

async function click(overlay, position) {
  const at = place(overlay, position);
  if (drawing) { setCorners([...drawing, at]); return; }
  const found = overlay.at(...at);
  if (found) await choose(found);
  else unchoose();
}

function unchoose() {
  $("nucleus").hidden = true;
  for (const pane of panes) { pane.overlay.marked = null; pane.overlay.paint(); }
}

let choosing = 0;
async function choose(found) {
  const mine = ++choosing;
  const facts = await api.nucleus(item.id, found.layer, found.row);
  if (mine !== choosing) return;
  chosen = found.layer === layer ? found.row : -1;
  const rows = Object.entries(facts).filter(([name]) => name !== "outline" && name !== "id");
  $("nucleus-id").textContent = facts.id;
  $("nucleus-facts").replaceChildren(...rows.map(([name, value]) => {
    const row = document.createElement("tr");
    row.append(...[label(name), typeof value === "string" ? value : number(value)].map((words) => {
      const cell = document.createElement("td");
      cell.textContent = words;
      return cell;
    }));
    return row;
  }));
  $("nucleus").hidden = false;
  for (const pane of panes) { pane.overlay.marked = facts.outline; pane.overlay.paint(); }
  say(`nucleus ${facts.id}, area ${number(facts.area_um2)} µm²`);
}

async function step(by) {
  const overlay = panes[0]?.overlay;
  const view = overlay?.views.get(layer);
  if (!view || view.kind === "heat") { say("Zoom in to go from nucleus to nucleus."); return; }
  const rows = overlay.rowsSeen(layer);
  if (!rows.length) { say("There are no nuclei here."); return; }
  const at = rows.indexOf(chosen); // -1 if none is chosen
  const row = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : (at + by + rows.length) % rows.length];
  await choose({ layer, row });
}

// ---- the region ----------------------------------------------------------------------------

const ringShown = () => (region ? Object.assign([...region], { closed: true }) : drawing);

function startRegion() {
  if (drawing) { setRegion(null); return; }
  setRegion(null); // only a visible region may be counted and saved
  $("draw").setAttribute("aria-pressed", "true");
  panes[0].viewer.canvas.focus(); // so that keys go to the image, not to the button
  say("Click corners, or move the cross with the arrows and press Space; Enter or a double click closes the region, Esc cancels it.");
  setCorners([]);
}

function setCorners(corners) {
  drawing = corners;
  for (const pane of panes) { pane.overlay.ring = ringShown(); pane.overlay.paint(); }
  if (corners?.length) say(`${corners.length} corner${corners.length > 1 ? "s" : ""}`);
}

function closeRegion() {
  const corners = drawing?.filter(([x, y], i, all) => !i || x !== all[i - 1][0] || y !== all[i - 1][1]) ?? [];
  const area = corners.reduce((sum, [x, y], i) => {
    const [u, v] = corners[(i + 1) % corners.length];
    return sum + (x * v - u * y) / 2;
  }, 0);
  const wide = corners.length >= 3 && Math.abs(area) >= 1;
  setRegion(wide ? corners : null);
  if (!wide) say("A region needs at least three corners that are not on one line.");
}

function setRegion(ring) {
  [region, drawing] = [ring, null];
  $("draw").setAttribute("aria-pressed", "false");
  say("");
  for (const pane of panes) { pane.overlay.ring = ringShown(); pane.overlay.paint(); }
  count();
}

function viewBox() {
  const [x0, y0, x1, y1] = panes[0].overlay.seen().box;
  return [Math.max(x0, 0), Math.max(y0, 0), Math.min(x1, item.width), Math.min(y1, item.height)];
}

function takeView() {
  const [x0, y0, x1, y1] = viewBox();
  if (x1 > x0 && y1 > y0) setRegion([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]);
}

// ---- files, links --------------------------------------------------------------------------

async function saveGeojson() {
  save(await api.geojson(item.id, layer, { filters: filtersOf(layer), ring: region }), `${item.name}.geojson`);
}

async function savePng() {
  save(await imageOf(panes), `${item.name}.png`);
}

let keeping = 0;
function keepPlace() {
  clearTimeout(keeping);
  keeping = setTimeout(() => {
    if (!panes.length) return;
    const { centre, zoom } = here();
    const said = new URLSearchParams({ item: item.id, x: centre[0].toFixed(1), y: centre[1].toFixed(1), zoom: zoom.toPrecision(4) });
    if ($("colour").value) said.set("colour", $("colour").value);
    if (item.layers.length === 2) said.set("layout", $("layout").value);
    if (filters.length) said.set("filters", JSON.stringify(filters));
    history.replaceState(null, "", `#${said}`);
  }, 200);
}

function placeSaid() {
  const said = new URLSearchParams(location.hash.slice(1));
  const [x, y, zoom] = ["x", "y", "zoom"].map((name) => Number.parseFloat(said.get(name)));
  const found = { item: said.get("item"), colour: said.get("colour"), layout: said.get("layout") };
  if ([x, y, zoom].every(Number.isFinite) && zoom > 0) Object.assign(found, { centre: [x, y], zoom });
  try { found.filters = JSON.parse(said.get("filters") ?? "[]"); } catch { found.filters = []; }
  return found;
}

// ---- images that are dropped -------------------------------------------------------------

async function showDropped(about) {
  empty("");
  $("item").append(option(about.id, about.name));
  $("item").value = about.id;
  $("item-row").hidden = false;
  await show(about);
  await listFilters();
  say(`${about.name}: ${about.layers[0].count.toLocaleString("en")} nuclei`);
}

// ---- keys ----------------------------------------------------------------------------------

function key(event) {
  const field = event.target.closest("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || (field && field.type !== "range") || !panes.length) return;
  const view = panes[0].viewer.viewport;
  const pan = (x, y) => view.panBy(view.deltaPointsFromPixels(new OpenSeadragon.Point(x, y)));
  const done = {
    "+": () => view.zoomBy(1.5), "=": () => view.zoomBy(1.5), "-": () => view.zoomBy(1 / 1.5),
    "0": () => view.goHome(), "1": () => { const { centre } = here(); go(panes[0].viewer, { centre, zoom: 1 }); },
    o: () => { for (const pane of panes) { pane.overlay.hidden = !pane.overlay.hidden; pane.overlay.paint(); } },
    c: () => { const s = $("colour"); s.selectedIndex = (s.selectedIndex + 1) % s.length; restyle(); },
    r: startRegion, v: takeView, Enter: closeRegion,
    " ": () => setCorners([...drawing, here().centre]), Backspace: () => setCorners(drawing.slice(0, -1)),
    Escape: () => { unchoose(); setRegion(null); }, n: () => tried(step)(1), p: () => tried(step)(-1),
  };
  if (!field) {
    Object.assign(done, { ArrowLeft: () => pan(-80, 0), ArrowRight: () => pan(80, 0), ArrowUp: () => pan(0, -80), ArrowDown: () => pan(0, 80) });
  }
  const act = done[event.key] ?? done[event.key.toLowerCase()];
  const pressed = event.target.closest("button, summary, a") && ["Enter", " "].includes(event.key);
  if (!act || pressed || (["Enter", " ", "Backspace"].includes(event.key) && !drawing)) return;
  event.preventDefault();
  event.stopPropagation();
  act();
}

// ---- start ---------------------------------------------------------------------------------

async function start() {
  const listed = await api.items();
  $("item").replaceChildren(...listed.items.map((one) => option(one.id, one.name)));
  $("item-row").hidden = listed.items.length < 2;
  $("item").onchange = tried(async () => {
    const mine = ++showing;
    const about = await api.item($("item").value);
    if (mine !== showing) return; // superseded by another image
    await show(about);
    await listFilters();
  });
  $("layout").onchange = tried(async () => { await lay(); await listFilters(); });
  $("colour").onchange = tried(restyle);
  $("column").onchange = count;
  $("opacity").oninput = () => { for (const pane of panes) { pane.overlay.opacity = Number($("opacity").value); pane.overlay.paint(); } };
  $("add").onclick = tried(async () => { // a button, because arrow keys change a closed list
    const column = $("add-filter").value;
    $("add-filter").value = "";
    if (!column || filters.some(([name]) => name === column)) return;
    filters.push([column, null, null]);
    await listFilters();
    changed();
  });
  $("draw").onclick = startRegion;
  $("take-view").onclick = takeView;
  $("clear").onclick = () => setRegion(null);
  $("save-geojson").onclick = tried(saveGeojson);
  $("save-png").onclick = tried(savePng);
  $("copy-link").onclick = tried(async () => { await navigator.clipboard.writeText(location.href); say("Link copied."); });
  $("keys").innerHTML = KEYS.map(([keys, words]) => `<tr><td>${keys.split(" ").map((k) => `<kbd>${k}</kbd>`).join(" ")}</td><td>${words}</td></tr>`).join("");
  addEventListener("keydown", key, true);
  if (listed.takes_images) takeDrops(listed.most_bytes, say, showDropped);
  const said = placeSaid();
  const first = listed.items.find((one) => one.id === said.item) ?? listed.items[0];
  if (first) { $("item").value = first.id; await show(await api.item(first.id), said); await listFilters(); }
  else {
    $("nuclei-controls").hidden = true;
    empty("No image yet", "Drop an image of H&E-stained tissue anywhere on this page, or choose a file on the right. " +
      "Its nuclei are segmented on this machine; nothing is uploaded.");
  }
  document.body.dataset.ready = "yes";
}

window.nucleate = { panes: () => panes, here, setRegion, go: (place) => go(panes[0].viewer, place) };
start().catch((error) => say(error.message));
