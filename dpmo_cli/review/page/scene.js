// What is drawn over the photo: masks, discs and points of the persons in view, and the draft.

import { bitmap, outline, pixelsOf } from "./masks.js";

const OTHERS = [[96, 165, 250], [192, 132, 252], [45, 212, 191], [251, 146, 190], [163, 230, 53], [148, 163, 184]];
const CHOSEN = [255, 214, 64];
const DRAWN = [92, 200, 255];
const DRAFT = [255, 138, 76];
const CLASH = [255, 60, 60];
const LOST = [255, 122, 118];
const CROWDED = 300;

const css = ([r, g, b], alpha = 1) => `rgb(${r} ${g} ${b} / ${alpha})`;

/** The picture and edges of a mask; made once for each mask and colour. */
function drawable(mask, colour, alpha) {
  const key = `${colour}/${alpha}`;
  if (mask.drawable?.key !== key) {
    mask.pixels ??= pixelsOf(mask);
    const picture = bitmap(mask, [...colour, alpha], mask.pixels);
    mask.drawable = { key, picture, path: mask.drawable?.path ?? outline(mask, mask.pixels) };
  }
  return mask.drawable;
}

function paintMask(context, mask, colour, { fill, line, width }) {
  const { picture, path } = drawable(mask, colour, fill);
  context.drawImage(picture, mask.x, mask.y);
  context.strokeStyle = css(colour, line);
  context.lineWidth = width;
  context.lineCap = "square";
  context.stroke(path);
}

/** The edges of a mask that does not stand (any more). */
function paintBefore(context, mask, colour, px) {
  mask.path ??= outline(mask);
  context.setLineDash([4 * px, 4 * px]);
  context.strokeStyle = css(colour, 0.9);
  context.lineWidth = 1.4 * px;
  context.stroke(mask.path);
  context.setLineDash([]);
}

/**
 * Paint persons in corner coordinates.
 *
 * `scene` holds: people (those in view), points ([id, x, y] where they are too many), chosen (the
 * person looked at), draft (a mask), drafting (whether one is), clicks, point (where the point is to
 * be), clashes (drawn masks that the draft may not touch), cursor, brush (radius), masks, discs.
 */
export function paint(context, view, scene) {
  const px = 1 / view.scale;
  const chosen = scene.chosen;
  for (const [, x, y] of scene.points ?? []) {
    context.fillStyle = css(OTHERS[0], 0.9);
    context.fillRect(x + 0.5 - 1.5 * px, y + 0.5 - 1.5 * px, 3 * px, 3 * px);
  }
  if (scene.masks) {
    for (const person of scene.people) {
      if (!person.mask || !person.drawn || person === chosen) continue;
      const colour = person.origin === "auto" ? OTHERS[person.id % OTHERS.length] : DRAWN;
      paintMask(context, person.mask, colour, { fill: 46, line: 0.75, width: 1.2 * px });
    }
    if (chosen?.mask && !scene.drafting) {
      paintMask(context, chosen.mask, CHOSEN, { fill: 56, line: 1, width: 2 * px });
    }
    if (scene.drafting && chosen?.mask) paintBefore(context, chosen.mask, CHOSEN, px);
    if (!scene.drafting && chosen?.lost) paintBefore(context, chosen.lost, LOST, px);
  }
  if (scene.draft) {
    paintMask(context, scene.draft, DRAFT, { fill: 84, line: 1, width: 2 * px });
    for (const clash of scene.clashes) paintMask(context, clash, CLASH, { fill: 120, line: 1, width: 2 * px });
  }
  if (scene.discs && chosen?.r) {
    context.beginPath();
    context.arc(chosen.x + 0.5, chosen.y + 0.5, chosen.r, 0, 2 * Math.PI);
    context.setLineDash([6 * px, 5 * px]);
    context.strokeStyle = "#000a";
    context.lineWidth = 2.5 * px;
    context.stroke();
    context.strokeStyle = "#ffffffd9";
    context.lineWidth = 1.2 * px;
    context.stroke();
    context.setLineDash([]);
  }
  // Of a whole crowd the points are mere pixels.
  const crowded = scene.people.length > CROWDED;
  for (const person of scene.people) {
    if (person === chosen) continue;
    if (crowded) {
      context.fillStyle = "#ffffffd0";
      context.fillRect(person.x + 0.5 - px, person.y + 0.5 - px, 2 * px, 2 * px);
    } else dot(context, person, 2.4 * px, person.verdict === "deleted" ? "#8a8f98" : "#ffffffd0", px);
  }
  const place = scene.point ?? chosen;
  if (place) {
    dot(context, place, 4.2 * px, css(scene.point ? DRAFT : CHOSEN), px);
    if (chosen?.verdict === "deleted") cross(context, place, 9 * px, "#ff7a76", px);
  }
  for (const [x, y, on] of scene.clicks) {
    dot(context, { x, y }, 6 * px, on ? "#42d392" : "#ff7a76", px);
    sign(context, { x, y }, 3.2 * px, on, px);
  }
  if (scene.cursor) {
    const { x, y } = scene.cursor;
    context.strokeStyle = "#000c";
    for (const [width, style] of [[3, "#000c"], [1.4, "#fff"]]) {
      context.strokeStyle = style;
      context.lineWidth = width * px;
      context.beginPath();
      if (scene.brush !== null) context.arc(x, y, Math.max(scene.brush, 0.5), 0, 2 * Math.PI);
      if (scene.brush === null || scene.keyboard) {
        context.moveTo(x - 9 * px, y);
        context.lineTo(x + 9 * px, y);
        context.moveTo(x, y - 9 * px);
        context.lineTo(x, y + 9 * px);
      }
      context.stroke();
    }
  }
}

function dot(context, { x, y }, radius, style, px) {
  context.beginPath();
  context.arc(x + 0.5, y + 0.5, radius, 0, 2 * Math.PI);
  context.fillStyle = style;
  context.fill();
  context.strokeStyle = "#000c";
  context.lineWidth = 1.2 * px;
  context.stroke();
}

function sign(context, { x, y }, reach, plus, px) {
  context.beginPath();
  context.moveTo(x + 0.5 - reach, y + 0.5);
  context.lineTo(x + 0.5 + reach, y + 0.5);
  if (plus) {
    context.moveTo(x + 0.5, y + 0.5 - reach);
    context.lineTo(x + 0.5, y + 0.5 + reach);
  }
  context.strokeStyle = "#08130e";
  context.lineWidth = 1.6 * px;
  context.stroke();
}

function cross(context, { x, y }, reach, style, px) {
  context.beginPath();
  context.moveTo(x + 0.5 - reach, y + 0.5 - reach);
  context.lineTo(x + 0.5 + reach, y + 0.5 + reach);
  context.moveTo(x + 0.5 + reach, y + 0.5 - reach);
  context.lineTo(x + 0.5 - reach, y + 0.5 + reach);
  context.strokeStyle = style;
  context.lineWidth = 2.4 * px;
  context.stroke();
}

/** The mask of a person over a crop of `size` px, for the grid. */
export function paintCrop(canvas, person, { x, y, side }, size) {
  const context = canvas.getContext("2d");
  const ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.height = Math.round(size * ratio);
  const scale = canvas.width / side;
  context.setTransform(scale, 0, 0, scale, -x * scale, -y * scale);
  context.imageSmoothingEnabled = false;
  const px = ratio / scale;
  if (person.mask) {
    paintMask(context, person.mask, person.origin === "auto" ? CHOSEN : DRAWN, { fill: 40, line: 1, width: 1.6 * px });
  }
  if (person.lost) paintBefore(context, person.lost, LOST, px);
  dot(context, person, 2 * px, "#fff", px);
}
