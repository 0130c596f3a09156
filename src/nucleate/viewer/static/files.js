// Files that the page saves.

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Returns all panes as shown, with nuclei, region and scale bar, as PNG.
export function imageOf(panes) {
  const ratio = window.devicePixelRatio || 1;
  const sizes = panes.map(({ element }) => [element.clientWidth * ratio, element.clientHeight * ratio].map(Math.round));
  const canvas = document.createElement("canvas");
  canvas.width = sizes.reduce((sum, [wide]) => sum + wide, 0);
  canvas.height = Math.max(...sizes.map(([, high]) => high));
  const ctx = canvas.getContext("2d");
  ctx.fillStyle = "#fff";
  ctx.fillRect(0, 0, canvas.width, canvas.height);
  let left = 0;
  panes.forEach(({ element, viewer, overlay }, i) => {
    const [wide, high] = sizes[i];
    ctx.drawImage(viewer.drawer.canvas, left, 0, wide, high);
    ctx.drawImage(overlay.canvas, left, 0, wide, high);
    drawBar(ctx, element, left, ratio);
    left += wide;
  });
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function drawBar(ctx, element, left, ratio) {
  const bar = element.querySelector(".bar");
  const line = bar?.querySelector("i")?.getBoundingClientRect();
  if (!line) return;
  const pane = element.getBoundingClientRect();
  const [x, y] = [left + (line.left - pane.left) * ratio, (line.bottom - pane.top) * ratio];
  const [wide, thick] = [line.width * ratio, 3 * ratio];
  ctx.font = `${13 * ratio}px system-ui`;
  const high = 24 * ratio;
  ctx.fillStyle = "rgba(255, 255, 255, 0.85)";
  ctx.fillRect(x - 6 * ratio, y - high, Math.max(wide, ctx.measureText(bar.textContent).width) + 12 * ratio, high + 6 * ratio);
  ctx.fillStyle = "#000";
  ctx.fillRect(x, y - thick, wide, thick);
  ctx.fillText(bar.textContent, x, y - 2 * thick);
}
