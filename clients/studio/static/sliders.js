// Move an image along directions of the latent space; and see what an encoder makes of an image of one's own.

import { json, modelPath } from "./api.js";
import { debounced, h, icon, say } from "./dom.js";
import { latentOf, ofLatent, ofSeed } from "./images.js";
import { fromBase64, moved } from "./latents.js";
import { choose, chosenImages, remember, state } from "./store.js";
import { describe, modelOf, still } from "./tile.js";
import { uploads } from "./upload.js";
import { usable } from "./vary.js";

const MOST = 3; // standard deviations

export function sliders(main) {
  const start = usable(state.parents)[0] ?? usable(chosenImages()).at(-1) ?? ofSeed(state.model, state.first, state.label, state.truncation);
  const model = modelOf(start);
  const list = h("div", { class: "side" });
  const view = h("div", { class: "pair" });
  const keep = h("button", { class: "primary", onclick: () => { remember(start); choose(current); say("The moved image is in the tray."); } }, icon("heart"), "Choose it");
  const back = h("button", { onclick: reset }, "Back to the start");
  main.append(
    h("div", { class: "controls" }, h("p", { class: "quiet" }, `Directions of ${model.name}: those along which its images vary most, and towards each label.`)),
    h("div", { class: "stage" },
      h("div", { class: "screen" }, view, h("div", { class: "actions" }, keep, back), model.can_encode && uploads()),
      h("aside", { class: "side" }, h("section", { class: "panel", "aria-label": "Directions" }, h("h2", {}, "Sliders"), list)),
    ),
  );
  let latent = null;
  let directions = [];
  let steps = [];
  let current = start;
  const preview = still(start);
  view.style.setProperty("--big", `${Math.max(1, Math.round(288 / model.width)) * model.width}px`);
  const original = start.uploaded ? h("figure", {}, h("img", { src: start.uploaded, alt: "Your image, fitted to the model", class: "sharp" }), h("figcaption", { class: "quiet" }, "Yours")) : h("figure", {}, still(start), h("figcaption", { class: "quiet" }, describe(start)));
  view.append(original, h("figure", {}, preview, h("figcaption", { class: "quiet" }, start.uploaded ? "What the model makes of it" : "Moved")));

  let busy = false;
  let again = false;
  async function apply() {
    if (busy || !latent) return (again = true);
    busy = true;
    do {
      again = false;
      const unmoved = steps.every((step) => step === 0);
      current = unmoved ? start : ofLatent(model, moved(latent, directions, steps), start.label, "sliders", [start]);
      const next = still(current);
      try {
        await next.decode();
        preview.src = next.src;
        preview.alt = describe(current);
      } catch {
        document.dispatchEvent(new CustomEvent("missing", { detail: current }));
      }
    } while (again);
    busy = false;
  }

  function reset() {
    steps = steps.map(() => 0);
    for (const input of list.querySelectorAll("input")) {
      input.value = "0";
      input.dispatchEvent(new Event("input"));
    }
  }

  const soon = debounced(apply, 20);
  function row(direction, i) {
    const value = h("output", { class: "mono" }, "0");
    const id = `direction-${i}`;
    const name = direction.kind === "label" ? `to ${direction.name}` : direction.name;
    const input = h("input", { type: "range", id, min: String(-MOST), max: String(MOST), step: "0.1", value: "0", oninput: () => { steps[i] = Number(input.value); value.value = input.value; soon(); } });
    return h("div", { class: "slider" }, h("label", { for: id }, h("span", { title: direction.explained ? `${(100 * direction.explained).toFixed(0)} % of the variance` : name }, name)), input, value);
  }

  (async () => {
    latent = await latentOf(start);
    try {
      const { directions: hash } = await json(modelPath(model));
      if (!hash) {
        list.append(h("p", { class: "quiet" }, `None were found for ${model.name} yet. Find them, in about a minute:`), h("p", {}, h("code", {}, `./ganvas directions ${model.name}`)));
        return;
      }
      const found = await json(`${modelPath(model)}/directions`);
      directions = found.directions.map((direction) => fromBase64(direction.vector));
      steps = directions.map(() => 0);
      const principal = found.directions.map((direction, i) => [direction, i]);
      const part = (kind, title) => {
        const some = principal.filter(([direction]) => direction.kind === kind);
        return some.length ? [h("h3", {}, title), ...some.map(([direction, i]) => row(direction, i))] : [];
      };
      list.append(...part("principal", "Most varied"), ...part("label", "Towards a label"), h("p", { class: "quiet mono" }, `SHA-256 ${found.sha256.slice(0, 16)}…`));
    } catch (problem) {
      list.append(h("p", { class: "quiet" }, problem.message));
    }
  })();
}
