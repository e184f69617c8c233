// The tray: what was chosen, in order. A click marks images for what comes next; no mark means all of them.

import { at, h, icon, say } from "./dom.js";
import { inspect } from "./inspect.js";
import { saveRecipe } from "./recipe.js";
import { chosenImages, clearChosen, listen, markedImages, state } from "./store.js";
import { arrows, describe, still, tile } from "./tile.js";

let last = [];

export function drawTray() {
  const tray = at("tray");
  const images = chosenImages();
  const focused = document.activeElement?.closest?.("#tray .tile")?.image?.address;
  for (const element of last) element.leave();
  if (!images.length) {
    tray.replaceChildren(h("p", { class: "hint" }, icon("heart"), " Choose images with the heart, or with the key F. They stay here."), openButton());
    last = [];
    return;
  }
  const list = h("ol", { "aria-label": "Chosen images" }, images.map((image) => tile(image, { open: mark, pressed: state.marked.has(image.address) })));
  arrows(list);
  last = [...list.children];
  const enough = (least) => ({ disabled: markedImages().length < least });
  const parents = () => (state.parents = markedImages());
  tray.replaceChildren(
    list,
    h("div", { class: "actions" },
      h("button", { ...enough(1), onclick: () => inspect(markedImages()[0]) }, "Open"),
      h("button", { ...enough(2), onclick: compare }, "Compare"),
      h("button", { ...enough(1), onclick: () => { parents(); location.hash = "vary"; if (location.hash === "#vary") dispatchEvent(new HashChangeEvent("hashchange")); } }, images.length && markedImages().length > 1 ? "Breed" : "Vary"),
      h("button", { onclick: () => saveRecipe(chosenImages()) }, "Save recipe"),
      openButton(),
      h("button", { class: "plain", onclick: () => { clearChosen(); say("The tray is empty."); } }, "Clear"),
    ),
  );
  if (focused) [...list.children].find((element) => element.image.address === focused)?.querySelector(".open").focus();
}

function openButton() {
  const file = h("input", { type: "file", hidden: true, accept: "image/*,.json", multiple: true, "aria-label": "Open files", onchange: () => document.dispatchEvent(new CustomEvent("take", { detail: [...file.files] })) });
  return h("span", {}, h("button", { onclick: () => file.click() }, "Open file"), file);
}

function mark(image) {
  if (state.marked.has(image.address)) state.marked.delete(image.address);
  else state.marked.add(image.address);
  drawTray();
}

function compare() {
  const [a, b] = markedImages();
  const dialog = at("compare");
  const difference = h("p", { class: "quiet", role: "status" }, "Comparing …");
  const figure = (image) => h("figure", {}, still(image), h("figcaption", {}, describe(image), h("br"), h("span", { class: "quiet mono" }, `${image.model.name}@${image.model.digest.slice(0, 12)}…`)));
  dialog.replaceChildren(
    h("div", { class: "padded" },
      h("div", { class: "heading" }, h("h2", { id: "compare-title" }, "Side by side"), h("button", { class: "round", "aria-label": "Close", onclick: () => dialog.close() }, icon("close"))),
      h("div", { class: "pair" }, figure(a), figure(b)),
      difference,
    ),
  );
  dialog.showModal();
  const [first, second] = dialog.querySelectorAll("img");
  Promise.all([first, second].map((img) => img.decode())).then(
    () => (difference.textContent = differ(first, second)),
    () => (difference.textContent = "One of them could not be loaded."),
  );
}

function differ(first, second) {
  const pixels = [first, second].map((img) => {
    const canvas = h("canvas", { width: img.naturalWidth, height: img.naturalHeight });
    const context = canvas.getContext("2d");
    context.drawImage(img, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  });
  if (pixels[0].width !== pixels[1].width || pixels[0].height !== pixels[1].height) return "They are of different sizes.";
  let changed = 0;
  let sum = 0;
  const [x, y] = pixels.map((data) => data.data);
  for (let i = 0; i < x.length; i += 4) {
    const distance = Math.abs(x[i] - y[i]) + Math.abs(x[i + 1] - y[i + 1]) + Math.abs(x[i + 2] - y[i + 2]);
    if (distance) changed += 1;
    sum += distance / 3;
  }
  const count = x.length / 4;
  return changed ? `${Math.round((100 * changed) / count)} % of the pixels differ, on average by ${(sum / count).toFixed(1)} of 255 levels.` : "Every pixel is the same.";
}

listen((what) => (what === "chosen" || what === "models") && drawTray());
