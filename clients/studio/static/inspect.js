// One image from near: its address, what makes it, and the proof that it comes out the same again.

import { ask, modelPath, sha256 } from "./api.js";
import { at, download, h, icon, say } from "./dom.js";
import { ofSeed, title } from "./images.js";
import { isChosen, remember, state, toggle } from "./store.js";
import { describe, labelOf, modelOf, still } from "./tile.js";

const LAST = 2n ** 64n - 1n;
let opened = 0;

// along: the arrow keys go from seed to seed.
export function inspect(image, { along = false } = {}) {
  remember(image);
  const dialog = at("inspector");
  const number = ++opened;
  const served = modelOf(image);
  const proof = h("p", { class: "proof", role: "status" });
  const field = h("input", { type: "text", readOnly: true, value: new URL(image.address, location.href).href, "aria-label": "Address of this image", onfocus: () => field.select() });
  const heart = h("button", { class: "primary", onclick: () => { toggle(image); drawHeart(); } });
  const drawHeart = () => {
    heart.setAttribute("aria-pressed", String(isChosen(image)));
    heart.replaceChildren(icon("heart"), isChosen(image) ? "Chosen" : "Choose");
  };
  drawHeart();
  const go = (room, prepare = () => {}) => () => {
    state.parents = [image];
    prepare();
    dialog.close();
    if (location.hash === `#${room}`) dispatchEvent(new HashChangeEvent("hashchange"));
    else location.hash = room;
  };
  const step = (by) => {
    const next = BigInt(image.seed) + by;
    if (next >= 0n && next <= LAST) inspect(ofSeed(served, next, state.label, image.truncation), { along });
  };
  const fact = (name, ...value) => [h("dt", {}, name), h("dd", {}, ...value)];
  dialog.replaceChildren(
    h("div", { class: "inspect" },
      h("div", { class: "view" }, still(image)),
      h("div", { class: "facts" },
        h("div", { class: "heading" },
          h("h2", { id: "inspector-title" }, title(image)),
          along && served && h("button", { class: "round", "aria-label": "Seed before", onclick: () => step(-1n) }, icon("left")),
          along && served && h("button", { class: "round", "aria-label": "Seed after", onclick: () => step(1n) }, icon("right")),
          h("button", { class: "round", "aria-label": "Close", onclick: () => dialog.close() }, icon("close")),
        ),
        !served && h("p", { class: "proof differs" }, `${image.model.name} of this digest is not served now, so it cannot be made again or varied here.`),
        h("div", { class: "actions" },
          heart,
          h("button", { onclick: go("vary"), disabled: !served }, "Vary"),
          h("button", { onclick: go("sliders"), disabled: !served }, "Sliders"),
          h("button", { onclick: save }, "Download"),
        ),
        h("dl", {},
          image.seed !== null && fact("Seed", h("span", { class: "mono" }, image.seed)),
          image.label !== null && fact("Label", labelOf(image)),
          image.truncation !== null && fact("Truncation", String(image.truncation)),
          image.seed === null && fact("Made of", `a latent of ${Math.round((image.latent.length * 3) / 16)} numbers, which stands in its address`),
          fact("Model", `${image.model.name}${served ? `, version ${served.version}` : ""}`),
          fact("Digest", h("span", { class: "mono" }, image.model.digest)),
          fact("Certificate", h("a", { href: `${modelPath(image.model)}/certificate`, target: "_blank", rel: "noopener" }, "proof of the export")),
        ),
        h("div", { class: "address" }, field, h("button", { onclick: copy }, "Copy")),
        h("div", { class: "actions" }, h("button", { onclick: prove, disabled: !served }, icon("check"), "Make it again and compare")),
        proof,
      ),
    ),
  );
  dialog.onkeydown = (event) => {
    if (event.target.closest("input") || !along || !served) return;
    if (event.key === "ArrowRight") step(1n);
    if (event.key === "ArrowLeft") step(-1n);
    if (event.key === "f") heart.click();
  };
  if (!dialog.open) dialog.showModal();

  async function copy() {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      document.execCommand("copy"); // plain HTTP beyond localhost
    }
    say("The address is copied.");
  }

  async function save() {
    const blob = await (await ask(image.address)).blob();
    download(blob, image.seed === null ? `${image.model.name}-${title(image)}.png` : `${image.model.name}-${image.seed}.png`);
  }

  async function prove() {
    proof.className = "proof";
    proof.textContent = "Making it again …";
    try {
      const first = await (await ask(image.address)).arrayBuffer();
      const again = await (await ask(image.address, { cache: "no-store", headers: { "Cache-Control": "no-cache" } })).arrayBuffer();
      if (number !== opened) return;
      const [a, b] = [new Uint8Array(first), new Uint8Array(again)];
      const same = a.length === b.length && a.every((byte, i) => byte === b[i]);
      const hash = await sha256(again);
      proof.className = `proof ${same ? "same" : "differs"}`;
      proof.replaceChildren(
        icon(same ? "check" : "close"),
        same ? `All ${b.length.toLocaleString("en")} bytes are the same.` : `The bytes differ: ${a.length} before, ${b.length} now.`,
        hash ? h("span", { class: "mono" }, ` SHA-256 ${hash.slice(0, 16)}…`) : "",
      );
    } catch (problem) {
      proof.className = "proof differs";
      proof.textContent = problem.message;
    }
  }
}
