// Answers the harness's requests one after another. They are fetched from the server that served this page, which
// passes frames on as they are.

import {Compiled, DeviceLost, RELEASE, Refusal, whenLost} from './runtime.js';
import {decode, encode, sha256} from './wire.js';

const PROTOCOL = 1;
const MOST_KEPT = 1 << 29; // bytes of models
const models = new Map();
let compiled = null;
let key = '';

async function send(header, payloads) {
  const answer = await fetch('../answer', {method: 'POST', body: encode(header, payloads)});
  if (!answer.ok) throw new Error(`the harness took no answer (${answer.status})`);
}

const answers = {
  async hello({header}) {
    if (header.protocol !== PROTOCOL) {
      throw new Refusal(`protocol ${header.protocol} is asked for, this page speaks ${PROTOCOL}`);
    }
    const facts = {runtime: RELEASE, system: navigator.userAgent, cpu: `${navigator.hardwareConcurrency} threads`,
      isolated: crossOriginIsolated, webgpu: Boolean(navigator.gpu)};
    await send({type: 'hello', id: header.id, protocol: PROTOCOL, facts});
  },

  async has({header}) {
    await send({type: 'has', id: header.id, present: models.has(header.sha256)});
  },

  async put({header, payloads}) {
    const bytes = payloads[0]?.bytes ?? new Uint8Array();
    if (await sha256(bytes) !== header.sha256) throw new Refusal("the model's bytes do not have the announced sha256");
    let kept = bytes.length;
    for (const [digest, model] of [...models].reverse()) {
      kept += model.length;
      if (kept > MOST_KEPT) models.delete(digest);
    }
    models.set(header.sha256, bytes);
    await send({type: 'put', id: header.id});
  },

  async run({header, payloads}) {
    try {
      await iterate(header, payloads);
    } finally {
      if (header.final) forget();
    }
  },
};

function forget() {
  compiled?.delete();
  compiled = null;
  key = '';
}

async function iterate(header, payloads) {
  const {sha256: digest, options, outputs, positions, warmup, iterations} = header;
  const wanted = JSON.stringify([digest, options]);
  const isNew = wanted !== key;
  const started = performance.now();
  if (isNew) {
    const model = models.get(digest);
    if (!model) throw new Refusal(`model ${String(digest).slice(0, 12)} was not sent`);
    forget(); // the old model goes first: two compiled ones at once would double the peak
    compiled = await Compiled.of(model, options);
    key = wanted;
  }
  const compileNs = isNew ? nanoseconds(performance.now() - started) : 0;
  const samples = [];
  const last = warmup + iterations - 1;
  for (let i = 0; i <= last; i++) {
    const begun = performance.now();
    await compiled.write(payloads);
    const written = performance.now();
    await compiled.run();
    const ran = performance.now();
    let reading = 0;
    for (const [place, name] of outputs.entries()) {
      const before = performance.now();
      const output = await compiled.read(name, positions[place]);
      reading += performance.now() - before;
      if (i === last) await send({type: 'output', id: header.id}, [output]);
    }
    if (i >= warmup) samples.push([written - begun, ran - written, reading].map(nanoseconds));
  }
  await compiled.settled();
  await send({type: 'completed', id: header.id, samples, compile_ns: compileNs, compiled: isNew, full: compiled.full});
}

function nanoseconds(milliseconds) {
  return Math.round(milliseconds * 1e6);
}

// After these nothing here can be relied on: the harness starts another browser.
function isTheEnd(error) {
  return error instanceof DeviceLost || error instanceof WebAssembly.RuntimeError;
}

async function end(error) {
  const why = error instanceof DeviceLost ? error.message : `WebAssembly trapped: ${error.message}`;
  await fetch('../gone', {method: 'POST', body: why});
}

whenLost(end); // while nothing is asked, too

for (;;) {
  const response = await fetch('../next', {cache: 'no-store'});
  if (response.status === 204) continue;
  if (!response.ok) break;
  const request = decode(await response.arrayBuffer());
  try {
    const answer = answers[request.header.type];
    if (!answer) throw new Refusal(`unknown request '${request.header.type}'`);
    await answer(request);
  } catch (error) {
    if (isTheEnd(error)) {
      await end(error);
      break;
    }
    const text = error instanceof Error ? error.message : String(error);
    if (!(error instanceof Refusal)) console.error(`ERROR: ${text.replaceAll('\n', ' ')}`);
    await send({type: 'failed', id: request.header.id, kind: 'rejected', reason: text.slice(0, 2000) || 'no reason was given'});
  }
}
