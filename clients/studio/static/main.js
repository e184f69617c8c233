// The frame of the page: models, rooms, the banner that says what is wrong, and what may be dropped on it.

import { json, Problem, setKey } from "./api.js";
import { blendRoom } from "./blend.js";
import { at, h, icon, say } from "./dom.js";
import { inspect } from "./inspect.js";
import { look } from "./look.js";
import { checkImage, openRecipe } from "./recipe.js";
import { sliders } from "./sliders.js";
import { changed, restore, state } from "./store.js";
import { drawTray } from "./tray.js";
import { ownImage, uploadTo } from "./upload.js";
import { varyRoom } from "./vary.js";
import { walkRoom } from "./walk.js";

const ROOMS = { look: ["Look", look], vary: ["Vary", varyRoom], blend: ["Blend", blendRoom], walk: ["Walk", walkRoom], sliders: ["Sliders", sliders] };
const EVERY_MS = 10_000;
const AGAIN_MS = 1500;

let leave = () => {};
let shown = "";

// Models

async function loadModels() {
  let models;
  try {
    ({ models } = await json("/v1/models"));
  } catch (problem) {
    tell(problem);
    if (!state.models.length) room();
    setTimeout(loadModels, AGAIN_MS);
    return;
  }
  const before = state.model;
  const same = JSON.stringify(models) === JSON.stringify(state.models);
  state.models = models;
  state.model = models.find((model) => model.name === (before?.name ?? wanted)) ?? models[0] ?? null;
  if (!models.length) tell(new Problem(0, "The service serves no model. Export one: ./ganvas export CHECKPOINT --name NAME; or make two: ./ganvas demo. This page goes on by itself."));
  else if (before && state.model.name !== before.name) tell(new Problem(0, `Model ${before.name} is no longer served; this is ${state.model.name}. What you chose stays in the tray.`));
  else if (before && state.model.digest !== before.digest) say(`${state.model.name} has a new version, ${state.model.version}.`);
  else hush();
  if (!same) {
    at("model").replaceChildren(...models.map((model) => h("option", { value: model.name, selected: model === state.model }, model.name)));
    at("model").disabled = !models.length;
    if (before?.name !== state.model?.name) state.label = null;
    changed("models");
    room();
  }
  setTimeout(loadModels, EVERY_MS);
}

const wanted = new URLSearchParams(location.search).get("model");

at("model").addEventListener("change", (event) => {
  state.model = state.models.find((model) => model.name === event.target.value);
  state.label = null;
  state.parents = [];
  changed("model");
  room();
});

// Rooms, by the part of the address after #

const named = () => (location.hash.slice(1) in ROOMS ? location.hash.slice(1) : "look");

function room() {
  leave();
  const name = named();
  at("rooms").replaceChildren(...Object.entries(ROOMS).map(([key, [text]]) => h("a", { href: `#${key}`, "aria-current": key === name ? "page" : undefined }, text)));
  const main = at("room");
  main.replaceChildren();
  document.title = `${ROOMS[name][0]} · Ganvas studio`;
  if (state.model) leave = ROOMS[name][1](main) ?? (() => {});
  else {
    leave = () => {};
    main.append(h("div", { class: "empty" }, h("h2", {}, shown ? "Nothing to look at yet" : "One moment"), h("p", {}, shown || "Asking which models there are …")));
  }
}

window.addEventListener("hashchange", () => {
  room();
  at("room").focus({ preventScroll: true });
});

// What is wrong

function tell(problem) {
  const banner = at("banner");
  if (shown === problem.message && !banner.hidden) return;
  shown = problem.message;
  banner.hidden = false;
  banner.replaceChildren(problem.message);
  if (problem.status === 401) {
    const field = h("input", { type: "password", "aria-label": "Key", autocomplete: "off" });
    banner.append(
      h("form", { onsubmit: (event) => { event.preventDefault(); setKey(field.value.trim()); loadModels(); } }, field, h("button", { type: "submit" }, "Use this key")),
    );
  }
  if (!state.model) room();
}

function hush() {
  shown = "";
  at("banner").hidden = true;
}

document.addEventListener("problem", (event) => tell(event.detail));
window.addEventListener("unhandledrejection", (event) => {
  if (event.reason?.name === "AbortError") event.preventDefault();
  if (event.reason instanceof Problem) {
    event.preventDefault();
    tell(event.reason);
  }
});
document.addEventListener("slow", (event) => {
  if (event.detail) tell(new Problem(0, `The model is slow, or busy: ${event.detail} images are on their way.`));
  else if (shown.startsWith("The model is slow")) hush();
});
let asking = false;
document.addEventListener("missing", async (event) => {
  // An image that did not come: ask why, once for all of a wall.
  if (asking) return;
  asking = true;
  try {
    const response = await fetch(event.detail.address, { cache: "no-store" });
    if (!response.ok) tell(new Problem(response.status, (await response.json()).detail));
  } catch {
    // The list of models is asked for again anyway.
  }
  setTimeout(() => (asking = false), 2000);
});

// Light and dark

function theme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("ganvas-theme", name);
}
const preferred = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
document.documentElement.dataset.theme = localStorage.getItem("ganvas-theme") ?? preferred;
at("theme").append(icon("sun"));
at("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "light" ? "dark" : "light"));

// Dropped files: our own images, recipes, and images to encode

async function take(file) {
  if (file.type === "application/json" || file.name.endsWith(".json")) return openRecipe(await file.text());
  const own = await ownImage(file);
  if (own) {
    say("This image is from here: its recipe is in the file.");
    return inspect(own);
  }
  return uploadTo(file);
}

async function takeAll(files) {
  for (const file of files) {
    try {
      await take(file);
    } catch (problem) {
      tell(problem instanceof Problem ? problem : new Problem(0, `${file.name} could not be read: ${problem.message}`));
    }
  }
}

document.addEventListener("take", (event) => takeAll(event.detail));
const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
window.addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  at("drop").hidden = false;
});
window.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) at("drop").hidden = true;
});
window.addEventListener("drop", (event) => {
  at("drop").hidden = true;
  if (!carriesFiles(event)) return;
  event.preventDefault();
  takeAll(event.dataTransfer.files);
});

// Keys that work everywhere

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  const image = event.target.closest(".tile")?.image;
  if (image && event.key === "f") event.target.closest(".tile").querySelector(".heart")?.click();
  else if (image && event.key === "v") {
    state.parents = [image];
    location.hash = "vary";
  } else if (event.key >= "1" && event.key <= "5") location.hash = Object.keys(ROOMS)[event.key - 1];
});

restore(checkImage);
drawTray();
room();
loadModels();
