// The harness's wire (harness/devices/link.py) in JavaScript: a frame is one request or answer, as an ArrayBuffer.

const MAGIC = 0x4c444831; // LDH1
const MOST_HEADER = 1 << 20;

const TABLE = new Int32Array(256).map((_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes) {
  let value = -1;
  for (let i = 0; i < bytes.length; i++) value = TABLE[(value ^ bytes[i]) & 255] ^ (value >>> 8);
  return (value ^ -1) >>> 0;
}

// {header, payloads: [{name, dtype, shape, bytes}]}, or an Error for what breaks the wire's rules.
export function decode(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 8 || view.getUint32(0) !== MAGIC) throw new Error('a frame does not start with LDH1');
  const length = view.getUint32(4);
  if (length > MOST_HEADER || 8 + length > buffer.byteLength) throw new Error(`a header of ${length} bytes is announced`);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const payloads = [];
  let at = 8 + length;
  for (const entry of header.payloads) {
    if (at + entry.bytes > buffer.byteLength) throw new Error(`payload '${entry.name}' is cut off`);
    const bytes = new Uint8Array(buffer, at, entry.bytes);
    if (crc32(bytes) !== entry.crc32) throw new Error(`the checksum of payload '${entry.name}' does not match`);
    payloads.push({name: entry.name, dtype: entry.dtype, shape: entry.shape, bytes});
    at += entry.bytes;
  }
  if (at !== buffer.byteLength) throw new Error(`${buffer.byteLength - at} bytes came behind a frame`);
  return {header, payloads};
}

// A frame as a Blob; payloads are {name, dtype, shape, bytes}.
export function encode(header, payloads = []) {
  const announced = payloads.map(({name, dtype, shape, bytes}) => (
    {name, dtype, shape, bytes: bytes.length, crc32: crc32(bytes)}));
  const raw = new TextEncoder().encode(JSON.stringify({...header, payloads: announced}));
  const head = new DataView(new ArrayBuffer(8));
  head.setUint32(0, MAGIC);
  head.setUint32(4, raw.length);
  return new Blob([head.buffer, raw, ...payloads.map(({bytes}) => bytes)]);
}

export async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
