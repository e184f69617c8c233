// The family of an image: who it stems from, generation over generation. A click goes back to one.

import { h } from "./dom.js";
import { imageAt } from "./store.js";
import { arrows, tile } from "./tile.js";

// current: who the next generation is of.
export function familyTree(images, current, open) {
  // The generation of an image is the longest way from it back to one without parents.
  const generation = new Map();
  const depth = (image) => {
    if (!generation.has(image.address)) {
      generation.set(image.address, 0);
      const parents = image.parents.map(imageAt).filter(Boolean);
      generation.set(image.address, parents.length ? 1 + Math.max(...parents.map(depth)) : 0);
    }
    return generation.get(image.address);
  };
  images.forEach(depth);
  const rows = [];
  for (const [address, number] of generation) (rows[number] ??= []).push(imageAt(address));
  if (rows.length < 2) return null;
  const here = new Set(current.map((image) => image.address));
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  const tree = h("div", { class: "tree", role: "group", "aria-label": "Family tree" },
    rows.map((row, i) => h("ul", { "aria-label": `Generation ${i}` }, row.map((image) => tile(image, { open, heart: false, current: here.has(image.address) })))));
  tree.prepend(svg);
  arrows(tree);
  requestAnimationFrame(() => lines(tree, svg));
  return tree;
}

function lines(tree, svg) {
  const box = tree.getBoundingClientRect();
  svg.setAttribute("width", tree.scrollWidth);
  svg.setAttribute("height", tree.scrollHeight);
  const places = new Map([...tree.querySelectorAll(".tile")].map((element) => [element.image.address, element.getBoundingClientRect()]));
  for (const element of tree.querySelectorAll(".tile")) {
    const to = places.get(element.image.address);
    for (const parent of element.image.parents) {
      const from = places.get(parent);
      if (!from) continue;
      const [x1, y1] = [from.left + from.width / 2 - box.left + tree.scrollLeft, from.bottom - box.top];
      const [x2, y2] = [to.left + to.width / 2 - box.left + tree.scrollLeft, to.top - box.top];
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", `M${x1} ${y1} C${x1} ${(y1 + y2) / 2} ${x2} ${(y1 + y2) / 2} ${x2} ${y2}`);
      svg.append(path);
    }
  }
}
