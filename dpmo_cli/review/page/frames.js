// Which part of a photo is shown: squares round persons, and whole photos.

/** The square of the photo that shows a person well: in parts of the disc and of the mask's reach. */
export function squareOf({ person, width, height }, room = 7, reaches = 3, least = 60) {
  const radius = person.r ?? 24;
  const mask = person.mask;
  const reach = mask ? Math.max(person.x - mask.x, mask.x + mask.w - person.x, person.y - mask.y, mask.y + mask.h - person.y) : 0;
  const side = Math.round(Math.min(Math.max(room * radius, reaches * reach, least), Math.max(width, height)));
  return { x: Math.round(person.x + 0.5 - side / 2), y: Math.round(person.y + 0.5 - side / 2), side };
}

/** The square that shows all of a photo. */
export function wholeOf({ width, height }) {
  const side = Math.max(width, height);
  return { x: Math.round((width - side) / 2), y: Math.round((height - side) / 2), side };
}

/** The window of a photo that holds a square and as much of its side round it as `margin` says. */
export function windowRound({ x, y, side }, margin, { width, height }) {
  const inside = (value, limit) => Math.round(Math.max(0, Math.min(limit, value)));
  const out = margin * side;
  return {
    x0: inside(x - out, width - 1), y0: inside(y - out, height - 1),
    x1: inside(x + side + out, width) || 1, y1: inside(y + side + out, height) || 1,
  };
}
