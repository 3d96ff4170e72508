// Masks as the server sends them ({x, y, w, h, runs by columns, zeros first}), drawn and drafted.

/** Pixels of a mask by rows, one byte each. */
export function pixelsOf(mask) {
  const { w, h, runs } = mask;
  const pixels = new Uint8Array(w * h);
  let at = 0;
  runs.forEach((run, index) => {
    if (index % 2) {
      for (let k = at; k < at + run; k++) pixels[(k % h) * w + ((k / h) | 0)] = 1;
    }
    at += run;
  });
  return pixels;
}

/** A picture of the mask in one colour [r, g, b, alpha], one pixel for each pixel. */
export function bitmap(mask, [r, g, b, alpha], pixels = pixelsOf(mask)) {
  const canvas = document.createElement("canvas");
  canvas.width = mask.w;
  canvas.height = mask.h;
  const image = new ImageData(mask.w, mask.h);
  const words = new Uint32Array(image.data.buffer);
  const word = (alpha << 24) | (b << 16) | (g << 8) | r;
  for (let k = 0; k < pixels.length; k++) if (pixels[k]) words[k] = word;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** The edges of the mask's pixels, in px of the photo whose corners are integers. */
export function outline(mask, pixels = pixelsOf(mask)) {
  const { x, y, w, h } = mask;
  const path = new Path2D();
  const on = (column, row) =>
    column >= 0 && row >= 0 && column < w && row < h && pixels[row * w + column];
  // Straight pieces are joined, so that a path has few of them.
  for (let row = 0; row <= h; row++) {
    let from = -1;
    for (let column = 0; column <= w; column++) {
      const edge = column < w && Boolean(on(column, row)) !== Boolean(on(column, row - 1));
      if (edge && from < 0) from = column;
      if (!edge && from >= 0) {
        path.moveTo(x + from, y + row);
        path.lineTo(x + column, y + row);
        from = -1;
      }
    }
  }
  for (let column = 0; column <= w; column++) {
    let from = -1;
    for (let row = 0; row <= h; row++) {
      const edge = row < h && Boolean(on(column, row)) !== Boolean(on(column - 1, row));
      if (edge && from < 0) from = row;
      if (!edge && from >= 0) {
        path.moveTo(x + column, y + from);
        path.lineTo(x + column, y + row);
        from = -1;
      }
    }
  }
  return path;
}

/** Whether a mask has a pixel of the photo. */
export function holds(mask, x, y) {
  if (!mask || x < mask.x || y < mask.y || x >= mask.x + mask.w || y >= mask.y + mask.h) return false;
  mask.pixels ??= pixelsOf(mask);
  return Boolean(mask.pixels[(y - mask.y) * mask.w + x - mask.x]);
}

/** How many pixels two masks share. */
export function shared(one, other) {
  const x0 = Math.max(one.x, other.x), x1 = Math.min(one.x + one.w, other.x + other.w);
  const y0 = Math.max(one.y, other.y), y1 = Math.min(one.y + one.h, other.y + other.h);
  let count = 0;
  for (let y = y0; y < y1; y++) {
    for (let x = x0; x < x1; x++) if (holds(one, x, y) && holds(other, x, y)) count++;
  }
  return count;
}

/** A mask that is being drawn; its window grows as far as the photo. */
export class Draft {
  constructor(width, height, mask = null) {
    this.width = width;
    this.height = height;
    this.x = mask ? mask.x : 0;
    this.y = mask ? mask.y : 0;
    this.w = mask ? mask.w : 0;
    this.h = mask ? mask.h : 0;
    this.pixels = mask ? pixelsOf(mask) : new Uint8Array(0);
  }

  copy() {
    const other = new Draft(this.width, this.height);
    Object.assign(other, { x: this.x, y: this.y, w: this.w, h: this.h, pixels: this.pixels.slice() });
    return other;
  }

  /** Set or clear the pixels within `radius` of a place; radius 0 is the pixel itself. */
  paint(x, y, radius, value) {
    const x0 = Math.max(0, Math.floor(x - radius)), x1 = Math.min(this.width, Math.floor(x + radius) + 1);
    const y0 = Math.max(0, Math.floor(y - radius)), y1 = Math.min(this.height, Math.floor(y + radius) + 1);
    if (x0 >= x1 || y0 >= y1) return;
    if (value) this.#reach(x0, y0, x1, y1);
    const reach = Math.max(radius, 0.5) ** 2;
    for (let row = Math.max(y0, this.y); row < Math.min(y1, this.y + this.h); row++) {
      for (let column = Math.max(x0, this.x); column < Math.min(x1, this.x + this.w); column++) {
        const near = (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 <= reach;
        const own = column === Math.floor(x) && row === Math.floor(y);
        if (near || own) this.pixels[(row - this.y) * this.w + column - this.x] = value;
      }
    }
  }

  #reach(x0, y0, x1, y1) {
    if (this.w === 0) [this.x, this.y] = [x0, y0];
    if (this.w && x0 >= this.x && y0 >= this.y && x1 <= this.x + this.w && y1 <= this.y + this.h) return;
    const left = Math.min(x0, this.x), top = Math.min(y0, this.y);
    const right = Math.max(x1, this.x + this.w), bottom = Math.max(y1, this.y + this.h);
    const pixels = new Uint8Array((right - left) * (bottom - top));
    for (let row = 0; row < this.h; row++) {
      const line = this.pixels.subarray(row * this.w, (row + 1) * this.w);
      pixels.set(line, (row + this.y - top) * (right - left) + this.x - left);
    }
    Object.assign(this, { x: left, y: top, w: right - left, h: bottom - top, pixels });
  }

  /** As the server takes masks; null where no pixel is left. */
  mask() {
    let left = this.w, top = this.h, right = 0, bottom = 0;
    for (let row = 0; row < this.h; row++) {
      for (let column = 0; column < this.w; column++) {
        if (!this.pixels[row * this.w + column]) continue;
        left = Math.min(left, column);
        right = Math.max(right, column + 1);
        top = Math.min(top, row);
        bottom = Math.max(bottom, row + 1);
      }
    }
    if (left >= right) return null;
    const runs = [];
    let value = 0, length = 0;
    for (let column = left; column < right; column++) {
      for (let row = top; row < bottom; row++) {
        if (this.pixels[row * this.w + column] !== value) {
          runs.push(length);
          value = 1 - value;
          length = 0;
        }
        length++;
      }
    }
    runs.push(length);
    return { x: this.x + left, y: this.y + top, w: right - left, h: bottom - top, runs };
  }
}

/** The pixels that two masks share, as a mask. */
export function common(one, other) {
  const draft = new Draft(Infinity, Infinity, one);
  for (let row = 0; row < draft.h; row++) {
    for (let column = 0; column < draft.w; column++) {
      const at = row * draft.w + column;
      if (draft.pixels[at] && !holds(other, draft.x + column, draft.y + row)) draft.pixels[at] = 0;
    }
  }
  return draft.mask();
}
