// A walk through the chosen images: played here, and saved as GIF, WebP, MP4 or a sheet.

import { latentAddress, modelPath, post, show } from "./api.js";
import { debounced, download, h, icon, say } from "./dom.js";
import { latentOf } from "./images.js";
import { toBase64 } from "./latents.js";
import { listen, markedImages } from "./store.js";
import { isSharp, modelOf, tile } from "./tile.js";
import { nothingChosen, usable } from "./vary.js";

const options = { steps: 12, ms: 80, loop: true, scale: 8 };
const MOST_FRAMES = 480;

// Frames in between: on the arc, as the service's own walks are.
function slerp(a, b, t) {
  if (t === 0) return a;
  const dot = a.reduce((sum, value, d) => sum + value * b[d], 0);
  const cosine = Math.min(1, Math.max(-1, dot / Math.max(Math.hypot(...a) * Math.hypot(...b), 1e-300)));
  const angle = Math.acos(cosine);
  const sine = Math.sin(angle);
  const [wa, wb] = sine > 1e-6 ? [Math.sin((1 - t) * angle) / sine, Math.sin(t * angle) / sine] : [1 - t, t];
  return Float32Array.from(a, (value, d) => wa * value + wb * b[d]);
}

export function walkRoom(main) {
  const images = usable(markedImages());
  if (images.length < 2) {
    const stop = listen((what) => what === "chosen" && usable(markedImages()).length >= 2 && (main.replaceChildren(), dispatchEvent(new HashChangeEvent("hashchange"))));
    nothingChosen(main, "Walk through two or more images");
    return stop;
  }
  const model = modelOf(images[0]);
  const canvas = h("canvas", { width: model.width, height: model.height, class: isSharp(images[0]) ? "sharp" : "", role: "img", "aria-label": "The walk" });
  const context = canvas.getContext("2d");
  const time = h("input", { type: "range", min: "0", max: "1", step: "1", value: "0", "aria-label": "Frame" });
  const shown = h("output");
  const play = h("button", { class: "round", "aria-label": "Play or pause" });
  const save = h("div", { class: "actions" });
  const range = (name, text, min, max, step, unit = "") => {
    const value = h("output", { for: name }, `${options[name]}${unit}`);
    const input = h("input", { type: "range", id: name, min, max, step, value: String(options[name]), oninput: () => { options[name] = Number(input.value); value.value = `${input.value}${unit}`; later(); } });
    return h("div", { class: "range" }, h("label", { for: name, class: "quiet" }, text), value, input);
  };
  options.scale = Math.max(1, Math.min(16, Math.round(384 / model.width)));
  const loop = h("input", { type: "checkbox", checked: options.loop, onchange: () => { options.loop = loop.checked; later(); } });
  main.append(
    h("div", { class: "controls" }, h("p", { class: "quiet" }, `Through ${images.length} images, in the order of the tray; marked ones alone, if there are any.`)),
    h("div", { class: "stage" },
      h("div", { class: "screen" }, canvas, h("div", { class: "timeline" }, play, time, shown)),
      h("aside", { class: "side" },
        h("section", { class: "panel", "aria-label": "Walk" },
          h("h2", {}, "Walk"),
          h("div", { class: "parents" }, images.map((image) => tile(image, { open: () => {}, tag: "div", heart: false }))),
          range("steps", "Frames between two", "2", "48", "1"),
          range("ms", "Time of a frame", "20", "400", "10", " ms"),
          h("label", {}, loop, "Back to the first"),
        ),
        h("section", { class: "panel", "aria-label": "Save" }, h("h3", {}, "Save"), range("scale", "Each pixel as", "1", "16", "1", " ×"), save),
      ),
    ),
  );
  for (const [format, text] of [["gif", "GIF"], ["webp", "WebP"], ["mp4", "MP4"], ["png", "Sheet"]]) {
    save.append(h("button", { onclick: (event) => exportAs(format, event.currentTarget) }, text));
  }

  let latents = null;
  let frames = [];
  let frame = 0;
  let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  let timer = 0;
  let turn = 0;

  function prepare() {
    const number = ++turn;
    const stops = images.length;
    const count = Math.min(MOST_FRAMES, options.loop ? stops * options.steps : (stops - 1) * options.steps + 1);
    frames = Array.from({ length: count }, (_, i) => {
      const leg = Math.floor(i / options.steps);
      const t = (i % options.steps) / options.steps;
      const [a, b] = [leg % stops, (leg + 1) % stops];
      const label = images[2 * t < 1 ? a : b].label;
      const img = new Image();
      img.ready = false;
      img.addEventListener("load", () => { img.ready = true; if (number === turn && i === frame) draw(); });
      show(img, t === 0 ? images[a].address : latentAddress(model, toBase64(slerp(latents[a], latents[b], t)), label));
      return img;
    });
    time.max = String(count - 1);
    frame = Math.min(frame, count - 1);
    draw();
  }

  function draw() {
    const img = frames[frame];
    time.value = String(frame);
    shown.value = `${frame + 1} / ${frames.length}`;
    if (!img?.ready) return;
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(img, 0, 0);
  }

  function tick() {
    clearTimeout(timer);
    play.replaceChildren(icon(playing ? "pause" : "play"));
    if (!playing) return;
    timer = setTimeout(() => {
      const next = (frame + 1) % Math.max(1, frames.length);
      if (frames[next]?.ready) frame = next; // wait for what is on its way
      draw();
      tick();
    }, options.ms);
  }

  play.addEventListener("click", () => { playing = !playing; tick(); });
  time.addEventListener("input", () => { playing = false; frame = Number(time.value); tick(); draw(); });
  const later = debounced(() => latents && prepare(), 150);

  async function exportAs(format, button) {
    button.disabled = true;
    try {
      const body = { latents: latents.map((latent) => [...latent]), steps: options.steps, loop: options.loop, ms: options.ms, scale: format === "png" ? Math.max(1, Math.round(options.scale / 4)) : options.scale, format };
      if (images[0].label !== null) body.labels = images.map((image) => image.label);
      const blob = await (await post(`${modelPath(model)}/walks`, body)).blob();
      download(blob, format === "png" ? `${model.name}-walk-sheet.png` : `${model.name}-walk.${format}`);
      say(`Saved, ${(blob.size / 1024).toFixed(0)} KiB.`);
    } catch (problem) {
      document.dispatchEvent(new CustomEvent("problem", { detail: problem }));
    } finally {
      button.disabled = false;
    }
  }

  Promise.all(images.map(latentOf)).then((found) => {
    latents = found;
    prepare();
    tick();
  });
  return () => {
    turn += 1;
    clearTimeout(timer);
  };
}
