// A photo that is zoomed and moved: its tiles, and the way from the screen to its pixels.

import { tileUrl } from "./api.js";

const TILE = 512;
const MOST_TILES = 160;
const CLOSEST = 40;

/**
 * Frames: a pixel of the photo covers [x, x + 1) in "corner" coordinates, which the canvas draws in;
 * points of persons have pixel centres at integers, half a pixel less.
 */
export class PhotoCanvas {
  /** `draw(context, view)` paints over the photo; `changed(view)` hears of each new view. */
  constructor(element, { draw, changed }) {
    this.element = element;
    this.context = element.getContext("2d");
    this.view = { x: 0, y: 0, scale: 1 };
    this.tiles = new Map();
    this.row = null;
    this.onDraw = draw;
    this.onChanged = changed;
    this.waiting = false;
    new ResizeObserver(() => this.#resize()).observe(element);
    this.#resize();
  }

  /** Size in CSS px. */
  get size() {
    return { width: this.element.clientWidth, height: this.element.clientHeight };
  }

  /** Show a square of the photo, in the middle. */
  frame(row, { x, y, side }) {
    this.row = row;
    this.home = { x, y, side };
    this.fit();
  }

  /** Back to the square that was framed. */
  fit() {
    const { width, height } = this.size;
    const { x, y, side } = this.home;
    const scale = Math.min(CLOSEST, Math.min(width, height) / side);
    this.#look({ scale, x: x + side / 2 - width / 2 / scale, y: y + side / 2 - height / 2 / scale });
  }

  /** Zoom by a factor, about a place on the screen. */
  zoom(factor, at = { x: this.size.width / 2, y: this.size.height / 2 }) {
    const least = Math.min(this.size.width / this.row.width, this.size.height / this.row.height, 1) * 0.9;
    const scale = Math.min(CLOSEST, Math.max(least, this.view.scale * factor));
    const still = this.toPhoto(at);
    this.#look({ scale, x: still.x - at.x / scale, y: still.y - at.y / scale });
  }

  /** Move by CSS px. */
  pan(dx, dy) {
    const { x, y, scale } = this.view;
    this.#look({ scale, x: x - dx / scale, y: y - dy / scale });
  }

  /** Bring a place of the photo into view. */
  reveal({ x, y }) {
    const place = this.toScreen({ x, y });
    const { width, height } = this.size;
    if (place.x < 20 || place.y < 20 || place.x > width - 20 || place.y > height - 20) {
      this.pan(width / 2 - place.x, height / 2 - place.y);
    }
  }

  toPhoto({ x, y }) {
    return { x: this.view.x + x / this.view.scale, y: this.view.y + y / this.view.scale };
  }

  toScreen({ x, y }) {
    return { x: (x - this.view.x) * this.view.scale, y: (y - this.view.y) * this.view.scale };
  }

  /** The part of the photo on the screen, with a margin in parts of it. */
  window(margin = 0) {
    const { width, height } = this.size;
    const w = width / this.view.scale, h = height / this.view.scale;
    const inside = (value, limit) => Math.max(0, Math.min(limit, value));
    return {
      x0: Math.floor(inside(this.view.x - margin * w, this.row.width - 1)),
      y0: Math.floor(inside(this.view.y - margin * h, this.row.height - 1)),
      x1: Math.ceil(inside(this.view.x + (1 + margin) * w, this.row.width)) || 1,
      y1: Math.ceil(inside(this.view.y + (1 + margin) * h, this.row.height)) || 1,
    };
  }

  /** Paint again at the next frame. */
  refresh() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.#paint();
    });
  }

  /** Fetch the tiles of a view of another photo before it is shown. */
  prefetch(row, { x, y, side }) {
    const { width, height } = this.size;
    const scale = Math.min(CLOSEST, Math.min(width, height) / side);
    const window = {
      x0: Math.max(0, x + side / 2 - width / 2 / scale), x1: Math.min(row.width, x + side / 2 + width / 2 / scale),
      y0: Math.max(0, y + side / 2 - height / 2 / scale), y1: Math.min(row.height, y + side / 2 + height / 2 / scale),
    };
    return Promise.all(this.#needed(window, levelOf(scale)).map(([c, r]) => this.#tile(row, levelOf(scale), c, r).loaded));
  }

  /** Whether all tiles of the view are here. */
  complete() {
    const level = levelOf(this.view.scale);
    return this.#needed(this.window(), level).every(([c, r]) => this.#tile(this.row, level, c, r).ready);
  }

  #look(view) {
    this.view = view;
    if (this.row) this.onChanged(view);
    this.refresh();
  }

  #resize() {
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = this.size;
    if (!width || !height) return;
    this.element.width = Math.round(width * ratio);
    this.element.height = Math.round(height * ratio);
    if (this.row) this.#look(this.view);
  }

  #needed({ x0, y0, x1, y1 }, level) {
    const side = TILE << level;
    const found = [];
    for (let r = Math.floor(y0 / side); r * side < y1; r++) {
      for (let c = Math.floor(x0 / side); c * side < x1; c++) found.push([c, r]);
    }
    return found;
  }

  #tile(row, level, column, line) {
    const key = `${row.split}/${row.image_id}/${level}/${column}/${line}`;
    let tile = this.tiles.get(key);
    this.tiles.delete(key);
    if (!tile) {
      tile = { image: new Image(), ready: false };
      tile.loaded = new Promise((done) => {
        tile.image.onload = () => { tile.ready = true; this.refresh(); done(); };
        tile.image.onerror = () => { tile.failed = true; this.refresh(); done(); };
      });
      tile.image.src = tileUrl(row, level, column, line);
    }
    // The least recently used ones stand first.
    this.tiles.set(key, tile);
    if (this.tiles.size > MOST_TILES) this.tiles.delete(this.tiles.keys().next().value);
    return tile;
  }

  #paint() {
    const context = this.context;
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#07080a";
    context.fillRect(0, 0, this.element.width, this.element.height);
    if (!this.row) return;
    const { x, y, scale } = this.view;
    context.setTransform(scale * ratio, 0, 0, scale * ratio, -x * scale * ratio, -y * scale * ratio);
    context.imageSmoothingEnabled = scale < 24;
    context.imageSmoothingQuality = "high";
    const level = levelOf(scale);
    for (const [c, r] of this.#needed(this.window(), level)) {
      const tile = this.#tile(this.row, level, c, r);
      if (!tile.ready) continue;
      const side = TILE << level;
      const w = Math.min(side, this.row.width - c * side), h = Math.min(side, this.row.height - r * side);
      context.drawImage(tile.image, c * side, r * side, w, h);
    }
    context.imageSmoothingEnabled = false;
    this.onDraw(context, this.view);
  }
}

/** How often a photo is halved for a scale. */
function levelOf(scale) {
  return Math.max(0, Math.min(8, Math.floor(Math.log2(1 / (scale * (window.devicePixelRatio || 1))) + 0.001)));
}
