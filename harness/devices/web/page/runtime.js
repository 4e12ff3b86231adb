// LiteRT.js behind the few words that a job needs: compile, write, run, read.

import * as litert from '@litertjs/core';

export class Refusal extends Error {}
export class DeviceLost extends Error {}

const TYPES = {float32: Float32Array, int32: Int32Array, uint8: Uint8Array};
const FEATURES = ['shader-f16', 'subgroups'];
const LIMITS = ['maxBufferSize', 'maxStorageBufferBindingSize', 'maxStorageBuffersPerShaderStage', 'maxTextureDimension2D'];
// What no one can ask for more of, for the reader of a log.
const TOLD = ['maxComputeWorkgroupsPerDimension', 'maxSampledTexturesPerShaderStage'];

let loaded = ''; // which build of the runtime
let gpu = null; // {device, lost: a promise that only ever fails}
let tellLoss = () => {};

// Has `told` called with a DeviceLost when the GPU is lost.
export function whenLost(told) {
  tellLoss = told;
}

// The release, as the package itself states it.
export const RELEASE = await fetch('../core/package.json').then((file) => file.json()).then(({version}) => version);
// Earlier ones pass over the option in silence.
const HAS_PRECISION = RELEASE.localeCompare('2.5.0', 'en', {numeric: true}) >= 0;
const HAS_JSPI = HAS_PRECISION;

// The GPU as LiteRT.js asks for it, a software one where there is no other.
async function openGpu() {
  if (gpu) return gpu;
  if (!navigator.gpu) throw new Refusal('this browser has no WebGPU');
  const wanted = {powerPreference: 'high-performance'};
  const adapter = await navigator.gpu.requestAdapter(wanted)
    ?? await navigator.gpu.requestAdapter({...wanted, forceFallbackAdapter: true});
  if (!adapter) throw new Refusal('this browser has no WebGPU adapter');
  const device = await adapter.requestDevice({
    requiredFeatures: FEATURES.filter((feature) => adapter.features.has(feature)),
    requiredLimits: Object.fromEntries(LIMITS.map((limit) => [limit, adapter.limits[limit]])),
  });
  device.addEventListener('uncapturederror', (event) => {
    const said = event.error.message.replaceAll('\n', ' ');
    console.error(`uncaptured GPU error: ${event.error.constructor.name}: ${said}`);
  });
  const lost = device.lost.then((info) => {
    throw new DeviceLost(`the browser lost its GPU (${info.reason}): ${info.message}`);
  });
  lost.catch(tellLoss);
  const {vendor, architecture, description} = adapter.info;
  const name = description || [vendor, architecture].filter(Boolean).join(' ') || 'unnamed adapter';
  const software = adapter.info.isFallbackAdapter || architecture === 'swiftshader';
  console.info(`Selected adapter: ${name}, arch=${architecture}, backend=WebGPU, adapterType=${software ? 'CPU' : 'GPU'}`);
  console.info(`Adapter limits: ${[...LIMITS, ...TOLD].map((limit) => `${limit} ${adapter.limits[limit]}`).join(', ')}`);
  gpu = {device, lost};
  return gpu;
}

// One of the runtime's builds: `threads` for the CPU, `jspi` where CPU and GPU share a model, `` for the GPU alone.
async function load(build) {
  if (loaded === build) return;
  if (loaded !== '') litert.unloadLiteRt();
  loaded = '';
  await litert.loadLiteRt(new URL('../core/wasm/', location.href).href, {[build]: true});
  if (gpu) litert.setWebGpuDevice(gpu.device);
  loaded = build;
}

// What comes first of `work` and the loss of the GPU.
function unlessLost(work) {
  return gpu ? Promise.race([work, gpu.lost]) : work;
}

export class Compiled {
  static async of(bytes, options) {
    const {accelerator, precision, threads, fallback = 'none'} = options;
    if (accelerator !== 'cpu' && accelerator !== 'gpu') throw new Refusal(`this device has no accelerator '${accelerator}'`);
    if (accelerator === 'gpu' && precision === 'fp16-fp32acc') {
      throw new Refusal('LiteRT.js has no fp16 with fp32 accumulation');
    }
    if (accelerator === 'cpu' && precision !== 'default' && precision !== 'fp32') {
      throw new Refusal(`the CPU computes in single precision, not ${precision}`);
    }
    const choices = ['backend', 'storage', 'priority'].filter((name) => name in options);
    if (choices.length) throw new Refusal(`LiteRT.js has no choice of ${choices.join(', ')}`);
    const made = new Compiled();
    if (accelerator === 'cpu') {
      await load('threads');
      const cpuOptions = {numThreads: threads || navigator.hardwareConcurrency};
      made.model = await litert.loadAndCompile(bytes, {accelerator: 'wasm', cpuOptions});
      made.full = false;
      return made;
    }
    if (precision !== 'default' && !HAS_PRECISION) throw new Refusal(`LiteRT.js ${RELEASE} has no choice of precision`);
    if (fallback === 'cpu' && !HAS_JSPI) throw new Refusal(`LiteRT.js ${RELEASE} has no build for CPU and GPU together`);
    await openGpu();
    await load(fallback === 'cpu' ? 'jspi' : 'gpu');
    const gpuOptions = {precision: precision === 'fp32' ? 'fp32' : 'fp16'};
    made.model = await unlessLost(litert.loadAndCompile(bytes, {accelerator: 'webgpu', gpuOptions}));
    made.onGpu = true;
    // Releases that cannot be asked log what the GPU does not take.
    made.full = made.model.options.accelerator === 'webgpu' && (made.model.isFullyAccelerated ?? true);
    if (!made.full && fallback !== 'cpu') {
      made.delete();
      throw new Refusal('the GPU delegate took only a part of the model');
    }
    return made;
  }

  // The inputs as tensors on the accelerator, by name, or by position for a model without names in common.
  async write(payloads) {
    const details = this.model.getInputDetails();
    const names = new Set(payloads.map(({name}) => name));
    const named = details.every(({name}) => names.has(name));
    if (payloads.length !== details.length) {
      throw new Refusal(`${payloads.length} inputs came for a model that takes ${details.length}`);
    }
    this.inputs = [];
    for (const [place, detail] of details.entries()) {
      const given = named ? payloads.find(({name}) => name === detail.name) : payloads[place];
      const shape = Array.from(detail.shape);
      if (given.dtype !== detail.dtype || (String(given.shape) !== String(shape) && !shape.some((size) => size < 0))) {
        throw new Refusal(`input '${detail.name}' came as ${given.dtype} [${given.shape}], not ${detail.dtype} [${shape}]`);
      }
      const copy = given.bytes.slice(); // aligned
      const tensor = new litert.Tensor(new TYPES[given.dtype](copy.buffer), given.shape);
      const [first] = detail.supportedBufferTypes;
      const there = detail.supportedBufferTypes.has(tensor.bufferType);
      this.inputs.push(there ? tensor : await unlessLost(tensor.moveTo(first)));
    }
  }

  async run() {
    this.free();
    this.outputs = await unlessLost(this.model.run(this.inputs));
    const expected = this.model.getOutputDetails().length;
    if (this.outputs.length !== expected) {
      throw new Refusal(`the runtime gave ${this.outputs.length} outputs of a model that has ${expected}`);
    }
    for (const tensor of this.inputs) tensor.delete();
  }

  async read(name, position) {
    const named = this.model.getOutputDetails().findIndex((detail) => detail.name === name);
    const place = named < 0 ? position : named;
    if (place >= this.outputs.length) throw new Refusal(`the model has no output ${place}`);
    const tensor = this.outputs[place];
    const values = await unlessLost(tensor.data());
    if (!values.length) throw new Refusal(`the runtime gave output '${name}' without a value`);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    return {name, dtype: tensor.type.dtype, shape: Array.from(tensor.type.layout.dimensions), bytes};
  }

  // Until all that was asked of the GPU is done and what it complained of has been said.
  async settled() {
    if (!this.onGpu) return;
    gpu.device.pushErrorScope('validation');
    await unlessLost(gpu.device.queue.onSubmittedWorkDone());
    await unlessLost(gpu.device.popErrorScope());
  }

  free() {
    for (const tensor of this.outputs ?? []) tensor.delete();
    this.outputs = [];
  }

  delete() {
    this.free();
    this.model?.delete();
    this.model = null;
  }
}
