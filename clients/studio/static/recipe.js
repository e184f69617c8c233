// recipe.json: everything needed to make the chosen images again, anywhere the same models are served.

import { ask, latentAddress, seedAddress, sha256 } from "./api.js";
import { download, say } from "./dom.js";
import { changed, choose, lineage, remember } from "./store.js";

const FORMAT = "ganvas-recipe-1";
const MOST_IMAGES = 10_000;
const HOW = ["seed", "vary", "breed", "blend", "sliders", "upload", "walk", "latent"];

export async function saveRecipe(images) {
  const all = lineage(images);
  const chosen = new Set(images.map((image) => image.address));
  const entries = [];
  for (const image of all) {
    const { address, model, seed, truncation, label, latent, how, parents } = image;
    const entry = { chosen: chosen.has(address), address, model: model.name, digest: model.digest, seed, truncation, label, latent, how, parents };
    if (entry.chosen) {
      try {
        entry.sha256 = await sha256(await (await ask(address)).arrayBuffer());
      } catch {
        entry.sha256 = null; // its model is away: the recipe is as good, but cannot say what came out
      }
    }
    entries.push(entry);
  }
  const text = `${JSON.stringify({ format: FORMAT, images: entries }, null, 1)}\n`;
  download(new Blob([text], { type: "application/json" }), "recipe.json");
  say(`recipe.json holds ${images.length === 1 ? "1 image" : `${images.length} images`}.`);
}

// Back from a file or from the browser's memory. Addresses are built from the parts, and never taken as they stand.
export function checkImage(entry) {
  const wrong = (what, value) => new Error(`${what} in the recipe is wrong: ${String(value).slice(0, 60)}`);
  const model = typeof entry?.model === "string" ? { name: entry.model, digest: entry.digest } : { name: entry?.model?.name, digest: entry?.model?.digest };
  if (!/^[a-z0-9][a-z0-9_.-]{0,62}$/.test(model.name)) throw wrong("a model", model.name);
  if (!/^[0-9a-f]{64}$/.test(model.digest)) throw wrong("a digest", model.digest);
  const label = entry.label ?? null;
  if (label !== null && !(Number.isInteger(label) && label >= 0)) throw wrong("a label", label);
  const how = HOW.includes(entry.how) ? entry.how : "latent";
  const parents = Array.isArray(entry.parents) ? entry.parents.filter((parent) => typeof parent === "string") : [];
  if (entry.latent !== null && entry.latent !== undefined) {
    if (typeof entry.latent !== "string" || !/^[A-Za-z0-9+/]{4,40000}={0,2}$/.test(entry.latent)) throw wrong("a latent", entry.latent);
    return { address: latentAddress(model, entry.latent, label), model, seed: null, truncation: null, label, latent: entry.latent, how: how === "seed" ? "latent" : how, parents };
  }
  if (typeof entry.seed !== "string" || !/^[0-9]{1,20}$/.test(entry.seed) || BigInt(entry.seed) >= 2n ** 64n) throw wrong("a seed", entry.seed);
  if (typeof entry.truncation !== "number" || !Number.isFinite(entry.truncation)) throw wrong("a truncation", entry.truncation);
  return { address: seedAddress(model, BigInt(entry.seed), label, entry.truncation), model, seed: String(BigInt(entry.seed)), truncation: entry.truncation, label, latent: null, how: "seed", parents: [] };
}

export async function openRecipe(text) {
  let recipe;
  try {
    recipe = JSON.parse(text);
  } catch {
    throw new Error("it is not JSON. A recipe is the file that Save recipe writes.");
  }
  if (recipe?.format !== FORMAT || !Array.isArray(recipe.images)) throw new Error(`it is no recipe of the format ${FORMAT}.`);
  if (recipe.images.length > MOST_IMAGES) throw new Error(`it holds ${recipe.images.length} images; at most ${MOST_IMAGES}.`);
  const images = recipe.images.map((entry) => [checkImage(entry), entry]);
  for (const [image] of images) remember(image);
  let same = 0;
  const problems = [];
  for (const [image, entry] of images) {
    if (!entry.chosen) continue;
    choose(image);
    try {
      const hash = await sha256(await (await ask(image.address)).arrayBuffer());
      if (!hash || !entry.sha256) continue;
      if (hash === entry.sha256) same += 1;
      else problems.push("an image came out with other bytes than in the recipe");
    } catch (problem) {
      problems.push(problem.message);
    }
  }
  changed("chosen");
  if (problems.length) throw new Error(`${problems.length} of its images could not be made again: ${problems[0]}`);
  say(`The recipe's images are in the tray; ${same} of them came out with the very same bytes.`);
}
