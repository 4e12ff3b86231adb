// Three canvases that show the same part of a photo: the device's masks, the CPU's, and where they differ.

export const COLORS = ["#f03e3e", "#3b82f6", "#2fb344", "#f59f00", "#ae3ec9", "#0ca8a8"];
const DEVICE_ALONE = [232, 89, 12], CPU_ALONE = [28, 126, 214], BOTH = [134, 142, 150];
const ON = "#2f9e44", BESIDE = "#e03131";
export const LARGEST_ZOOM = 16;

// A mask's bits, the first pixel in the highest bit, as one byte a pixel.
export function unpacked(text, width, height) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const inside = new Uint8Array(width * height);
  for (let at = 0; at < inside.length; at++) inside[at] = (bytes[at >> 3] >> (7 - (at & 7))) & 1;
  return { inside, width, height };
}

function painted(width, height, color) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  color(pixels);
  context.putImageData(image, 0, 0);
  return canvas;
}

const rgba = ([red, green, blue], alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
const parts = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

// The mask tinted, its edge in full.
export function tinted({ inside, width, height }, hex) {
  const soft = rgba(parts(hex), 105), full = rgba(parts(hex), 255);
  return painted(width, height, (pixels) => {
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        if (!inside[at]) continue;
        const inner = x > 0 && x < width - 1 && y > 0 && y < height - 1 && inside[at - 1] && inside[at + 1] && inside[at - width] && inside[at + width];
        pixels[at] = inner ? soft : full;
      }
    }
  });
}

export function differing(device, cpu) {
  const device_alone = rgba(DEVICE_ALONE, 235), cpu_alone = rgba(CPU_ALONE, 235), both = rgba(BOTH, 120);
  return painted(device.width, device.height, (pixels) => {
    for (let at = 0; at < pixels.length; at++) {
      const d = device.inside[at], c = cpu.inside[at];
      if (d | c) pixels[at] = d && c ? both : d ? device_alone : cpu_alone;
    }
  });
}

export class View {
  constructor(canvases, draw_more) {
    this.canvases = canvases;   // {device, cpu, difference}
    this.layers = () => [];     // what lies over the photo: [{device, cpu, difference, faint}]
    this.marks = () => [];      // [{positive, negative, box, color, chosen}]
    this.cross = null;          // where the keyboard is, in photo pixels
    this.rubber = null;         // a box being drawn
    this.photo = null;
    this.zoom = 1;
    this.centre = [0, 0];
    this.asked = false;
    this.draw_more = draw_more;
    new ResizeObserver(() => this.draw()).observe(canvases.device.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  show(photo, width, height) {
    Object.assign(this, { photo, width, height });
    this.fit();
  }

  fit() {
    this.zoom = 1;
    this.centre = [this.width / 2, this.height / 2];
    this.draw();
  }

  // CSS pixels for a photo pixel.
  get scale() { return this.css_width / this.width * this.zoom; }

  get css_width() { return this.canvases.device.clientWidth || 1; }

  get css_height() { return this.canvases.device.clientHeight || 1; }

  // From a place in a canvas, in CSS pixels, to one in the photo.
  to_photo(x, y) {
    return [this.centre[0] + (x - this.css_width / 2) / this.scale, this.centre[1] + (y - this.css_height / 2) / this.scale];
  }

  zoom_by(factor, x = this.css_width / 2, y = this.css_height / 2) {
    const before = this.to_photo(x, y);
    this.zoom = Math.min(Math.max(this.zoom * factor, 1), LARGEST_ZOOM);
    const after = this.to_photo(x, y);
    this.move_to(this.centre[0] + before[0] - after[0], this.centre[1] + before[1] - after[1]);
  }

  move_by(x, y) { this.move_to(this.centre[0] - x / this.scale, this.centre[1] - y / this.scale); }

  move_to(x, y) {
    const half_x = this.width / this.zoom / 2, half_y = this.height / this.zoom / 2;
    this.centre = [Math.min(Math.max(x, half_x), this.width - half_x), Math.min(Math.max(y, half_y), this.height - half_y)];
    this.draw();
  }

  draw() {
    if (this.asked || !this.photo) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      for (const [side, canvas] of Object.entries(this.canvases)) this.paint(side, canvas);
      this.draw_more();
    });
  }

  paint(side, canvas) {
    const ratio = window.devicePixelRatio || 1;
    canvas.style.aspectRatio = `${this.width} / ${this.height}`;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const scale = this.scale * ratio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.setTransform(scale, 0, 0, scale, width / 2 - this.centre[0] * scale, height / 2 - this.centre[1] * scale);
    context.imageSmoothingEnabled = this.zoom < 4;
    if (side === "difference") context.filter = "grayscale(1)";
    context.drawImage(this.photo, 0, 0, this.width, this.height);
    context.filter = "none";
    if (side === "difference") {
      context.fillStyle = matchMedia("(prefers-color-scheme: dark)").matches ? "#0f1317a8" : "#ffffffa8";
      context.fillRect(0, 0, this.width, this.height);
    }
    for (const layer of this.layers()) {
      if (!layer[side]) continue;
      context.globalAlpha = layer.faint ? .55 : 1;
      context.imageSmoothingEnabled = this.width * scale < layer[side].width * 1.5;
      context.drawImage(layer[side], 0, 0, this.width, this.height);
    }
    context.globalAlpha = 1;
    for (const mark of this.marks()) this.mark(context, mark, 1 / this.scale);
    if (this.rubber) this.box(context, this.rubber, "#ffffff", 1 / this.scale);
    if (this.cross && document.activeElement === canvas) this.crosshair(context, this.cross, 1 / this.scale);
  }

  mark(context, { positive, negative, box, color, chosen }, pixel) {
    context.globalAlpha = chosen ? 1 : .6;
    if (box) this.box(context, box, color, pixel);
    for (const [points, fill] of [[positive, ON], [negative, BESIDE]]) {
      for (const [x, y] of points) {
        context.beginPath();
        context.arc(x, y, 6 * pixel, 0, 2 * Math.PI);
        context.fillStyle = fill;
        context.fill();
        context.lineWidth = 2 * pixel;
        context.strokeStyle = "#fff";
        context.stroke();
        context.beginPath();
        context.arc(x, y, 7.2 * pixel, 0, 2 * Math.PI);
        context.lineWidth = pixel;
        context.strokeStyle = "#0008";
        context.stroke();
      }
    }
    context.globalAlpha = 1;
  }

  box(context, [left, top, right, bottom], color, pixel) {
    for (const [style, width, dash] of [["#000a", 4, []], [color, 2, []], ["#fff", 2, [6, 6]]]) {
      context.setLineDash(dash.map((length) => length * pixel));
      context.lineWidth = width * pixel;
      context.strokeStyle = style;
      context.strokeRect(left, top, right - left, bottom - top);
    }
    context.setLineDash([]);
  }

  crosshair(context, [x, y], pixel) {
    for (const [style, width] of [["#000a", 4], ["#fff", 1.5]]) {
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 4 * dx * pixel, y + 4 * dy * pixel);
        context.lineTo(x + 16 * dx * pixel, y + 16 * dy * pixel);
      }
      context.lineWidth = width * pixel;
      context.strokeStyle = style;
      context.stroke();
    }
  }
}
