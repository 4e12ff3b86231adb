// node in_node.mjs MODULE TASKS: each task's graph on the wasm back end of onnxruntime-web, on one thread.
// A task has the graph's path, inputs with name, type, dims and a file of raw values, and a folder for its outputs.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [module, tasks] = process.argv.slice(2);
const ort = await import(pathToFileURL(module).href);
ort.env.wasm.numThreads = 1;

async function raw(path) {
  const bytes = await readFile(path);
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}

const told = {};
for (const { graph, name, inputs, out } of JSON.parse(await readFile(tasks, "utf8"))) {
  const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  const feeds = {};
  for (const { name: port, type, dims, file } of inputs) {
    const values = await raw(file);
    feeds[port] = new ort.Tensor(type, type === "int32" ? new Int32Array(values) : new Float32Array(values), dims);
  }
  const made = await session.run(feeds);
  told[name] = {};
  for (const [port, tensor] of Object.entries(made)) {
    const data = tensor.data;
    await writeFile(join(out, `${port}.bin`), new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    told[name][port] = { type: tensor.type, dims: tensor.dims };
  }
  await session.release();
}
console.log(JSON.stringify(told));
