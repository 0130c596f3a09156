// Draws the histogram of a column of the selected nuclei.

import { ramp } from "./colours.js";
import { NAMED } from "./palette.js";

const [HIGH, WIDE] = [90, 280];

// `words` formats a number; `named`: the column has names, so its bins are not coloured by the scale.
export function draw(canvas, { edges, counts }, named, words) {
  const ctx = canvas.getContext("2d");
  const most = Math.max(...counts, 1);
  ctx.clearRect(0, 0, canvas.width, canvas.height);
  counts.forEach((n, i) => {
    const high = (n / most) * HIGH;
    ctx.fillStyle = named ? NAMED : ramp(i / (counts.length - 1));
    ctx.fillRect((i * WIDE) / counts.length, HIGH + 2 - high, WIDE / counts.length - 0.6, high);
  });
  ctx.fillStyle = getComputedStyle(document.body).color;
  ctx.font = "11px system-ui";
  const [low, high] = [words(edges[0]), words(edges[edges.length - 1])];
  ctx.fillText(low, 0, HIGH + 16);
  ctx.fillText(high, WIDE - ctx.measureText(high).width, HIGH + 16);
  return `from ${low} to ${high}`;
}
