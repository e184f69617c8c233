// Images of one's own: what a VAE's encoder makes of them, and which of them are from here. Nothing is kept.

import { ask, modelPath } from "./api.js";
import { h, say } from "./dom.js";
import { ofLatent } from "./images.js";
import { fromBase64 } from "./latents.js";
import { checkImage } from "./recipe.js";
import { remember, state } from "./store.js";

const MOST_BYTES = 16 * 2 ** 20;
const TEXT = "ganvas:";

export function uploads() {
  const file = h("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "Image to upload", onchange: () => document.dispatchEvent(new CustomEvent("take", { detail: [...file.files] })) });
  return h("div", { class: "drop-zone" },
    h("h2", {}, "Your own image"),
    h("p", { class: "quiet" }, "Drop one anywhere on this page: the model shows what it makes of it, and the sliders change it. It stays in memory only."),
    h("button", { onclick: () => file.click() }, "Choose a file"), file);
}

export async function uploadTo(file) {
  const encoders = state.models.filter((model) => model.can_encode);
  const model = state.model?.can_encode ? state.model : encoders[0];
  if (!model) throw new Error("no model here takes images: a VAE does. Train one: ./ganvas train digits-vae.");
  if (file.size > MOST_BYTES) throw new Error(`it has ${(file.size / 2 ** 20).toFixed(0)} MiB; at most 16.`);
  const found = await (await ask(`${modelPath(model)}/encode`, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file })).json();
  state.model = model;
  document.getElementById("model").value = model.name;
  const image = remember(ofLatent(model, fromBase64(found.mean), state.label ?? 0, "upload"));
  image.uploaded = `data:image/png;base64,${found.fitted}`;
  state.parents = [image];
  say("Encoded. Choose it to blend it with others.");
  if (location.hash === "#sliders") dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = "sliders";
}

// The recipe in the text of a PNG that the service made; null for any other file.
export async function ownImage(file) {
  const bytes = new Uint8Array(await file.slice(0, 2 ** 20).arrayBuffer());
  const view = new DataView(bytes.buffer);
  if (bytes.length < 57 || view.getUint32(0) !== 0x89504e47) return null;
  const fields = {};
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === "tEXt" && at + 8 + length <= bytes.length) {
      const [name, ...rest] = new TextDecoder("latin1").decode(bytes.subarray(at + 8, at + 8 + length)).split("\0");
      if (name.startsWith(TEXT)) fields[name.slice(TEXT.length)] = rest.join("\0");
    }
    at += 12 + length;
  }
  if (fields.seed === undefined || fields.model === undefined) return null;
  const label = fields.label === undefined ? null : Number(fields.label);
  return checkImage({ model: fields.model, digest: fields.digest, seed: fields.seed, truncation: Number(fields.truncation ?? 1), label, how: "seed" });
}
