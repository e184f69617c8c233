// One image as a tile: a click opens it, the heart chooses it.

import { show } from "./api.js";
import { h, icon } from "./dom.js";
import { title } from "./images.js";
import { isChosen, listen, state, toggle } from "./store.js";

const SLOW_MS = 5000;
let waiting = 0;
let slowTimer;

function count(change) {
  waiting += change;
  clearTimeout(slowTimer);
  document.dispatchEvent(new CustomEvent("slow", { detail: 0 }));
  if (waiting > 0) slowTimer = setTimeout(() => document.dispatchEvent(new CustomEvent("slow", { detail: waiting })), SLOW_MS);
}

export const modelOf = (image) => state.models.find((model) => model.name === image.model.name && model.digest === image.model.digest);

export const isSharp = (image) => (modelOf(image)?.width ?? 0) < 128;

export function labelOf(image) {
  if (image.label === null) return "";
  return modelOf(image)?.labels[image.label] ?? String(image.label);
}

export function describe(image) {
  const label = labelOf(image);
  return title(image) + (label && `, label ${label}`);
}

export function still(image, properties = {}) {
  const img = h("img", { alt: describe(image), class: isSharp(image) ? "sharp" : "", draggable: "false", ...properties });
  show(img, image.address);
  return img;
}

export function tile(image, { open, pressed, current, tag = "li", heart = true } = {}) {
  const img = h("img", { alt: describe(image), class: isSharp(image) ? "sharp" : "", draggable: "false" });
  let pending = true;
  const settle = () => {
    if (!pending) return;
    pending = false;
    count(-1);
    element.classList.remove("waiting");
  };
  count(1);
  img.addEventListener("load", settle);
  img.addEventListener("error", () => {
    settle();
    img.classList.add("failed");
    document.dispatchEvent(new CustomEvent("missing", { detail: image }));
  });
  const button = h("button", { class: "open", onclick: () => open(image), "aria-pressed": pressed === undefined ? undefined : String(pressed), "aria-current": current ? "true" : undefined }, img);
  const element = h(tag, { class: "tile waiting" }, button);
  element.image = image;
  if (heart) {
    const chooser = h("button", { class: "heart", "aria-pressed": String(isChosen(image)), "aria-label": `Choose ${describe(image)}`, onclick: () => toggle(image) }, icon("heart"));
    element.append(chooser);
    const stop = listen(() => {
      if (!element.isConnected && element.wasConnected) return stop();
      chooser.setAttribute("aria-pressed", String(isChosen(image)));
    });
  }
  element.leave = settle;
  requestAnimationFrame(() => (element.wasConnected = true));
  show(img, image.address);
  return element;
}

// Arrow keys from tile to tile, by where they are on the screen.
export function arrows(container, selector = ".open") {
  container.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const from = event.target.closest(selector);
    if (!way || !from) return;
    event.preventDefault();
    const a = from.getBoundingClientRect();
    let best = null;
    let least = Infinity;
    for (const other of container.querySelectorAll(selector)) {
      const b = other.getBoundingClientRect();
      const x = b.left - a.left;
      const y = b.top - a.top;
      const ahead = x * way[0] + y * way[1];
      const aside = Math.abs(x * way[1]) + Math.abs(y * way[0]);
      if (ahead < 4 || ahead + 4 * aside >= least) continue;
      [best, least] = [other, ahead + 4 * aside];
    }
    if (!best) return;
    best.focus({ preventScroll: true });
    best.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}
