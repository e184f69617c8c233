// The latent of a seed, bit for bit as the server makes it: docs/rng.md. No package needed.
//
//     node latents.mjs SEED COUNT          prints COUNT numbers as hexadecimal bit patterns of float32

import { createHash } from "node:crypto";
import { pathToFileURL } from "node:url";

const KEY = 0x93d7a65cb8e4f163n;
const SQRT2 = Math.fround(1.4142135);
const QUANTILES_SHA256 = "1cfbba1e07e34386a57626f82aeb43e6ed54ba70a3ea6b7d964dc66a841074a8";

// Wichura's AS241, as Python's statistics.NormalDist.inv_cdf has it: coefficients from the highest power down.
const CENTRE = [
  [2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457, 13731.693765509461125,
    1971.5909503065514427, 133.14166789178437745, 3.387132872796366608],
  [5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867, 5394.1960214247511077,
    687.1870074920579083, 42.313330701600911252, 1.0],
];
const TAIL = [
  [7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
    3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734],
  [1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
    0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0],
];

const horner = (coefficients, x) => coefficients.reduce((sum, coefficient) => sum * x + coefficient);

// The standard normal quantile at p, for p within 2^-17 of 0 and 1 at the nearest.
function quantile(p) {
  const q = p - 0.5;
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q;
    return (horner(CENTRE[0], r) * q) / horner(CENTRE[1], r);
  }
  const r = Math.sqrt(-Math.log(q <= 0 ? p : 1 - p)) - 1.6;
  const x = horner(TAIL[0], r) / horner(TAIL[1], r);
  return q < 0 ? -x : x;
}

function quantiles() {
  const table = Float32Array.from({ length: 65536 }, (_, i) => quantile((i + 0.5) / 65536));
  const digest = createHash("sha256").update(new Uint8Array(table.buffer)).digest("hex");
  if (digest !== QUANTILES_SHA256) throw new Error(`the table has SHA-256 ${digest}: this machine's arithmetic differs.`);
  return table;
}

const wrap = (x) => BigInt.asUintN(64, x);
const swap = (x) => (x >> 32n) | wrap(x << 32n);

function rounds(counter, key) {
  const y = wrap(counter * key);
  const z = wrap(y + key);
  let x = y;
  for (const add of [y, z, y]) x = swap(wrap(x * x + add));
  return { x, y, z };
}

function squares32(counter, key) {
  const { x, z } = rounds(counter, key);
  return Number(wrap(x * x + z) >> 32n);
}

function squares64(counter, key) {
  const { x, y, z } = rounds(counter, key);
  const t = wrap(x * x + z);
  const last = swap(t);
  return t ^ (wrap(last * last + y) >> 32n);
}

let table;

// Float32Array of `count` numbers; seed: a BigInt within [0, 2^64), since a Number holds 53 bits.
export function latent(seed, count) {
  table ??= quantiles();
  return Float32Array.from({ length: count }, (_, dimension) => {
    const bits = squares32(seed, squares64(BigInt(dimension), KEY) | 1n);
    return Math.fround(table[bits >>> 16] + table[bits & 0xffff]) / SQRT2;
  });
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const words = new Uint32Array(latent(BigInt(process.argv[2]), Number(process.argv[3])).buffer);
  for (const word of words) console.log(`0x${word.toString(16).padStart(8, "0")}`);
}
