// Runs a sampler, or the noise alone, in WebAssembly: node sample.mjs model.onnx TRUNCATION LABEL SEED…
// Prints the first output of each seed as JSON: {"dims": [...], "type": "uint8", "hex": "…"}.
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web/wasm";

const [path, truncation, label, ...seeds] = process.argv.slice(2);
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(readFileSync(path), { executionProviders: ["wasm"] });
for (const seed of seeds) {
  const all = {
    seed: new ort.Tensor("uint64", BigUint64Array.of(BigInt(seed)), [1, 1]),
    truncation: new ort.Tensor("float32", Float32Array.of(Number(truncation)), [1, 1]),
    label: new ort.Tensor("int64", BigInt64Array.of(BigInt(label)), [1, 1]),
  };
  const feeds = Object.fromEntries(session.inputNames.map((name) => [name, all[name]]));
  const output = (await session.run(feeds))[session.outputNames[0]];
  const bytes = Buffer.from(output.data.buffer, output.data.byteOffset, output.data.byteLength);
  console.log(JSON.stringify({ dims: output.dims, type: output.type, hex: bytes.toString("hex") }));
}
process.exit(0);
