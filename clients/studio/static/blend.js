// Three or four images at the corners, and their blend under the pointer.

import { show } from "./api.js";
import { h, icon, say } from "./dom.js";
import { latentOf, ofLatent } from "./images.js";
import { blend } from "./latents.js";
import { choose, listen, markedImages } from "./store.js";
import { describe, isSharp, modelOf } from "./tile.js";
import { nothingChosen, usable } from "./vary.js";

const CELLS = 7;
const STEP = 1 / 24;

const SHAPES = {
  square: {
    corners: [[0, 0], [1, 0], [0, 1], [1, 1]],
    weights: (x, y) => [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y],
    clip: (x, y) => [Math.min(1, Math.max(0, x)), Math.min(1, Math.max(0, y))],
    cells: () => Array.from({ length: CELLS * CELLS }, (_, i) => [(i % CELLS) / (CELLS - 1), Math.floor(i / CELLS) / (CELLS - 1)]),
  },
  triangle: {
    corners: [[0.5, 0], [0, 1], [1, 1]],
    // The height is the first one's part; the others share the rest.
    weights: (x, y) => { const right = y === 0 ? 0 : (x - (0.5 - y / 2)) / y; return [1 - y, y * (1 - right), y * right]; },
    clip: (x, y) => { y = Math.min(1, Math.max(0, y)); return [Math.min(0.5 + y / 2, Math.max(0.5 - y / 2, x)), y]; },
    cells: () => Array.from({ length: CELLS }, (_, row) => Array.from({ length: row + 1 }, (_, i) => [0.5 - row / (CELLS - 1) / 2 + i / (CELLS - 1), row / (CELLS - 1)])).flat(),
  },
};

export function blendRoom(main) {
  const images = usable(markedImages()).slice(0, 4);
  if (images.length < 3) {
    const stop = listen((what) => what === "chosen" && usable(markedImages()).length >= 3 && (main.replaceChildren(), dispatchEvent(new HashChangeEvent("hashchange"))));
    nothingChosen(main, "Blend three or four images");
    return stop;
  }
  const kind = images.length === 3 ? "triangle" : "square";
  const shape = SHAPES[kind];
  const model = modelOf(images[0]);
  let latents = null;
  let place = kind === "square" ? [0.5, 0.5] : [0.5, 2 / 3];
  let current = null;
  let busy = false;
  let wanted = null;

  const sharp = isSharp(images[0]) ? "sharp" : "";
  const preview = h("img", { class: sharp, alt: "Blend under the pointer" });
  const parts = h("p", { class: "quiet", role: "status" });
  const handle = h("button", { class: "handle", "aria-label": "Blend: move with the arrow keys" });
  const pad = h("div", { class: "pad" }, handle);
  const keep = h("button", { class: "primary", onclick: () => { choose(current); say("The blend is in the tray."); } }, icon("heart"), "Choose this blend");
  main.append(
    h("div", { class: "controls" }, h("p", { class: "quiet" }, kind === "triangle" ? "Move over the triangle. Mark four images in the tray for a square." : "Move over the square. Mark three images in the tray for a triangle.")),
    h("div", { class: "stage" }, pad, h("aside", { class: "side" }, h("section", { class: "panel big", "aria-label": "Blend" }, preview, parts, keep))),
  );
  preview.parentElement.style.setProperty("--big", "256px");

  const cell = 1 / CELLS;
  const within = (x, y) => [x * (1 - cell), y * (1 - cell)];

  function made(x, y) {
    const weights = shape.weights(x, y);
    const heaviest = weights.indexOf(Math.max(...weights));
    return ofLatent(model, blend(latents, weights), images[heaviest].label, "blend", images);
  }

  function background() {
    for (const [x, y] of shape.cells()) {
      const corner = shape.corners.findIndex(([cx, cy]) => Math.abs(cx - x) < 1e-9 && Math.abs(cy - y) < 1e-9);
      const img = h("img", { class: `${sharp}${corner >= 0 ? " corner" : ""}`, alt: corner >= 0 ? describe(images[corner]) : "", draggable: "false" });
      const [left, top] = within(x, y);
      Object.assign(img.style, { left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * cell}%`, height: `${100 * cell}%` });
      show(img, corner >= 0 ? images[corner].address : made(x, y).address);
      pad.insertBefore(img, handle);
    }
  }

  // The newest place wins: one image is on its way at a time.
  async function move(x, y) {
    place = shape.clip(x, y);
    const [left, top] = within(...place);
    handle.style.left = `${100 * (left + cell / 2)}%`;
    handle.style.top = `${100 * (top + cell / 2)}%`;
    wanted = place;
    if (busy || !latents) return;
    busy = true;
    while (wanted) {
      const [px, py] = wanted;
      wanted = null;
      current = made(px, py);
      parts.textContent = shape.weights(px, py).map((part) => `${Math.round(100 * part)} %`).join(" · ");
      const next = new Image();
      await show(next, current.address);
      try {
        await next.decode();
      } catch {
        document.dispatchEvent(new CustomEvent("missing", { detail: current }));
        break;
      }
      preview.src = next.src;
    }
    busy = false;
  }

  function pointed(event) {
    const box = pad.getBoundingClientRect();
    const at = (value, from, length) => ((value - from) / length - cell / 2) / (1 - cell);
    move(at(event.clientX, box.left, box.width), at(event.clientY, box.top, box.height));
  }
  pad.addEventListener("pointermove", (event) => (event.pointerType === "mouse" || event.buttons) && pointed(event));
  pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); pointed(event); });
  pad.addEventListener("dblclick", () => keep.click());
  handle.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter" || event.key === " ") keep.click();
    if (!way) return;
    event.preventDefault();
    move(place[0] + STEP * way[0], place[1] + STEP * way[1]);
  });

  Promise.all(images.map(latentOf)).then((found) => {
    latents = found;
    background();
    move(...place);
  });
}
