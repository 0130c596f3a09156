// Sends images dropped on the page one by one, and waits for each.

import * as api from "./api.js";

const $ = (id) => document.getElementById(id);

// `say` shows a message; `show` is called with the server's description of a finished image.
export function takeDrops(mostBytes, say, show) {
  let sending = Promise.resolve();
  const sendAll = (files) => { // after the images of an earlier drop
    for (const file of files) sending = sending.then(() => send(file, mostBytes, say, show).catch((error) => say(error.message)));
  };
  $("send").hidden = false;
  $("accepted").textContent = `PNG, JPEG, TIFF, BMP or WebP, up to ${mostBytes / 2 ** 20} MB`;
  $("file").onchange = () => { const files = [...$("file").files]; $("file").value = ""; sendAll(files); };
  $("send").onsubmit = (event) => event.preventDefault();
  addEventListener("dragover", (event) => { event.preventDefault(); $("drop").hidden = false; });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").hidden = true;
    sendAll([...event.dataTransfer.files]);
  });
}

async function send(file, mostBytes, say, show) {
  if (file.size > mostBytes) {
    throw new Error(`${file.name} has ${Math.ceil(file.size / 2 ** 20)} MB, more than the limit of ${mostBytes / 2 ** 20} MB. Start nucleate serve with a higher --megabytes.`);
  }
  const bar = $("progress");
  try {
    say(`Sending ${file.name} …`);
    const job = await api.send(file, $("mpp").value);
    for (;;) {
      const state = await api.job(job);
      bar.hidden = false;
      if (state.tiles) bar.value = state.done / state.tiles; else bar.removeAttribute("value");
      say(state.state === "waiting" ? `${state.name} is waiting …` : `Segmenting ${state.name} …`);
      if (state.state === "failed") throw new Error(state.error);
      if (state.state === "done") break;
      await new Promise((done) => setTimeout(done, 250));
    }
    await show(await api.item(`q${job}`));
  } finally { bar.hidden = true; }
}
