// Requests of the page to its server. All URLs are relative, because they start with the token.

async function answer(response) {
  if (response.ok) return response;
  let words = `${response.status}`;
  try { words = (await response.json()).error || words; } catch { /* not JSON: use the status */ }
  throw new Error(words);
}

async function get(path, signal) {
  return answer(await fetch(path, { signal }));
}

async function post(path, body) {
  const headers = { "content-type": "application/json" };
  return answer(await fetch(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

export const items = async () => (await get("api/items")).json();
export const item = async (id) => (await get(`api/items/${id}`)).json();
export const nucleus = async (id, layer, row) =>
  (await get(`api/items/${id}/layers/${layer}/nuclei/${row}`)).json();
export const column = async (id, layer, name) =>
  (await get(`api/items/${id}/layers/${layer}/columns/${encodeURIComponent(name)}`)).json();
export const select = async (id, layer, asked) =>
  (await post(`api/items/${id}/layers/${layer}/select`, asked)).json();
export const geojson = async (id, layer, asked) =>
  (await post(`api/items/${id}/layers/${layer}/geojson`, asked)).blob();
export const job = async (number) => (await get(`api/images/${number}`)).json();

export async function view(id, layer, box, filters, colour, signal) {
  const asked = new URLSearchParams({ box: box.join(","), filters: JSON.stringify(filters), colour });
  return unpack(await (await get(`api/items/${id}/layers/${layer}/view?${asked}`, signal)).arrayBuffer());
}

export async function send(file, mpp) {
  const asked = new URLSearchParams({ name: file.name });
  if (mpp) asked.set("mpp", mpp);
  const response = await fetch(`api/images?${asked}`, { method: "POST", body: file });
  if (response.status === 413) throw new Error(`${file.name} is too large for this page.`);
  return (await (await answer(response)).json()).number;
}

// Header length, header as JSON, then the arrays: see `pack` in messages.py.
function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const found = { kind: head.kind, count: head.count, bins: head.bins };
  let at = 4 + length;
  for (const [name, kind, size] of head.arrays) {
    found[name] = kind === "float32" ? new Float32Array(buffer, at, size) : new Uint32Array(buffer, at, size);
    at += 4 * size;
  }
  return found;
}
