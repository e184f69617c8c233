// The studio's HTTP interface: addresses, and what they answer.

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

let key = sessionStorage.getItem("key");

export function setKey(value) {
  key = value || null;
  if (key) sessionStorage.setItem("key", key);
  else sessionStorage.removeItem("key");
}

export async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The studio does not answer. Start it again: ./ganvas studio. This page goes on by itself.");
  }
  if (response.ok) return response;
  let detail = `The studio answered ${response.status}.`;
  try {
    detail = (await response.json()).detail ?? detail;
  } catch {
    // Not from the studio: a proxy, perhaps.
  }
  throw new Problem(response.status, detail);
}

export const json = async (path, options) => (await ask(path, options)).json();

export const post = (path, body, options = {}) =>
  ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...options.headers },
    body: JSON.stringify(body),
    ...options,
  });

function query(fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? `?${given.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&")}` : "";
}

export const modelPath = (model) => `/v1/models/${model.name}@${model.digest}`;

export const seedAddress = (model, seed, label, truncation) =>
  `${modelPath(model)}/images/${seed}.png${query({ label, truncation: truncation === 1 ? null : truncation })}`;

export const latentAddress = (model, latent, label) =>
  `${modelPath(model)}/decode/${latent.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}.png${query({ label })}`;

// Images of a service with keys cannot be shown by their address alone: it would be asked for without the key.
export async function show(img, address) {
  img.dataset.address = address;
  img.classList.remove("failed");
  if (!key) {
    img.src = address;
    return;
  }
  try {
    const blob = await (await ask(address)).blob();
    if (img.dataset.address !== address) return;
    const url = URL.createObjectURL(blob);
    img.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
    img.src = url;
  } catch {
    img.dispatchEvent(new Event("error"));
  }
}

export async function sha256(buffer) {
  if (!globalThis.crypto?.subtle) return null; // plain HTTP beyond localhost
  const hash = await crypto.subtle.digest("SHA-256", buffer);
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
