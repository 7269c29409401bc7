// Runs model.onnx in the browser on the inputs in samples.json, and compares its answers with those
// that onnxruntime gave where the file was made.
import * as ort from "./ort.wasm.min.mjs";

const TIMED_RUNS = 20;

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, bool: Uint8Array,
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
  int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
};

function tensor({ dtype, shape, data }) {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  return new ort.Tensor(dtype, new ARRAYS[dtype](bytes.buffer), shape);
}

function tensors(values) {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, tensor(value)]));
}

function difference(given, expected) {
  if (given.dims.join() !== expected.dims.join()) return Infinity;
  let largest = 0;
  for (let index = 0; index < expected.data.length; index += 1) {
    const [left, right] = [Number(given.data[index]), Number(expected.data[index])];
    if (left === right || (Number.isNaN(left) && Number.isNaN(right))) continue;
    const apart = Math.abs(left - right);
    largest = Math.max(largest, Number.isNaN(apart) ? Infinity : apart);
  }
  return largest;
}

function median(numbers) {
  return numbers.toSorted((left, right) => left - right)[Math.floor(numbers.length / 2)];
}

function show(id, text) {
  document.getElementById(id).textContent = text;
}

async function main() {
  const samples = await (await fetch("samples.json")).json();
  ort.env.wasm.wasmPaths = new URL(".", import.meta.url).href;
  if (!crossOriginIsolated) ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });

  let error = 0;
  for (const { inputs, outputs } of samples.runs) {
    const answers = await session.run(tensors(inputs));
    for (const [name, expected] of Object.entries(tensors(outputs))) {
      error = Math.max(error, difference(answers[name], expected));
    }
  }
  const feeds = tensors(samples.runs[0].inputs);
  const times = [];
  for (let run = 0; run < TIMED_RUNS; run += 1) {
    const start = performance.now();
    await session.run(feeds);
    times.push(performance.now() - start);
  }
  show("runtime", `onnxruntime-web ${ort.env.versions.web}, WebAssembly, ${ort.env.wasm.numThreads ?? 1} thread(s)`);
  show("inputs", Object.entries(feeds).map(([name, value]) => `${name} ${value.type} [${value.dims}]`).join(", "));
  show("runs", String(samples.runs.length));
  show("error", error.toExponential(2));
  show("time", `${median(times).toFixed(3)} ms`);
  document.querySelector("table").hidden = false;
  show("state", "The model runs.");
  document.documentElement.dataset.maxError = String(error);
}

main().catch((problem) => {
  const hint = location.protocol === "file:" ? " Serve this directory: python3 -m http.server." : "";
  show("state", `The model does not run here: ${problem.message}${hint}`);
  document.documentElement.dataset.problem = problem.message;
});
