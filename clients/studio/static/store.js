// What the page remembers: chosen images in order, and every image that one of them stems from.

const listeners = new Set();
const KEY = "ganvas-studio";

export const state = {
  models: [],
  model: null, // the one of the walls
  label: null, // of new images; null: seed modulo number of labels
  truncation: 1,
  first: 0n, // seed of the wall
  size: 1,
  chosen: [], // addresses, in order
  marked: new Set(), // of the chosen: what an action of the tray takes
  parents: [], // of the next generation
  images: new Map(), // address to image: chosen ones, and their ancestors
};

export function changed(what) {
  if (what === "chosen") save();
  for (const listener of [...listeners]) listener(what);
}

export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const imageAt = (address) => state.images.get(address);
export const chosenImages = () => state.chosen.map(imageAt);
export const markedImages = () => (state.marked.size ? state.chosen.filter((address) => state.marked.has(address)) : state.chosen).map(imageAt);
export const isChosen = (image) => state.chosen.includes(image.address);

export function remember(image) {
  if (!state.images.has(image.address)) state.images.set(image.address, image);
  return state.images.get(image.address);
}

export function choose(image) {
  remember(image);
  if (isChosen(image)) return;
  state.chosen.push(image.address);
  changed("chosen");
}

export function drop(image) {
  state.chosen = state.chosen.filter((address) => address !== image.address);
  state.marked.delete(image.address);
  changed("chosen");
}

export const toggle = (image) => (isChosen(image) ? drop(image) : choose(image));

export function clearChosen() {
  state.chosen = [];
  state.marked.clear();
  changed("chosen");
}

export function lineage(images) {
  // The images and all that they stem from, parents first.
  const found = new Map();
  const visit = (image) => {
    if (!image || found.has(image.address)) return;
    image.parents.forEach((address) => visit(imageAt(address)));
    found.set(image.address, image);
  };
  images.forEach(visit);
  return [...found.values()];
}

function save() {
  try {
    // What was uploaded stays in memory only.
    const images = lineage([...chosenImages(), ...state.parents]).map((image) => ({ ...image, uploaded: undefined }));
    localStorage.setItem(KEY, JSON.stringify({ chosen: state.chosen, images }));
  } catch {
    // Full, or not allowed: the recipe file still works.
  }
}

export function restore(check) {
  try {
    const saved = JSON.parse(localStorage.getItem(KEY) ?? "null");
    if (!saved) return;
    for (const image of saved.images.map(check)) state.images.set(image.address, image);
    state.chosen = saved.chosen.filter((address) => state.images.has(address));
  } catch {
    localStorage.removeItem(KEY);
  }
}
