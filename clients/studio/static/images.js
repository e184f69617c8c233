// An image of the page: what names it, what it was made from, and its latent.

import { json, latentAddress, modelPath, seedAddress } from "./api.js";
import { fromBase64, toBase64 } from "./latents.js";

const pin = (model) => ({ name: model.name, digest: model.digest });

export function ofSeed(model, seed, label, truncation) {
  seed = BigInt(seed);
  if (model.labels.length && label === null) label = Number(seed % BigInt(model.labels.length));
  if (!model.labels.length) label = null;
  return {
    address: seedAddress(model, seed, label, truncation),
    model: pin(model),
    seed: String(seed),
    truncation,
    label,
    latent: null,
    how: "seed",
    parents: [],
  };
}

export function ofLatent(model, latent, label, how, parents = []) {
  const text = toBase64(latent);
  if (!model.labels.length) label = null;
  return {
    address: latentAddress(model, text, label),
    model: pin(model),
    seed: null,
    truncation: null,
    label,
    latent: text,
    how,
    parents: parents.map((parent) => parent.address),
  };
}

export const title = (image) => (image.seed === null ? { vary: "neighbour", breed: "child", blend: "blend", sliders: "moved", upload: "upload", walk: "frame" }[image.how] ?? "latent" : `seed ${image.seed}`);

const known = new Map(); // address of the seed's latent to a promise of it

export async function latentOf(image) {
  if (image.latent !== null) return fromBase64(image.latent);
  const [latent] = await latentsOf(image.model, [image.seed], image.truncation, image.label);
  return latent;
}

// The label matters where a model's prior depends on it.
export async function latentsOf(model, seeds, truncation, label) {
  const query = new URLSearchParams();
  if (label !== null) query.set("label", label);
  if (truncation !== 1) query.set("truncation", truncation);
  const address = `${modelPath(model)}/latents/${seeds.join(",")}.json${query.size ? `?${query}` : ""}`;
  if (!known.has(address)) {
    if (known.size > 500) known.delete(known.keys().next().value);
    const asked = json(address).then((found) => found.latents.map(fromBase64));
    asked.catch(() => known.delete(address));
    known.set(address, asked);
  }
  return known.get(address);
}

export function randomSeed() {
  return crypto.getRandomValues(new BigUint64Array(1))[0] >> 32n; // short enough to say
}
