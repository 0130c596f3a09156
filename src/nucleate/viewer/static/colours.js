// Colours for any colour vision: a scale for numbers, a list for names.

import { CLASSES, MEANING, OUTCOMES, PLAIN, SCALE, UNKNOWN } from "./palette.js";

export const BINS = 24;

export function ramp(t) {
  const at = Math.min(Math.max(t, 0), 1) * (SCALE.length - 1);
  const i = Math.min(Math.floor(at), SCALE.length - 2);
  const mixed = SCALE[i].map((a, k) => Math.round(a + (SCALE[i + 1][k] - a) * (at - i)));
  return `rgb(${mixed.join(",")})`;
}

export const named = (column, name, i) => (column === "outcome" ? OUTCOMES[name] : CLASSES[i % CLASSES.length]);
export const meaning = (column, name) => (column === "outcome" ? MEANING[name] : "");

// returns `colours`, and a function from a value to its index in them
export function scale(column, names, span) {
  if (!column) return { colours: [PLAIN], of: () => 0 };
  if (names) {
    return { colours: names.map((name, i) => named(column, name, i)), of: (value) => value };
  }
  const [low, high] = span;
  const colours = Array.from({ length: BINS }, (_, i) => ramp(i / (BINS - 1)));
  const of = (value) => {
    if (Number.isNaN(value)) return BINS;
    return Math.min(Math.max(Math.floor(((value - low) / (high - low)) * BINS), 0), BINS - 1);
  };
  return { colours: [...colours, UNKNOWN], of };
}
