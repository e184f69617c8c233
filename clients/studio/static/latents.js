// Latents as arrays of 32-bit floats, and ways between them.

export function fromBase64(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

export function toBase64(latent) {
  return btoa(String.fromCharCode(...new Uint8Array(Float32Array.from(latent).buffer)));
}

const length = (latent) => Math.hypot(...latent);

// The weighted mean, at the weighted mean of the lengths: as likely an image as its parents. A straight line between
// two latents would pass close to the origin, where a model has seen nothing.
export function blend(latents, weights) {
  const sum = weights.reduce((total, weight) => total + weight, 0);
  const only = weights.findIndex((weight) => weight === sum);
  if (only >= 0) return Float32Array.from(latents[only]);
  const mean = new Float64Array(latents[0].length);
  let wanted = 0;
  latents.forEach((latent, i) => {
    const weight = weights[i] / sum;
    if (weight === 0) return;
    wanted += weight * length(latent);
    for (let d = 0; d < mean.length; d++) mean[d] += weight * latent[d];
  });
  const scale = wanted / Math.max(length(mean), 1e-12);
  return Float32Array.from(mean, (value) => value * scale);
}

// A neighbour: the latent, and a part of another one that the model draws. 0 leaves it; 1 is the other.
export function vary(latent, other, mean, amount) {
  const keep = Math.sqrt(1 - amount * amount);
  return Float32Array.from(latent, (value, d) => mean[d] + keep * (value - mean[d]) + amount * (other[d] - mean[d]));
}

export function meanOf(latents) {
  return latents[0].map((_, d) => latents.reduce((sum, latent) => sum + latent[d], 0) / latents.length);
}

export function moved(latent, directions, steps) {
  return Float32Array.from(latent, (value, d) => directions.reduce((sum, direction, i) => sum + steps[i] * direction[d], value));
}
