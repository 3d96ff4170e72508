// What is drawn for a person and not saved yet: by brush, by clicks that the network answers, by hand.

import * as api from "./api.js";
import { Draft, common, holds, shared } from "./masks.js";

/**
 * The draft of one person's mask and point, or of a new person.
 *
 * `view` holds who is looked at: row, chosen (the person), people (of the image), and
 * `draftChanged()` and `hintChanged()` paint anew; `noClicks(words)` hears that none can be answered.
 */
export class Mending {
  constructor(view) {
    this.view = view;
    // Questions to the network so far: only the latest one's answer is taken.
    this.asked = 0;
    this.clear();
  }

  clear() {
    this.draft = null;
    this.mask = null;
    this.clicks = [];
    this.point = null;
    this.adding = false;
    this.steps = [];
    this.busy = 0;
    this.clashes = [];
    this.note = "";
    this.bad = false;
    this.asked += 1;
  }

  get drafting() {
    return this.draft !== null || this.clicks.length > 0 || this.point !== null;
  }

  /** Click on the person, or on what is not the person. */
  click(place, on) {
    this.#step();
    this.clicks.push([place.x, place.y, on]);
    this.view.draftChanged();
    this.#ask();
  }

  /** Paint or erase to a place in corner coordinates; `first` begins a stroke. */
  paint(at, radius, value, first) {
    if (first) {
      this.#step();
      this.last = at;
    }
    this.draft ??= this.#draft(this.adding ? null : this.view.chosen.mask);
    const { x, y } = this.last;
    const steps = Math.max(1, Math.ceil(Math.hypot(at.x - x, at.y - y) / Math.max(1, radius / 2)));
    for (let k = 1; k <= steps; k++) {
      this.draft.paint(x + ((at.x - x) * k) / steps, y + ((at.y - y) * k) / steps, radius, value);
    }
    this.last = at;
    this.#drawn();
  }

  /** Move the person's point; where the mask lacks it, the network draws another. */
  move(place) {
    this.#step();
    this.point = place;
    const mask = this.mask ?? this.view.chosen.mask;
    if (holds(mask, Math.round(place.x), Math.round(place.y))) {
      this.draft ??= this.#draft(mask);
      this.#drawn();
    } else this.#ask();
  }

  /** Begin a new person at a place. */
  add(place) {
    this.#step();
    this.adding = true;
    this.point = place;
    this.clicks = [];
    this.#ask();
  }

  /** Take the last step back; false where there is none. */
  stepBack() {
    if (!this.steps.length) return false;
    Object.assign(this, this.steps.pop());
    this.asked += 1;
    if (this.clicks.length && !this.draft) this.#ask();
    this.#drawn();
    return true;
  }

  say(words, bad = false) {
    this.note = words;
    this.bad = bad;
    this.view.hintChanged();
  }

  #draft(mask) {
    return new Draft(this.view.row.width, this.view.row.height, mask);
  }

  /** Remember the draft as it is. */
  #step() {
    this.steps.push({ draft: this.draft?.copy() ?? null, clicks: this.clicks.slice(), point: this.point, adding: this.adding });
  }

  /** Set the draft's mask, and see whose pixels it takes. */
  #drawn() {
    this.mask = this.draft?.mask() ?? null;
    this.clashes = [];
    let taken = 0, from = 0, wholly = 0;
    for (const other of this.mask ? this.view.people.values() : []) {
      if (other.id === this.view.chosen.id && !this.adding) continue;
      if (!other.mask || !other.drawn) continue;
      const count = shared(this.mask, other.mask);
      if (!count) continue;
      if (other.origin === "auto") {
        taken += count;
        from += 1;
        // What is left of a mask keeps to its point.
        const [x, y] = [Math.round(other.x), Math.round(other.y)];
        if (holds(other.mask, x, y) && holds(this.mask, x, y)) wholly += 1;
      } else this.clashes.push(common(this.mask, other.mask));
    }
    const place = this.point ?? this.view.chosen;
    const misses = this.mask && !holds(this.mask, Math.round(place.x), Math.round(place.y));
    this.bad = Boolean(this.clashes.length || misses);
    this.note = this.clashes.length
      ? "Red: pixels of a mask that a person drew. Erase them here, or there."
      : misses ? "The mask misses its point: paint over it, or move the point (6)."
        : taken ? takenWords(taken, from, wholly)
          : this.drafting ? "Not saved yet. A saves, U takes the last step back, Esc discards." : "";
    this.view.draftChanged();
  }

  /** Ask the network with all clicks. */
  async #ask() {
    const { row, chosen } = this.view;
    const asked = (this.asked += 1);
    const body = {
      split: row.split, image_id: row.image_id, point_id: this.adding ? null : chosen.id,
      clicks: this.clicks.map(([x, y, on]) => [x, y, on ? 1 : 0]),
    };
    if (this.point) body.xy = [this.point.x, this.point.y];
    this.busy += 1;
    this.view.hintChanged();
    const began = performance.now();
    try {
      const { mask } = await api.post("/api/prompt", body);
      if (asked !== this.asked || !this.drafting) return;
      document.body.dataset.click = Math.round(performance.now() - began);
      this.draft = this.#draft(mask);
      this.#drawn();
      if (!mask) this.say("The network draws nothing here; use the brush (4).", true);
    } catch (error) {
      if (asked !== this.asked) return;
      if (error.kind === "no_clicks") this.view.noClicks(error.message);
      this.draft ??= this.#draft(this.adding ? null : chosen.mask);
      this.#drawn();
      this.say(error.message, true);
    } finally {
      this.busy = Math.max(0, this.busy - 1);
      this.view.hintChanged();
      document.body.dataset.prompts = Number(document.body.dataset.prompts ?? 0) + 1;
    }
  }
}

function takenWords(taken, from, wholly) {
  const lost = !wholly ? "" : from === 1 ? ", who keeps no mask" : `, ${wholly} of whom keep${wholly > 1 ? "" : "s"} no mask`;
  return `Takes ${taken} px from ${from} neighbour${from > 1 ? "s" : ""}${lost}. A saves.`;
}
