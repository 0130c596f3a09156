// Draws nuclei over an image. Nuclei of the view and a margin are fetched and drawn once into a
// buffer, which moves with the image and is redrawn when the view leaves it.

import * as api from "./api.js";
import { ramp } from "./colours.js";

const MARGIN = 0.25; // fraction of the view, on each side
const SETTLE_MS = 90;

export class Overlay {
  constructor(viewer, pane, item, layers) {
    Object.assign(this, { viewer, item, layers, filtersOf: () => [], column: "", opacity: 1, hidden: false });
    this.canvas = pane.appendChild(document.createElement("canvas"));
    this.views = new Map(); // layer -> response of the server
    this.drawn = null; // content and position of the buffer
    this.scales = new Map(); // layer -> value to colour
    this.marked = null; // outline of the chosen nucleus
    this.ring = null; // corners of the region
    this.frames = [];
    viewer.addHandler("update-viewport", () => this.paint());
    viewer.addHandler("viewport-change", () => this.settle());
    viewer.addHandler("resize", () => this.settle());
  }

  // visible box in level-0 pixels, and screen pixels per level-0 pixel
  seen() {
    const bounds = this.viewer.viewport.getBounds(true);
    const wide = this.item.width;
    const box = [bounds.x, bounds.y, bounds.x + bounds.width, bounds.y + bounds.height].map((v) => v * wide);
    return { box, scale: this.viewer.container.clientWidth / (box[2] - box[0]) };
  }

  settle() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.fetch(), SETTLE_MS);
  }

  async fetch(force = false) {
    const { box, scale } = this.seen();
    const d = this.drawn;
    if (!force && d && d.scale / scale > 0.8 && d.scale / scale < 1.25 &&
        box[0] >= d.box[0] && box[1] >= d.box[1] && box[2] <= d.box[2] && box[3] <= d.box[3]) return;
    const [w, h] = [(box[2] - box[0]) * MARGIN, (box[3] - box[1]) * MARGIN];
    const wider = [box[0] - w, box[1] - h, box[2] + w, box[3] + h];
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    try {
      const found = await Promise.all(this.layers.map((layer) => api.view(
        this.item.id, layer, wider, this.filtersOf(layer), this.columnOf(layer), asking.signal)));
      this.views = new Map(this.layers.map((layer, i) => [layer, { ...found[i], box: wider }]));
      this.draw(wider, scale);
      this.onview?.(this.views);
    } catch (error) {
      if (error.name !== "AbortError") this.onerror?.(error);
    }
  }

  columnOf(layer) {
    const about = this.item.layers[layer];
    return about.numeric.includes(this.column) || this.column in about.names ? this.column : "";
  }

  draw(box, scale) {
    if (this.closed) return;
    const ratio = window.devicePixelRatio || 1;
    const canvas = document.createElement("canvas");
    canvas.width = Math.ceil((box[2] - box[0]) * scale * ratio);
    canvas.height = Math.ceil((box[3] - box[1]) * scale * ratio);
    const ctx = canvas.getContext("2d");
    ctx.scale(scale * ratio, scale * ratio);
    ctx.translate(-box[0], -box[1]);
    this.layers.forEach((layer, i) => this.drawView(ctx, layer, scale, i));
    this.drawn = { canvas, box, scale };
    this.viewer.forceRedraw();
    this.paint();
  }

  drawView(ctx, layer, scale, place) {
    const view = this.views.get(layer);
    if (view.kind === "heat") return drawHeat(ctx, view, this.scales.get(layer), this.columnOf(layer));
    const { colours, of } = this.scales.get(layer);
    const groups = colours.map(() => []);
    for (let i = 0; i < view.rows.length; i++) groups[of(view.values[i] ?? 0)].push(i);
    const fine = Math.min(Math.max(6 * scale, 0.6), 1.6); // thin where nuclei are small
    ctx.lineWidth = (place ? 2 * fine : fine) / scale; // the second of two layers is drawn below the first
    const filled = Boolean(this.columnOf(layer)) && !place;
    const cased = this.layers.length === 1 && scale >= 0.4;
    ctx.globalCompositeOperation = place ? "destination-over" : "source-over";
    groups.forEach((group, k) => {
      if (!group.length) return;
      ctx.beginPath();
      if (view.kind === "points") {
        const r = Math.max(1.5 / scale, 1);
        ctx.fillStyle = colours[k];
        for (const i of group) ctx.rect(view.centres_xy[2 * i] - r, view.centres_xy[2 * i + 1] - r, 2 * r, 2 * r);
        ctx.fill();
      } else {
        ctx.strokeStyle = colours[k];
        for (const i of group) trace(ctx, view.coords_xy, view.offsets[i], view.offsets[i + 1]);
        if (filled) {
          ctx.fillStyle = colours[k];
          ctx.globalAlpha = 0.45; // outlines alone are hard to tell apart on dark nuclei
          ctx.fill();
          ctx.globalAlpha = 1;
        }
        if (cased) { // a light rim: outlines of any colour stay legible on dark nuclei
          ctx.lineWidth = (fine + 1.8) / scale;
          ctx.strokeStyle = "rgb(255 255 255 / .8)";
          ctx.stroke();
          ctx.lineWidth = fine / scale;
          ctx.strokeStyle = colours[k];
        }
        ctx.stroke();
      }
    });
    ctx.globalCompositeOperation = "source-over";
  }

  paint() {
    const ratio = window.devicePixelRatio || 1;
    const [wide, high] = [this.viewer.container.clientWidth, this.viewer.container.clientHeight];
    if (this.canvas.width !== Math.round(wide * ratio) || this.canvas.height !== Math.round(high * ratio)) {
      this.canvas.width = Math.round(wide * ratio);
      this.canvas.height = Math.round(high * ratio);
    }
    const ctx = this.canvas.getContext("2d");
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const { box, scale } = this.seen();
    const zoom = scale * ratio;
    if (this.drawn && !this.hidden) {
      const d = this.drawn;
      ctx.globalAlpha = this.opacity;
      ctx.drawImage(d.canvas, (d.box[0] - box[0]) * zoom, (d.box[1] - box[1]) * zoom,
        (d.box[2] - d.box[0]) * zoom, (d.box[3] - d.box[1]) * zoom);
      ctx.globalAlpha = 1;
    }
    ctx.setTransform(zoom, 0, 0, zoom, -box[0] * zoom, -box[1] * zoom);
    if (this.marked) line(ctx, this.marked, scale, true, []);
    if (this.ring) line(ctx, this.ring, scale, this.ring.closed, [8 / scale, 5 / scale]);
    if (this.ring && !this.ring.closed) { // position of the next corner from the keyboard
      const [x, y, arm] = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, 9 / scale];
      line(ctx, [[x - arm, y], [x + arm, y]], scale, false, []);
      line(ctx, [[x, y - arm], [x, y + arm]], scale, false, []);
    }
    this.frames.push(performance.now());
    if (this.frames.length > 240) this.frames.shift();
  }

  // rows of the visible nuclei of a layer, from top to bottom
  rowsSeen(layer) {
    const { box } = this.seen();
    const view = this.views.get(layer);
    const within = (x, y) => x >= box[0] && x < box[2] && y >= box[1] && y < box[3];
    return Array.from(view.rows).filter((_, i) => (view.kind === "points" ?
      within(view.centres_xy[2 * i], view.centres_xy[2 * i + 1]) :
      within(view.coords_xy[2 * view.offsets[i]], view.coords_xy[2 * view.offsets[i] + 1])));
  }

  // returns {layer, row} of the nucleus at a position in the image, or null
  at(x, y) {
    const { scale } = this.seen();
    for (const layer of this.layers) {
      const view = this.views.get(layer);
      if (!view || view.kind === "heat") continue;
      const i = view.kind === "points" ? nearest(view.centres_xy, x, y, 8 / scale) : inside(view, x, y);
      if (i >= 0) return { layer, row: view.rows[i], value: view.values[i] };
    }
    return null;
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.asking?.abort();
  }
}

function trace(ctx, coords, from, to) {
  ctx.moveTo(coords[2 * from], coords[2 * from + 1]);
  for (let v = from + 1; v < to; v++) ctx.lineTo(coords[2 * v], coords[2 * v + 1]);
  ctx.closePath();
}

function line(ctx, ring, scale, closed, dash) {
  for (const [width, colour, pattern] of [[4, "#000", []], [2, "#fff", dash]]) {
    ctx.beginPath();
    ring.forEach(([x, y], i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
    if (closed) ctx.closePath();
    ctx.lineWidth = width / scale;
    ctx.strokeStyle = colour;
    ctx.setLineDash(pattern);
    ctx.stroke();
  }
  ctx.setLineDash([]);
}

function drawHeat(ctx, view, scale, column) {
  const [wide, high] = view.bins;
  const [x0, y0, x1, y1] = view.box;
  const counts = Array.from(view.counts).filter((n) => n > 0).sort((a, b) => a - b);
  const full = counts.length ? counts[Math.floor(counts.length * 0.98)] : 1;
  const cell = Math.max((x1 - x0) / wide, (y1 - y0) / high);
  const small = document.createElement("canvas"); // one pixel per bin, enlarged without seams
  [small.width, small.height] = [wide, high];
  const pen = small.getContext("2d");
  const valued = column && view.values.length;
  for (let i = 0; i < view.counts.length; i++) {
    if (!view.counts[i]) continue;
    const share = Math.min(view.counts[i] / full, 1);
    pen.fillStyle = valued ? scale.colours[scale.of(view.values[i])] : ramp(share);
    pen.globalAlpha = valued ? 0.25 + 0.6 * share : 0.35 + 0.45 * share;
    pen.fillRect(i % wide, Math.floor(i / wide), 1, 1);
  }
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(small, x0, y0, wide * cell, high * cell);
}

function nearest(centres, x, y, reach) {
  let best = -1;
  let least = reach * reach;
  for (let i = 0; i < centres.length / 2; i++) {
    const d = (centres[2 * i] - x) ** 2 + (centres[2 * i + 1] - y) ** 2;
    if (d < least) [best, least] = [i, d];
  }
  return best;
}

function inside(view, x, y) {
  const c = view.coords_xy;
  for (let i = 0; i < view.rows.length; i++) {
    const [from, to] = [view.offsets[i], view.offsets[i + 1]];
    let within = false;
    for (let v = from, u = to - 1; v < to; u = v++) {
      const [xv, yv, xu, yu] = [c[2 * v], c[2 * v + 1], c[2 * u], c[2 * u + 1]];
      if (yv > y !== yu > y && x < ((xu - xv) * (y - yv)) / (yu - yv) + xv) within = !within;
    }
    if (within) return i;
  }
  return -1;
}
