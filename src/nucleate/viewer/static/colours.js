// Colours that can be distinguished with any colour vision: cividis for numbers, Okabe and Ito for names.

const CIVIDIS = [
  [0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115],
  [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [253, 231, 55],
];
const NAMES = ["#009e73", "#e69f00", "#56b4e9", "#d55e00", "#0072b2", "#cc79a7", "#f0e442", "#000000"];
const FATES = {
  matched: "#f0e442", merged: "#009e73", split: "#56b4e9", inaccurate: "#ffffff",
  missed: "#d55e00", part: "#56b4e9", spurious: "#000000",
};
export const PLAIN = "#00c8a0";
export const BINS = 24;

export function ramp(t) {
  const at = Math.min(Math.max(t, 0), 1) * (CIVIDIS.length - 1);
  const i = Math.min(Math.floor(at), CIVIDIS.length - 2);
  const mixed = CIVIDIS[i].map((a, k) => Math.round(a + (CIVIDIS[i + 1][k] - a) * (at - i)));
  return `rgb(${mixed.join(",")})`;
}

export const named = (column, name, i) => (column === "fate" ? FATES[name] : NAMES[i % NAMES.length]);

// -> function of a value: which of `colours` it has
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
  return { colours: [...colours, "#888888"], of };
}
