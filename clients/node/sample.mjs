// Images of seeds, as PNG files, and the same image by its own latent.
//
//     npm install                                            once
//     node sample.mjs 127.0.0.1:50051 digits-gan 3 14 159    writes 3.png, 14.png, 159.png
//
// With TLS and a key: GANVAS_TLS_CA=ca.pem GANVAS_API_KEY=… node sample.mjs …

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import { latent } from "./latents.mjs";

const PROTO = fileURLToPath(new URL("../../proto/ganvas/v1/sampler.proto", import.meta.url));
const MAX_MESSAGE_BYTES = 64 * 2 ** 20;

// Numbers of 64 bits as text: a JavaScript number holds 53.
const definition = loader.loadSync(PROTO, { keepCase: true, longs: String, enums: String, defaults: true });
const { Sampler } = grpc.loadPackageDefinition(definition).ganvas.v1;

function connect(address) {
  const { GANVAS_TLS_CA: ca, GANVAS_API_KEY: key } = process.env;
  const client = new Sampler(address, ca ? grpc.credentials.createSsl(readFileSync(ca)) : grpc.credentials.createInsecure(), {
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  });
  const call = (method, request, timeoutS = 60) =>
    new Promise((resolve, reject) => {
      const metadata = new grpc.Metadata();
      if (key) metadata.set("authorization", `Bearer ${key}`);
      const deadline = Date.now() + timeoutS * 1000;
      client[method](request, metadata, { deadline }, (error, reply) => (error ? reject(error) : resolve(reply)));
    });
  return { call, close: () => client.close() };
}

const [address, model, ...seeds] = process.argv.slice(2);
const { call, close } = connect(address);
try {
  const pngs = await call("Sample", { model, seeds, format: "FORMAT_PNG" });
  for (const image of pngs.images) writeFileSync(`${image.seed}.png`, image.data);

  const { images } = await call("Sample", { model, seeds });
  for (const image of images) console.log(image.seed, createHash("sha256").update(image.data).digest("hex"));

  // A model without a prior of its own: the image of a latent is that of its seed.
  const about = await call("GetModel", { model });
  if (!JSON.parse(about.certificate_json).prior) {
    const size = about.model.latent_shape.reduce((a, b) => a * b);
    const decoded = await call("Decode", {
      model,
      latents: images.flatMap((image) => [...latent(BigInt(image.seed), size)]),
      labels: images.filter((image) => image.label !== undefined).map((image) => image.label),
    });
    const same = decoded.images.every((image, index) => image.data.equals(images[index].data));
    console.log(same ? "decoding their latents gives the same bytes" : "decoding their latents gives OTHER bytes");
    if (!same) process.exitCode = 1;
  }
} catch (error) {
  console.error(`${grpc.status[error.code] ?? "error"}: ${error.details ?? error.message}`);
  process.exitCode = 1;
} finally {
  close();
}
