// Stands in for LiteRT.js: a model's bytes are a word that says how it goes wrong.

let device = null;

export async function loadLiteRt() {}
export function unloadLiteRt() {}
export function setWebGpuDevice(given) { device = given; }

export class Tensor {
  constructor(values, dimensions) {
    this.values = values;
    this.bufferType = 1;
    this.type = {dtype: 'float32', layout: {dimensions}};
  }
  async moveTo() { return this; }
  async data() { return this.values; }
  delete() {}
}

const DETAIL = {dtype: 'float32', shape: new Int32Array([1, 4]), supportedBufferTypes: new Set([1])};

const FAULTS = {
  gpuError() { device.createTexture({size: [1 << 20, 1], format: 'rgba32float', usage: GPUTextureUsage.STORAGE_BINDING}); },
  async gpuErrorInScope() {
    device.pushErrorScope('validation');
    FAULTS.gpuError();
    await device.popErrorScope();
  },
  console() { console.error('ERROR: Failed to allocate tensors.'); },
  throws() { throw new Error('it is not to its taste'); },
  trap() { throw new WebAssembly.RuntimeError('unreachable'); },
  spin() { for (;;); },
  async lose() { device.destroy(); await new Promise(() => {}); },
  tooMuch() { new ArrayBuffer(2 ** 52); },
  fillHeap() { for (const all = [];;) all.push({at: [all.length, 1, 2, 3]}); },
  async wait() { await new Promise(() => {}); },
};

export async function loadAndCompile(bytes, options) {
  const word = new TextDecoder().decode(bytes);
  return {
    options,
    isFullyAccelerated: word !== 'partial',
    getInputDetails: () => [{...DETAIL, name: 'x'}],
    getOutputDetails: () => [{...DETAIL, name: 'y'}],
    async run([x]) {
      await FAULTS[word]?.();
      if (word === 'empty') return [];
      return [new Tensor(word === 'noValues' ? new Float32Array() : x.values.map((value) => value + 1), [1, 4])];
    },
    delete() {},
  };
}
