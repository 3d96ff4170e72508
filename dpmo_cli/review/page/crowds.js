// The persons of the images that were looked at last, as the server shows them.

import * as api from "./api.js";
import { keyOf } from "./queue.js";

const HELD = 12;

/**
 * What is known of images, each as: people (by id), window (whose persons they are; null where they
 * have to be asked for), points ([id, x, y] where the people are too many), detailed (whether not).
 */
export class Crowds {
  /** `failed(error)` hears of what the server refuses. */
  constructor(failed) {
    this.failed = failed;
    this.held = new Map();
  }

  /** Of a row's image. */
  of(row) {
    const key = keyOf(row);
    let crowd = this.held.get(key);
    this.held.delete(key);
    crowd ??= { people: new Map(), window: null, points: null, detailed: true };
    this.held.set(key, crowd);
    if (this.held.size > HELD) this.held.delete(this.held.keys().next().value);
    return crowd;
  }

  /** Of an image by its key, where it is held. */
  known(key) {
    return this.held.get(key);
  }

  /**
   * Have the persons of a window; those `needed` at least.
   *
   * Returns whether what is known has changed.
   */
  async fetch(row, wanted, needed) {
    const crowd = this.of(row);
    if (crowd.detailed && crowd.window && contains(crowd.window, needed)) return false;
    const asking = JSON.stringify(wanted);
    if (crowd.asking === asking) return false;
    crowd.asking = asking;
    try {
      const path = `/api/people/${encodeURIComponent(row.split)}/${row.image_id}`;
      let [window, answer] = [wanted, await api.get(path, wanted)];
      // Too many for a margin: of those in view alone the masks may still be few enough.
      if (!answer.detailed && crowd.asking === asking) [window, answer] = [needed, await api.get(path, needed)];
      // A later question has a later answer.
      if (crowd.asking !== asking) return false;
      Object.assign(crowd, { window, detailed: answer.detailed, points: answer.points ?? null });
      if (answer.people) take(crowd, answer.people, true);
    } catch (error) {
      this.failed(error);
    } finally {
      if (crowd.asking === asking) crowd.asking = null;
    }
    return true;
  }
}

/** Take in persons of an image; with `all`, no others are kept. */
export function take(crowd, people, all = false) {
  const before = crowd.people;
  if (all) crowd.people = new Map();
  for (const person of people) {
    const known = before.get(person.id);
    // What is the same keeps its pictures.
    crowd.people.set(person.id, known && same(known, person) ? known : person);
  }
}

const same = (one, other) =>
  one.decision === other.decision && one.mask?.x === other.mask?.x && one.mask?.y === other.mask?.y
  && JSON.stringify(one.mask?.runs) === JSON.stringify(other.mask?.runs);

const contains = (held, needed) =>
  held.x0 <= needed.x0 && held.y0 <= needed.y0 && held.x1 >= needed.x1 && held.y1 >= needed.y1;
