// Neighbours of one image, or children of several: a wall from near to far. A click makes the next generation.

import { json, modelPath } from "./api.js";
import { debounced, h, icon, say } from "./dom.js";
import { latentOf, latentsOf, ofLatent, randomSeed } from "./images.js";
import { inspect } from "./inspect.js";
import { blend, meanOf, vary } from "./latents.js";
import { changed, chosenImages, listen, lineage, remember, state } from "./store.js";
import { arrows, describe, modelOf, tile } from "./tile.js";
import { familyTree } from "./tree.js";

const CHILDREN = 24;
const MEAN_SEEDS = 64;
let amount = 0.5;
let draw = randomSeed(); // which neighbours: other numbers, other ones

export function usable(images) {
  return images.filter((image) => image.model.digest === state.model.digest && image.model.name === state.model.name);
}

export function nothingChosen(main, what) {
  main.append(h("div", { class: "empty" }, h("h2", {}, what), h("p", {}, `Choose images of ${state.model.name} with the heart on the wall first; then they are here.`), h("a", { href: "#look" }, "To the wall")));
}

export function varyRoom(main) {
  state.parents = usable(state.parents);
  if (!state.parents.length) state.parents = usable(chosenImages()).slice(-1);
  if (!state.parents.length) return nothingChosen(main, "Vary and breed");

  const wall = h("ul", { class: "grid", "aria-label": "Next generation" });
  const parents = h("div", { class: "parents" });
  const tree = h("div");
  const shown = h("output", { for: "amount" });
  const far = h("input", { type: "range", id: "amount", min: "0.05", max: "1", step: "0.05", value: String(amount), oninput: () => { amount = Number(far.value); shown.value = far.value; later(); } });
  shown.value = String(amount);
  const heading = h("h2");
  const help = h("p", { class: "quiet" });
  main.append(
    h("div", { class: "controls" },
      h("div", { class: "range" }, h("label", { for: "amount", class: "quiet" }, "How far"), shown, far),
      h("button", { onclick: () => { draw = randomSeed(); fill(); } }, icon("dice"), "Others"),
      h("span", { class: "grow" }),
    ),
    h("div", { class: "stage" },
      h("div", {}, wall),
      h("aside", { class: "side" }, h("section", { class: "panel", "aria-label": "Parents" }, heading, help, parents), h("section", { class: "panel", "aria-label": "Family" }, h("h3", {}, "Family tree"), tree)),
    ),
  );
  const { width, height } = state.model;
  const target = matchMedia("(width < 760px)").matches ? 104 : 128;
  const size = width < 128 ? Math.max(1, Math.round(target / width)) * width : target;
  wall.style.setProperty("--tile", `${size}px`);
  wall.style.setProperty("--tile-height", `${Math.round((size * height) / width)}px`);
  arrows(wall);
  let turn = 0;

  function pickFrom(image) {
    remember(image);
    state.parents = [image];
    draw = randomSeed();
    say(`${describe(image)} is the parent of the next generation.`);
    changed("parents");
    fill();
  }

  async function fill() {
    const number = ++turn;
    const several = state.parents.length > 1;
    heading.textContent = several ? "Breed" : "Vary";
    help.textContent = several
      ? `Children of ${state.parents.length} images: their latents blended in changing parts, then varied. Click one to go on with it; its heart keeps it.`
      : "Neighbours of this image, from near to far. Click one to go on with it; its heart keeps it. Mark two or more in the tray to breed them.";
    parents.replaceChildren(...state.parents.map((image) => tile(image, { open: inspect, tag: "div" })));
    const family = familyTree(lineage(state.parents), state.parents, (image) => { state.parents = [image]; fill(); });
    tree.replaceChildren(family ?? h("p", { class: "quiet" }, "It begins with the first child."));
    const children = await offspring(state.parents, amount, draw);
    if (number !== turn || !main.contains(wall)) return;
    for (const element of wall.children) element.leave();
    wall.replaceChildren(...children.map((image) => tile(image, { open: pickFrom })));
    wall.querySelectorAll(".heart").forEach((heart, i) => heart.addEventListener("click", () => remember(children[i]), { capture: true }));
  }

  const later = debounced(fill, 120);
  fill();
  const stop = listen((what) => what === "bred" && fill());
  return () => {
    turn += 1;
    stop();
    for (const element of wall.children) element.leave();
  };
}

async function offspring(parents, most, first) {
  const model = modelOf(parents[0]);
  const truncation = parents.find((image) => image.truncation !== null)?.truncation ?? state.truncation;
  // A network that truncates by itself has latents at truncation 1 alone.
  const usableTruncation = (await json(modelPath(model))).truncation === "network" ? 1 : truncation;
  const numbers = Array.from({ length: CHILDREN }, (_, i) => String(first + BigInt(i)));
  const [own, others, some] = await Promise.all([
    Promise.all(parents.map(latentOf)),
    latentsOf(model, numbers, usableTruncation, parents[0].label),
    latentsOf(model, [`0-${MEAN_SEEDS - 1}`], usableTruncation, parents[0].label),
  ]);
  const mean = meanOf(some);
  return others.map((other, i) => {
    const step = (most * (i + 1)) / CHILDREN;
    if (parents.length === 1) return ofLatent(model, vary(own[0], other, mean, step), parents[0].label, "vary", parents);
    // Changing parts: every parent leads in its turn.
    const weights = parents.map((_, p) => 0.25 + ((i * 7 + p * 13 + Number(first % 11n)) % 17) / 17 + (i % parents.length === p ? 0.6 : 0));
    const heaviest = weights.indexOf(Math.max(...weights));
    return ofLatent(model, vary(blend(own, weights), other, mean, step), parents[heaviest].label, "breed", parents);
  });
}

