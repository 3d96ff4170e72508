// One mask at a time: look, decide, mend.

import * as api from "./api.js";
import { PhotoCanvas } from "./canvas.js";
import { Draft, holds, shared } from "./masks.js";
import { keyOf } from "./queue.js";
import { paint } from "./scene.js";

const AHEAD = 4;
const ROWS_AHEAD = 25;
const HINTS = {
  select: "",
  plus: "Click on the person. Shift or right button: this is not the person.",
  minus: "Click on what is not the person.",
  brush: "Paint. Shift erases.",
  eraser: "Erase. Shift paints.",
  move: "Click where the point belongs.",
  add: "Click on the head of a person whom nobody has marked.",
};
const WORDS = { accepted: "accepted", corrected: "corrected", rejected: "rejected", deleted: "nobody", added: "added", open: "open" };
const NOBODY = { id: null, r: null, status: "", score: null, reasons: [], origin: null, drawn: false, verdict: "open", decision: null, reviewer: null, mask: null };
const $ = (id) => document.getElementById(id);

/** The square of the photo that shows a person well: in parts of the disc and of the mask's reach. */
export function squareOf({ person, width, height }, room = 7, reaches = 3, least = 60) {
  const radius = person.r ?? 24;
  const mask = person.mask;
  const reach = mask ? Math.max(person.x - mask.x, mask.x + mask.w - person.x, person.y - mask.y, mask.y + mask.h - person.y) : 0;
  const side = Math.round(Math.min(Math.max(room * radius, reaches * reach, least), Math.max(width, height)));
  return { x: Math.round(person.x + 0.5 - side / 2), y: Math.round(person.y + 0.5 - side / 2), side };
}

/** The square that shows all of a photo. */
const wholeOf = ({ width, height }) => {
  const side = Math.max(width, height);
  return { x: Math.round((width - side) / 2), y: Math.round((height - side) / 2), side };
};

export class OneView {
  /** `page` tells and hears of what both views share: toast, decided, words of reasons. */
  constructor(page) {
    this.page = page;
    this.queue = null;
    this.place = 0;
    this.row = null;
    this.images = new Map();
    this.undoable = [];
    this.tool = "select";
    this.brush = 6;
    this.show = { masks: true, discs: true };
    this.prepared = false;
    this.clear();
    this.canvas = new PhotoCanvas($("canvas"), {
      draw: (context, view) => paint(context, view, this.scene()),
      changed: () => this.viewChanged(),
    });
    this.listen();
    this.pickTool("select");
  }

  /** Work on a list from a place on. */
  async open(queue, place) {
    this.queue = queue;
    await this.go(place);
  }

  /** Go to a place of the list. */
  async go(place, { force = false } = {}) {
    const queue = this.queue;
    if (this.drafting && !force) this.page.toast("The draft was discarded.");
    this.clear();
    if (!queue.length) {
      this.row = this.chosen = null;
      this.place = 0;
      this.render();
      return;
    }
    this.place = Math.max(0, Math.min(queue.length - 1, place));
    const asked = this.place;
    const began = performance.now();
    const row = queue.known(asked) ?? (await queue.slice(asked, ROWS_AHEAD))[0];
    if (!row || this.queue !== queue || this.place !== asked) return;
    this.look(row, began);
    this.ahead();
  }

  /** Show a row of the queue, or a person of the image beside it. */
  look(row, began = performance.now()) {
    this.row = row;
    this.chosen = row.person;
    this.shownSince = Date.now();
    const image = this.image(row);
    if (!this.surveying) image.people.set(row.person.id, row.person);
    if (!image.detailed) image.window = null;
    this.canvas.frame(row, this.surveying ? wholeOf(row) : squareOf(row));
    this.began = began;
    this.fetchPeople();
    this.render();
    this.page.moved(this.place);
  }

  /** Show a person who is no row of the list: a neighbour, or one that was added. */
  visit(person) {
    const row = { ...this.row, rank: null, person };
    this.look(row);
    this.page.toast(person.id >= 500000 ? "A person who was added." : `Point ${person.id}, not the list's next.`);
  }

  /** Show a photo in which nobody has a point, to add persons. */
  survey(photo) {
    if (this.drafting) this.page.toast("The draft was discarded.");
    this.clear();
    this.look({ ...photo, rank: null, crowd: 0, person: { ...NOBODY, x: (photo.width - 1) / 2, y: (photo.height - 1) / 2 } });
    this.pickTool("add");
  }

  /** Whether a photo is looked at, and nobody in it. */
  get surveying() {
    return this.row !== null && this.chosen.id === null;
  }

  image(row) {
    const key = keyOf(row);
    let image = this.images.get(key);
    this.images.delete(key);
    image ??= { people: new Map(), window: null, points: null, detailed: true };
    this.images.set(key, image);
    if (this.images.size > 12) this.images.delete(this.images.keys().next().value);
    return image;
  }

  /** Fetch the persons in view, unless they are here. */
  async fetchPeople(row = this.row, wanted = this.canvas.window(0.35), needed = this.canvas.window(0)) {
    const image = this.image(row);
    const { window: held } = image;
    if (held && image.detailed && held.x0 <= needed.x0 && held.y0 <= needed.y0 && held.x1 >= needed.x1 && held.y1 >= needed.y1) return;
    const asking = JSON.stringify(wanted);
    if (image.asking === asking) return;
    image.asking = asking;
    try {
      const path = `/api/people/${encodeURIComponent(row.split)}/${row.image_id}`;
      let [window, answer] = [wanted, await api.get(path, wanted)];
      // Too many for a margin: of those in view alone the masks may still be few enough.
      if (!answer.detailed && image.asking === asking) [window, answer] = [needed, await api.get(path, needed)];
      // A later question has a later answer.
      if (image.asking !== asking) return;
      image.window = window;
      image.detailed = answer.detailed;
      image.points = answer.points ?? null;
      if (answer.people) this.take(image, answer.people, true);
    } catch (error) {
      this.page.failed(error);
    } finally {
      if (image.asking === asking) image.asking = null;
    }
    this.canvas.refresh();
  }

  /** Take in persons of an image; with `all`, no others are kept. */
  take(image, people, all = false) {
    const before = image.people;
    if (all) image.people = new Map();
    for (const person of people) {
      const known = before.get(person.id);
      // What is the same keeps its pictures.
      const same = known && known.decision === person.decision && JSON.stringify(known.mask?.runs) === JSON.stringify(person.mask?.runs)
        && known.mask?.x === person.mask?.x && known.mask?.y === person.mask?.y;
      image.people.set(person.id, same ? known : person);
    }
    if (this.row && this.image(this.row) === image && !this.surveying) {
      const id = this.chosen.id;
      this.chosen = image.people.get(id) ?? this.chosen;
      image.people.set(id, this.chosen);
      this.row.person = this.chosen;
    }
  }

  viewChanged() {
    const { scale, x, y } = this.canvas.view;
    Object.assign($("canvas").dataset, { scale, x, y });
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.row && this.fetchPeople(), 80);
  }

  /** Fetch what comes next before it is wanted. */
  async ahead() {
    const { queue, place } = this;
    // Rows come in blocks, long before they are shown.
    if (!queue.known(Math.min(place + ROWS_AHEAD / 2, queue.length - 1) | 0)) {
      queue.slice(place + 1, ROWS_AHEAD).catch(() => {});
    }
    const rows = await queue.slice(place + 1, AHEAD).catch(() => []);
    for (const row of rows) {
      if (this.place !== place || this.queue !== queue) return;
      const square = squareOf(row);
      await this.canvas.prefetch(row, square);
      const image = this.image(row);
      if (image.window === null && keyOf(row) !== keyOf(this.row)) {
        const margin = 1.5 * square.side;
        const inside = (value, limit) => Math.round(Math.max(0, Math.min(limit, value)));
        const window = {
          x0: inside(square.x - margin, row.width - 1), y0: inside(square.y - margin, row.height - 1),
          x1: inside(square.x + square.side + margin, row.width) || 1, y1: inside(square.y + square.side + margin, row.height) || 1,
        };
        await this.fetchPeople(row, window, window);
      }
    }
  }

  // --- the draft ---

  clear() {
    this.draft = null;
    this.mask = null;
    this.clicks = [];
    this.point = null;
    this.adding = false;
    this.steps = [];
    this.cursor = null;
    this.busy = 0;
    this.clashes = [];
    this.note = "";
  }

  get drafting() {
    return this.draft !== null || this.clicks.length > 0 || this.point !== null;
  }

  /** Remember the draft as it is, for undo. */
  step() {
    this.steps.push({ draft: this.draft?.copy() ?? null, clicks: this.clicks.slice(), point: this.point, adding: this.adding });
  }

  /** Set the draft's mask, and see whose pixels it takes. */
  drafted() {
    this.mask = this.draft?.mask() ?? null;
    this.clashes = [];
    let taken = 0, from = 0;
    const image = this.row && this.image(this.row);
    if (this.mask && image) {
      for (const other of image.people.values()) {
        if (other.id === this.chosen?.id && !this.adding) continue;
        if (!other.mask || !other.drawn) continue;
        const count = shared(this.mask, other.mask);
        if (!count) continue;
        if (other.origin === "auto") {
          taken += count;
          from += 1;
        } else {
          this.clashes.push(common(this.mask, other.mask));
        }
      }
    }
    const place = this.point ?? this.chosen;
    const misses = this.mask && place && !holds(this.mask, Math.round(place.x), Math.round(place.y));
    this.bad = this.clashes.length > 0 || misses;
    this.note = this.clashes.length
      ? "Red: pixels of a mask that a person drew. Erase them here, or there."
      : misses ? "The mask misses its point: paint over it, or move the point (6)."
        : taken ? `Takes ${taken} px from ${from} neighbour${from > 1 ? "s" : ""}. A saves.`
          : this.drafting ? "Not saved yet. A saves, U takes the last step back, Esc discards." : "";
    this.render();
  }

  /** Ask the network with all clicks. */
  async prompt() {
    const asked = (this.asked = (this.asked ?? 0) + 1);
    const body = {
      split: this.row.split, image_id: this.row.image_id,
      point_id: this.adding ? null : this.chosen.id,
      clicks: this.clicks.map(([x, y, on]) => [x, y, on ? 1 : 0]),
    };
    if (this.point) body.xy = [this.point.x, this.point.y];
    this.busy += 1;
    this.renderHint();
    const began = performance.now();
    try {
      const { mask } = await api.post("/api/prompt", body);
      if (asked !== this.asked || !this.drafting) return;
      this.prepared = true;
      document.body.dataset.click = Math.round(performance.now() - began);
      this.draft = new Draft(this.row.width, this.row.height, mask);
      this.drafted();
      if (!mask) this.say("The network draws nothing here; use the brush (4).", true);
    } catch (error) {
      if (asked !== this.asked) return;
      if (error.kind === "no_clicks") this.page.noClicks(error.message);
      this.draft ??= new Draft(this.row.width, this.row.height, this.adding ? null : this.chosen.mask);
      this.drafted();
      this.say(error.message, true);
    } finally {
      this.busy = Math.max(0, this.busy - 1);
      this.renderHint();
      document.body.dataset.prompts = asked;
    }
  }

  say(words, bad = false) {
    this.note = words;
    this.bad = bad;
    this.renderHint();
  }

  /** A tool used at a place in corner coordinates; `first` begins a stroke. */
  use(at, { first = true, opposite = false } = {}) {
    if (!this.row) return;
    const x = Math.max(0, Math.min(this.row.width - 1, at.x - 0.5)), y = Math.max(0, Math.min(this.row.height - 1, at.y - 0.5));
    const tool = this.tool;
    if (this.surveying && !this.adding && tool !== "add" && tool !== "select") {
      this.say("Nobody has a point here: add a person first (7).", true);
      return;
    }
    if (tool === "plus" || tool === "minus") {
      this.step();
      this.clicks.push([x, y, (tool === "plus") !== opposite]);
      this.render();
      this.prompt();
    } else if (tool === "brush" || tool === "eraser") {
      if (first) {
        this.step();
        this.last = at;
      }
      this.draft ??= new Draft(this.row.width, this.row.height, this.adding ? null : this.chosen.mask);
      const value = (tool === "brush") !== opposite ? 1 : 0;
      const steps = Math.max(1, Math.ceil(Math.hypot(at.x - this.last.x, at.y - this.last.y) / Math.max(1, this.brush / 2)));
      for (let k = 1; k <= steps; k++) {
        const part = k / steps;
        this.draft.paint(this.last.x + (at.x - this.last.x) * part, this.last.y + (at.y - this.last.y) * part, this.brush, value);
      }
      this.last = at;
      this.drafted();
    } else if (tool === "move") {
      this.step();
      this.point = { x, y };
      const mask = this.mask ?? this.chosen.mask;
      if (holds(mask, Math.round(x), Math.round(y))) {
        this.draft ??= new Draft(this.row.width, this.row.height, mask);
        this.drafted();
      } else {
        this.prompt();
      }
    } else if (tool === "add") {
      this.step();
      this.adding = true;
      this.point = { x, y };
      this.clicks = [];
      this.prompt();
    } else {
      this.pick(at);
    }
    this.canvas.refresh();
  }

  /** Go to the person at a place. */
  pick(at) {
    const image = this.image(this.row);
    let best = null, nearest = 12 / this.canvas.view.scale;
    for (const person of image.people.values()) {
      const away = Math.hypot(person.x + 0.5 - at.x, person.y + 0.5 - at.y);
      if (away < nearest) [best, nearest] = [person, away];
    }
    if (!best) {
      best = [...image.people.values()].find((one) => one.drawn && holds(one.mask, Math.floor(at.x), Math.floor(at.y)));
    }
    if (!best || best.id === this.chosen?.id) return;
    this.visit(best);
  }

  // --- decisions ---

  async decide(verdict) {
    if (!this.row || this.deciding) return;
    const { row, chosen } = this;
    const drafted = verdict === "accepted" && this.drafting;
    if (this.surveying && !(drafted && this.adding)) return;
    const base = { split: row.split, image_id: row.image_id, seconds: (Date.now() - this.shownSince) / 1000, source: "page" };
    if (drafted && (!this.mask || this.busy)) {
      this.say(this.busy ? "Wait for the network." : "The draft has no pixels: reject, or discard it.", true);
      return;
    }
    this.deciding = true;
    try {
      let outcome;
      if (drafted && this.adding) {
        outcome = await api.post("/api/add", { ...base, xy: [this.point.x, this.point.y], mask: this.mask });
      } else {
        const body = { ...base, point_id: chosen.id, verdict: drafted ? "corrected" : verdict, expected: chosen.decision };
        if (drafted) body.mask = this.mask;
        if (this.point && !this.adding) body.xy = [this.point.x, this.point.y];
        outcome = await api.post("/api/decide", body);
      }
      const added = drafted && this.adding;
      this.settled(row, outcome);
      this.undoable.push(outcome.decision);
      this.clear();
      this.page.decided(outcome.decision);
      if (added) {
        this.page.toast("A person was added.");
        this.pickTool("select");
        this.render();
      } else if (row.rank === null) {
        this.page.toast(`Point ${chosen.id}: ${WORDS[outcome.decision.verdict]}.`);
        this.go(this.place, { force: true });
      } else {
        await this.next();
      }
    } catch (error) {
      await this.refused(error);
    } finally {
      this.deciding = false;
    }
  }

  async refused(error) {
    if (error.kind === "conflict") {
      this.page.toast(`${error.message}. Shown as it is now.`, true);
      await this.reload();
    } else {
      this.say(error.message, true);
      this.page.failed(error);
    }
  }

  /** Take in what a decision changed. */
  settled(row, outcome) {
    this.take(this.image(row), outcome.people);
    this.queue.update(keyOf(row), outcome.people);
    this.page.changed(keyOf(row), outcome.people);
    this.canvas.refresh();
  }

  /** Undo: a step of the draft, else the last decision of this page, else that on this person. */
  async undo() {
    if (this.steps.length) {
      Object.assign(this, this.steps.pop());
      this.asked = (this.asked ?? 0) + 1;
      if (this.clicks.length && !this.draft) this.prompt();
      this.drafted();
      return;
    }
    const last = this.undoable.pop();
    const person = last ?? (this.chosen?.decision ? { ...this.row, point_id: this.chosen.id, id: this.chosen.decision, rank: this.row.rank } : null);
    if (!person) {
      this.page.toast("Nothing to undo.");
      return;
    }
    try {
      const outcome = await api.post("/api/undo", {
        split: person.split, image_id: person.image_id, point_id: person.point_id, expected: person.id,
      });
      this.settled(person, outcome);
      if (outcome.decision.verdict === "open" && person.point_id >= 500000) {
        this.image(person).people.delete(person.point_id);
      }
      this.page.decided(outcome.decision);
      const place = person.rank === null ? -1 : this.queue.ranks.indexOf(person.rank);
      this.page.toast(`Point ${person.point_id}: ${WORDS[outcome.decision.verdict]} again.`);
      if (this.surveying && person.rank === null) {
        this.render();
        return;
      }
      await this.go(place >= 0 ? place : this.place, { force: true });
    } catch (error) {
      await this.refused(error);
    }
  }

  discard() {
    this.asked = (this.asked ?? 0) + 1;
    this.clear();
    if (this.tool === "add") this.pickTool("select");
    this.render();
  }

  async next() {
    if (this.surveying && this.queue.length) {
      // Back to where the list was left.
      await this.go(this.place);
      return;
    }
    if (this.place + 1 >= this.queue.length) {
      this.clear();
      this.render();
      this.page.toast("The end of the list.");
      return;
    }
    await this.go(this.place + 1);
  }

  async reload() {
    if (!this.row) return;
    this.image(this.row).window = null;
    if (this.row.rank === null) {
      await this.fetchPeople();
      this.clear();
      this.render();
    } else {
      this.queue.forget(this.row.rank);
      this.clear();
      await this.go(this.place, { force: true });
    }
  }

  // --- keys and pointer ---

  act(action) {
    const [name, tool] = action.split(":");
    if (name === "tool") this.pickTool(tool);
    else if (name === "accept") this.decide("accepted");
    else if (name === "reject") this.decide("rejected");
    else if (name === "remove") this.decide("deleted");
    else if (name === "undo") this.undo();
    else if (name === "discard") this.discard();
    else if (name === "next") this.next();
    else if (name === "previous") this.go(this.surveying ? this.place : this.place - 1);
    else if (name === "masks" || name === "discs") this.toggle(name);
    else if (name === "smaller" || name === "larger") this.setBrush(this.brush + (name === "larger" ? 1 : -1));
    else if (name === "closer" || name === "farther") this.canvas.zoom(name === "closer" ? 1.25 : 0.8);
    else if (name === "fit") this.canvas.fit();
    else if (name === "apply" && this.tool !== "select" && this.cursor) this.use(this.cursor);
  }

  /** Move the cross with the arrow keys; false where no tool is chosen. */
  moveCross(event) {
    if (this.tool === "select" || !this.row) return false;
    const step = event.shiftKey ? 8 : 1;
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[event.key];
    if (!way) return false;
    const from = this.cursor ?? { x: this.chosen.x + 0.5, y: this.chosen.y + 0.5 };
    this.keyboard = true;
    this.cursor = { x: from.x + way[0] * step, y: from.y + way[1] * step };
    this.canvas.reveal(this.cursor);
    this.canvas.refresh();
    return true;
  }

  toggle(name) {
    this.show[name] = !this.show[name];
    $(`show-${name}`).checked = this.show[name];
    this.canvas.refresh();
  }

  pickTool(tool) {
    this.tool = tool;
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    }
    $("canvas").style.cursor = tool === "select" ? "grab" : "crosshair";
    if (tool === "select") this.cursor = null;
    else if (this.chosen) this.cursor ??= { x: this.chosen.x + 0.5, y: this.chosen.y + 0.5 };
    this.keyboard = false;
    if ((tool === "plus" || tool === "minus") && this.row && !this.surveying && !this.prepared) this.prepare();
    this.renderHint();
    this.canvas?.refresh();
  }

  /** Have the network loaded before the first click. */
  async prepare() {
    this.prepared = true;
    const { split, image_id } = this.row;
    await api.post("/api/prepare", { split, image_id, point_id: this.chosen.id }).catch((error) => {
      if (error.kind === "no_clicks") this.page.noClicks(error.message);
    });
  }

  setBrush(radius) {
    this.brush = Math.max(0, Math.min(40, radius));
    $("size").value = this.brush;
    $("size-words").value = `${2 * this.brush + 1} px`;
    this.canvas?.refresh();
  }

  listen() {
    const element = $("canvas");
    let drag = null;
    const placeOf = (event) => {
      const box = element.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (this.row) this.canvas.zoom(Math.exp(-event.deltaY * 0.0015), placeOf(event));
    }, { passive: false });
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("pointerdown", (event) => {
      if (!this.row) return;
      element.setPointerCapture(event.pointerId);
      const at = placeOf(event);
      this.keyboard = false;
      const pans = event.button === 1 || this.tool === "select";
      drag = { at, from: at, pans, opposite: event.shiftKey || event.button === 2 };
      if (!pans) this.use(this.canvas.toPhoto(at), { opposite: drag.opposite });
    });
    element.addEventListener("pointermove", (event) => {
      const at = placeOf(event);
      if (this.row && this.tool !== "select") {
        this.cursor = this.canvas.toPhoto(at);
        this.keyboard = false;
        this.canvas.refresh();
      }
      if (!drag) return;
      if (drag.pans) this.canvas.pan(at.x - drag.at.x, at.y - drag.at.y);
      else if (this.tool === "brush" || this.tool === "eraser") {
        this.use(this.canvas.toPhoto(at), { first: false, opposite: drag.opposite });
      }
      drag.at = at;
    });
    element.addEventListener("pointerup", (event) => {
      const at = placeOf(event);
      if (drag?.pans && this.tool === "select" && Math.hypot(at.x - drag.from.x, at.y - drag.from.y) < 4) {
        this.use(this.canvas.toPhoto(at));
      }
      drag = null;
    });
    $("tools").addEventListener("click", (event) => {
      const tool = event.target.closest("[data-tool]")?.dataset.tool;
      if (tool) this.pickTool(tool);
    });
    $("one").addEventListener("click", (event) => {
      const action = event.target.closest("[data-do]")?.dataset.do;
      if (action) this.act(action);
    });
    $("size").addEventListener("input", (event) => this.setBrush(Number(event.target.value)));
    for (const name of ["masks", "discs"]) {
      $(`show-${name}`).addEventListener("change", () => this.toggle(name));
    }
    this.setBrush(this.brush);
  }

  // --- what is seen ---

  scene() {
    const image = this.row ? this.image(this.row) : { people: new Map(), points: null };
    const painting = this.tool === "brush" || this.tool === "eraser";
    if (this.began && this.canvas.complete()) {
      document.body.dataset.shown = `${this.place}:${Math.round(performance.now() - this.began)}`;
      document.body.dataset.first ??= Math.round(performance.now());
      this.began = null;
    }
    return {
      people: image.detailed ? [...image.people.values()] : [], points: image.detailed ? null : image.points,
      chosen: this.surveying ? null : this.chosen, draft: this.mask, drafting: this.drafting, clicks: this.clicks,
      point: this.point, clashes: this.clashes, masks: this.show.masks, discs: this.show.discs,
      cursor: this.tool === "select" ? null : this.cursor, brush: painting ? this.brush : null,
      keyboard: this.keyboard,
    };
  }

  render() {
    const { row, chosen, queue } = this;
    const none = !row;
    $("empty-one").hidden = !none;
    $("empty-one").textContent = none ? this.page.emptyWords() : "";
    if (none) this.canvas.row = null;
    const lone = this.surveying;
    document.body.dataset.person = none || lone ? "" : `${row.split}/${row.image_id}/${chosen.id}`;
    for (const button of $("one").querySelectorAll("[data-do], [data-tool]")) {
      const action = button.dataset.do;
      const cant = lone && (action === "reject" || action === "remove" || (action === "accept" && !this.adding));
      button.disabled = action === "undo" ? false : action === "discard" ? !this.drafting : none || cant;
      if (action === "accept") {
        button.firstChild.textContent = this.drafting || lone ? "Save " : none || chosen.mask ? "Accept " : "Right: none ";
      }
    }
    if (none) {
      for (const id of ["place", "image-name", "facts", "verdict"]) $(id).textContent = "";
      $("reasons").replaceChildren();
      this.renderHint();
      this.canvas.refresh();
      return;
    }
    $("place").textContent = lone ? "A photo without points" : row.rank === null ? "Beside the list" : `${(this.place + 1).toLocaleString("en")} of ${queue.length.toLocaleString("en")}`;
    $("image-name").textContent = `\u200e${row.image}`;
    $("image-name").title = row.image;
    const score = chosen.score === null ? "no score" : `score ${chosen.score.toFixed(2)}`;
    $("facts").textContent = lone ? "Click on heads to add people." : `Point ${chosen.id} · ${score} · ${row.crowd.toLocaleString("en")} people`;
    const verdict = this.drafting ? "draft" : lone ? "" : chosen.verdict;
    const by = chosen.reviewer && verdict !== "open" && chosen.reviewer !== this.page.reviewer ? ` by ${chosen.reviewer}` : "";
    $("verdict").className = `pill ${verdict}`;
    $("verdict").textContent = verdict === "draft" ? "not saved" : (WORDS[verdict] ?? verdict) + by;
    const reasons = lone ? [] : [...(chosen.mask ? [] : [["no mask", `status: ${chosen.status}`]]),
      ...chosen.reasons.map((name) => [name.replaceAll("_", " "), this.page.reasonWords(name)])];
    $("reasons").replaceChildren(...reasons.map(([name, words]) => {
      const item = document.createElement("li");
      item.textContent = name;
      item.title = words;
      return item;
    }));
    const state = chosen.mask ? "has a mask" : "has no mask";
    $("canvas").setAttribute("aria-label", lone ? `${row.image}, without a point` : `Point ${chosen.id} of ${row.image}, ${score}, ${state}, ${WORDS[chosen.verdict] ?? chosen.verdict}`);
    this.renderHint();
    this.canvas.refresh();
  }

  renderHint() {
    const hint = $("hint");
    const working = document.body.dataset.click ? "The network is drawing …" : "The network is loaded and drawing: the first time takes some seconds …";
    const words = this.busy ? working : this.note || HINTS[this.tool];
    hint.textContent = words;
    hint.classList.toggle("bad", Boolean(this.bad && this.note && !this.busy));
  }
}

/** The pixels that two masks share, as a mask. */
function common(one, other) {
  const draft = new Draft(Infinity, Infinity, one);
  for (let row = 0; row < draft.h; row++) {
    for (let column = 0; column < draft.w; column++) {
      const at = row * draft.w + column;
      if (draft.pixels[at] && !holds(other, draft.x + column, draft.y + row)) draft.pixels[at] = 0;
    }
  }
  return draft.mask();
}
