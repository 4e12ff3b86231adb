"""A browser as a device: LiteRT.js on WebGPU, or on WebAssembly as its CPU, in Chromium."""
