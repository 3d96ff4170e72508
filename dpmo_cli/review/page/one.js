// One mask at a time: look, decide, mend.

import * as api from "./api.js";
import { PhotoCanvas } from "./canvas.js";
import { Crowds, take } from "./crowds.js";
import { squareOf, wholeOf, windowRound } from "./frames.js";
import { holds } from "./masks.js";
import { Mending } from "./mending.js";
import { showBrush, showHint, showPanel, showTool, verdictWords } from "./panel.js";
import { listenTo } from "./pointer.js";
import { keyOf } from "./queue.js";
import { paint } from "./scene.js";

const AHEAD = 4;
const ROWS_AHEAD = 25;
const BRUSH_MOST = 40;
/** Point ids of persons whom a reviewer added begin here. */
const ADDED_FROM = 500000;
/** How near a click has to be to a point to mean its person, CSS px. */
const NEAR = 12;
const NOBODY = { id: null, r: null, status: "", score: null, reasons: [], origin: null, drawn: false, verdict: "open", decision: null, reviewer: null, mask: null, lost: null };
const $ = (id) => document.getElementById(id);

export class OneView {
  /** `page` tells and hears of what both views share: toast, decided, words of reasons. */
  constructor(page) {
    this.page = page;
    this.queue = null;
    this.place = 0;
    this.row = null;
    this.chosen = null;
    this.crowds = new Crowds((error) => page.failed(error));
    this.mending = new Mending(this);
    this.undoable = [];
    this.tool = "select";
    this.brush = 0;
    this.brushPicked = false;
    this.cursor = null;
    this.shows = { masks: true, discs: true };
    this.prepared = false;
    this.canvas = new PhotoCanvas($("canvas"), {
      draw: (context, view) => paint(context, view, this.scene()),
      changed: () => this.viewChanged(),
    });
    this.listen();
    this.pickTool("select");
  }

  /** The persons of the photo, by id. */
  get people() {
    return this.crowds.of(this.row).people;
  }

  /** Whether a photo is looked at, and nobody in it. */
  get surveying() {
    return this.row !== null && this.chosen.id === null;
  }

  // --- walking ---

  /** Work on a list from a place on. */
  async open(queue, place) {
    this.queue = queue;
    await this.go(place);
  }

  /** Go to a place of the list. */
  async go(place, { force = false } = {}) {
    const queue = this.queue;
    if (this.mending.drafting && !force) this.page.toast("The draft was discarded.");
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
    const crowd = this.crowds.of(row);
    if (!this.surveying) crowd.people.set(row.person.id, row.person);
    if (!crowd.detailed) crowd.window = null;
    // Of people of all sizes a brush fits none, until somebody chooses one.
    if (!this.brushPicked) this.setBrush(Math.round(0.3 * (row.person.r ?? 20)));
    this.canvas.frame(row, this.surveying ? wholeOf(row) : squareOf(row));
    this.began = began;
    this.fetchPeople();
    this.render();
    this.page.moved(this.place);
  }

  /** Show a person who is no row of the list: a neighbour, or one that was added. */
  visit(person) {
    if (this.mending.drafting) this.page.toast("The draft was discarded.");
    this.clear();
    this.look({ ...this.row, rank: null, person });
    this.page.toast(person.id >= ADDED_FROM ? "A person who was added." : `Point ${person.id}, not the list's next.`);
  }

  /** Show a photo in which nobody has a point, to add persons. */
  survey(photo) {
    if (this.mending.drafting) this.page.toast("The draft was discarded.");
    this.clear();
    this.look({ ...photo, rank: null, crowd: 0, person: { ...NOBODY, x: (photo.width - 1) / 2, y: (photo.height - 1) / 2 } });
    this.pickTool("add");
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

  /** Look again at what has changed elsewhere. */
  async reload() {
    if (!this.row) return;
    this.crowds.of(this.row).window = null;
    if (this.row.rank === null) {
      await this.fetchPeople();
      this.clear();
      this.render();
    } else {
      this.queue.forget(this.row.rank);
      await this.go(this.place, { force: true });
    }
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
      if (this.crowds.of(row).window === null && keyOf(row) !== keyOf(this.row)) {
        const window = windowRound(square, 1.5, row);
        await this.crowds.fetch(row, window, window);
      }
    }
  }

  /** Fetch the persons in view, unless they are here. */
  async fetchPeople() {
    const { row } = this;
    if (await this.crowds.fetch(row, this.canvas.window(0.35), this.canvas.window(0))) this.taken(keyOf(row));
  }

  /** Persons of an image have changed. */
  changed(image, people) {
    const crowd = this.crowds.known(image);
    if (!crowd) return;
    take(crowd, people);
    this.taken(image);
  }

  /** Somebody else decided about a person of an image: its persons are asked for again. */
  outdated(image) {
    const crowd = this.crowds.known(image);
    if (crowd) crowd.window = null;
  }

  /** What is known of an image has changed: the person is looked at as it is now. */
  taken(image) {
    if (!this.row || keyOf(this.row) !== image) return;
    if (!this.surveying) {
      this.chosen = this.people.get(this.chosen.id) ?? this.chosen;
      this.people.set(this.chosen.id, this.chosen);
      this.row.person = this.chosen;
    }
    this.canvas.refresh();
  }

  viewChanged() {
    const { scale, x, y } = this.canvas.view;
    Object.assign($("canvas").dataset, { scale, x, y });
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.row && this.fetchPeople(), 80);
  }

  // --- mending ---

  /** Forget what is not saved. */
  clear() {
    this.mending.clear();
    this.cursor = null;
  }

  discard() {
    this.clear();
    if (this.tool === "add") this.pickTool("select");
    this.render();
  }

  draftChanged() {
    this.render();
  }

  hintChanged() {
    showHint(this);
  }

  /** Clicks can't be answered: nobody is told who has not `asked`. */
  noClicks(words, asked = true) {
    this.page.noClicks(words, asked);
  }

  /** A tool used at a place in corner coordinates; `first` begins a stroke. */
  use(at, { first = true, opposite = false } = {}) {
    if (!this.row) return;
    const { tool, mending } = this;
    const inside = (value, limit) => Math.max(0, Math.min(limit - 1, value - 0.5));
    const place = { x: inside(at.x, this.row.width), y: inside(at.y, this.row.height) };
    if (this.surveying && !mending.adding && tool !== "add" && tool !== "select") {
      mending.say("Nobody has a point here: add a person first (7).", true);
    } else if (tool === "plus" || tool === "minus") mending.click(place, (tool === "plus") !== opposite);
    else if (tool === "brush" || tool === "eraser") mending.paint(at, this.brush, (tool === "brush") !== opposite ? 1 : 0, first);
    else if (tool === "move") mending.move(place);
    else if (tool === "add") mending.add(place);
    else this.pick(at);
    this.canvas.refresh();
  }

  /** Go to the person at a place. */
  pick(at) {
    let best = null, nearest = NEAR / this.canvas.view.scale;
    for (const person of this.people.values()) {
      const away = Math.hypot(person.x + 0.5 - at.x, person.y + 0.5 - at.y);
      if (away < nearest) [best, nearest] = [person, away];
    }
    best ??= [...this.people.values()].find((one) => one.drawn && holds(one.mask, Math.floor(at.x), Math.floor(at.y)));
    if (best && best.id !== this.chosen.id) this.visit(best);
  }

  // --- deciding ---

  async decide(verdict) {
    if (!this.row || this.deciding) return;
    const { row, chosen, mending, queue, place } = this;
    // Who has walked on before the answer, or has filtered, stays there.
    const stays = () => this.row === row && this.queue === queue && this.place === place;
    const drafted = verdict === "accepted" && mending.drafting;
    const added = drafted && mending.adding;
    if (this.surveying && !added) return;
    if (drafted && (!mending.mask || mending.busy)) {
      mending.say(mending.busy ? "Wait for the network." : "The draft has no pixels: reject, or discard it.", true);
      return;
    }
    const body = { split: row.split, image_id: row.image_id, seconds: (Date.now() - this.shownSince) / 1000, source: "page" };
    if (drafted) body.mask = mending.mask;
    // The point of a person to be added is not this one's.
    if (mending.point && mending.adding === Boolean(added)) body.xy = [mending.point.x, mending.point.y];
    if (!added) Object.assign(body, { point_id: chosen.id, verdict: drafted ? "corrected" : verdict, expected: chosen.decision });
    this.deciding = true;
    try {
      const outcome = await api.post(added ? "/api/add" : "/api/decide", body);
      this.settled(row, outcome);
      this.undoable.push(outcome.decision);
      if (!stays()) return;
      this.clear();
      if (added) {
        this.page.toast("A person was added.");
        this.pickTool("select");
        this.render();
      } else if (row.rank === null) {
        this.page.toast(`Point ${chosen.id}: ${verdictWords(outcome.decision.verdict)}.`);
        this.go(this.place, { force: true });
      } else {
        await this.next();
      }
    } catch (error) {
      if (stays()) await this.refused(error);
      else this.page.failed(error);
    } finally {
      this.deciding = false;
    }
  }

  /** Undo: a step of the draft, else the last decision of this page, else that on this person. */
  async undo() {
    if (this.mending.stepBack()) return;
    const shown = this.chosen?.decision ? { ...this.row, point_id: this.chosen.id, id: this.chosen.decision } : null;
    const last = this.undoable.pop() ?? shown;
    if (!last) {
      this.page.toast("Nothing to undo.");
      return;
    }
    try {
      const { split, image_id, point_id, id, rank } = last;
      const outcome = await api.post("/api/undo", { split, image_id, point_id, expected: id });
      this.settled(last, outcome);
      const open = outcome.decision.verdict === "open";
      if (open && point_id >= ADDED_FROM) this.crowds.of(last).people.delete(point_id);
      this.page.toast(`Point ${point_id}: ${verdictWords(outcome.decision.verdict)} again.`);
      const place = rank === null ? -1 : this.queue.ranks.indexOf(rank);
      if (this.surveying && rank === null) this.render();
      else await this.go(place >= 0 ? place : this.place, { force: true });
    } catch (error) {
      await this.refused(error);
    }
  }

  /** Take in what a decision changed. */
  settled(row, outcome) {
    this.page.changed(keyOf(row), outcome.people);
    this.page.decided(outcome.decision);
  }

  async refused(error) {
    if (error.kind === "conflict") {
      this.page.toast(`${error.message}. Shown as it is now.`, true);
      await this.reload();
    } else {
      this.mending.say(error.message, true);
      this.page.failed(error);
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
    else if (name === "smaller" || name === "larger") this.pickBrush(this.brush + (name === "larger" ? 1 : -1));
    else if (name === "closer" || name === "farther") this.row && this.canvas.zoom(name === "closer" ? 1.25 : 0.8);
    else if (name === "fit") this.row && this.canvas.fit();
    else if (name === "apply" && this.row && this.tool !== "select") this.use(this.cross());
  }

  /** Where the tool is, in corner coordinates: at first on the person's point. */
  cross() {
    return this.cursor ?? { x: this.chosen.x + 0.5, y: this.chosen.y + 0.5 };
  }

  /** Move the cross with the arrow keys; false where no tool is chosen. */
  moveCross(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[event.key];
    if (this.tool === "select" || !this.row || !way) return false;
    const step = event.shiftKey ? 8 : 1;
    const { x, y } = this.cross();
    this.keyboard = true;
    this.cursor = { x: x + way[0] * step, y: y + way[1] * step };
    this.canvas.reveal(this.cursor);
    this.canvas.refresh();
    return true;
  }

  /** The pointer is at a place in corner coordinates. */
  hover(at) {
    if (this.tool === "select") return;
    this.cursor = at;
    this.keyboard = false;
    this.canvas.refresh();
  }

  toggle(name) {
    this.shows[name] = !this.shows[name];
    $(`show-${name}`).checked = this.shows[name];
    this.canvas.refresh();
  }

  pickTool(tool) {
    this.tool = tool;
    this.keyboard = false;
    this.cursor = tool === "select" || !this.row ? null : this.cross();
    if (tool === "plus" || tool === "minus") this.prepare();
    showTool(tool);
    showHint(this);
    this.canvas.refresh();
  }

  /** Have the network loaded before the first click; a large one only where a click is meant. */
  async prepare({ unasked = false } = {}) {
    if (!this.row || this.surveying || this.prepared) return;
    this.prepared = true;
    const { split, image_id } = this.row;
    try {
      this.prepared = (await api.post("/api/prepare", { split, image_id, point_id: this.chosen.id, unasked })).ready;
      if (this.prepared) document.body.dataset.prepared = Math.round(performance.now());
    } catch (error) {
      if (error.kind === "no_clicks") this.noClicks(error.message, !unasked);
    }
  }

  /** A brush that somebody chose: it stays as it is. */
  pickBrush(radius) {
    this.brushPicked = true;
    this.setBrush(radius);
  }

  setBrush(radius) {
    this.brush = Math.max(0, Math.min(BRUSH_MOST, radius));
    showBrush(this.brush);
    this.canvas.refresh();
  }

  listen() {
    listenTo($("canvas"), this);
    $("tools").addEventListener("click", (event) => {
      const tool = event.target.closest("[data-tool]")?.dataset.tool;
      if (tool) this.pickTool(tool);
    });
    $("one").addEventListener("click", (event) => {
      const action = event.target.closest("[data-do]")?.dataset.do;
      if (action) this.act(action);
    });
    $("size").addEventListener("input", (event) => this.pickBrush(Number(event.target.value)));
    for (const name of ["masks", "discs"]) {
      $(`show-${name}`).addEventListener("change", () => this.toggle(name));
    }
  }

  // --- what is seen ---

  /** What is painted over the photo. */
  scene() {
    const { mending, chosen } = this;
    const crowd = this.crowds.of(this.row);
    const painting = this.tool === "brush" || this.tool === "eraser";
    if (this.began && this.canvas.complete()) {
      document.body.dataset.shown = `${this.place}:${Math.round(performance.now() - this.began)}`;
      document.body.dataset.first ??= Math.round(performance.now());
      this.began = null;
    }
    return {
      people: crowd.detailed ? [...crowd.people.values()] : [], points: crowd.detailed ? null : crowd.points,
      chosen: this.surveying ? null : chosen, draft: mending.mask, drafting: mending.drafting,
      clicks: mending.clicks, point: mending.point, clashes: mending.clashes, ...this.shows,
      cursor: this.cursor, brush: painting ? this.brush : null, keyboard: this.keyboard,
    };
  }

  render() {
    if (!this.row) this.canvas.row = null;
    showPanel(this, this.page);
    showHint(this);
    this.canvas.refresh();
  }
}
