// Fifty crops on a screen: mark the wrong ones, accept the others with one key.

import * as api from "./api.js";
import { squareOf } from "./frames.js";
import { keyOf } from "./queue.js";
import { paintCrop } from "./scene.js";

const PAGE = 50;
const COLUMNS = 10;
const GAP = 6;
const LEAST_PX = 84;
const $ = (id) => document.getElementById(id);

export class GridView {
  constructor(page) {
    this.page = page;
    this.queue = null;
    this.first = 0;
    this.rows = [];
    this.marked = new Set();
    this.undoable = [];
    this.count = PAGE;
    $("grid").addEventListener("click", (event) => {
      const action = event.target.closest("[data-do]")?.dataset.do;
      if (action) this.act(action);
      const cell = event.target.closest(".cell");
      if (cell) this.mark(Number(cell.dataset.at));
    });
    new ResizeObserver(() => this.layout()).observe($("grid"));
  }

  async open(queue, first = 0) {
    this.queue = queue;
    this.layout(false);
    await this.go(first);
  }

  /** How many crops the screen holds without scrolling, and how large: ten columns, five rows. */
  layout(again = true) {
    const box = $("cells");
    const width = box.clientWidth - 32, height = box.clientHeight - 16;
    if (width <= 0 || height <= 0) return;
    let columns = COLUMNS, lines = PAGE / COLUMNS;
    const sizeOf = () => Math.floor(Math.min((width - GAP * (columns - 1)) / columns, (height - GAP * (lines - 1)) / lines));
    while (sizeOf() < LEAST_PX && lines > 1) lines--;
    while (sizeOf() < LEAST_PX && columns > 1) columns--;
    this.columns = columns;
    this.size = sizeOf();
    const before = this.count;
    this.count = columns * lines;
    box.style.gridTemplateColumns = `repeat(${columns}, ${this.size}px)`;
    box.style.gridAutoRows = `${this.size}px`;
    if (again && this.queue && before !== this.count) this.go(this.first);
  }

  async go(first) {
    const queue = this.queue;
    const last = Math.max(0, Math.floor((queue.length - 1) / this.count) * this.count);
    this.first = Math.max(0, Math.min(last, first));
    this.marked.clear();
    const asked = this.first;
    const began = performance.now();
    let rows = [];
    try {
      rows = await queue.slice(asked, this.count);
    } catch (error) {
      this.page.failed(error);
    }
    if (this.queue !== queue || this.first !== asked) return;
    this.rows = rows;
    this.render();
    document.body.dataset.page = `${asked}:${Math.round(performance.now() - began)}`;
    this.page.moved(asked);
    queue.slice(asked + this.count, this.count).then((next) => {
      for (const row of next) new Image().src = api.cropUrl(row, this.crop(row), this.pixels());
    }).catch(() => {});
  }

  crop(row) {
    return squareOf(row, 2.4, 4, 24);
  }

  /** Side of the pictures that are asked for: few sizes, so that they are found again. */
  pixels() {
    const wanted = this.size * (window.devicePixelRatio || 1);
    return [96, 128, 192, 256].find((size) => size >= wanted * 0.9) ?? 384;
  }

  render() {
    const empty = !this.rows.length;
    $("empty-grid").hidden = !empty;
    $("empty-grid").textContent = empty ? this.page.emptyWords() : "";
    const focused = document.activeElement?.dataset?.at;
    $("cells").replaceChildren(...this.rows.map((row, at) => this.cell(row, at)));
    if (focused !== undefined) $("cells").children[Math.min(focused, this.rows.length - 1)]?.focus();
    this.words();
  }

  cell(row, at) {
    const { person } = row;
    const cell = document.createElement("button");
    cell.type = "button";
    cell.className = `cell ${person.verdict}`;
    cell.dataset.at = at;
    cell.dataset.person = `${keyOf(row)}/${person.id}`;
    const photo = document.createElement("img");
    photo.alt = "";
    photo.decoding = "async";
    const square = this.crop(row);
    photo.src = api.cropUrl(row, square, this.pixels());
    const overlay = document.createElement("canvas");
    paintCrop(overlay, person, square, this.size);
    const tag = document.createElement("span");
    tag.className = "tag";
    tag.textContent = person.score === null ? "–" : person.score.toFixed(2);
    const mark = document.createElement("span");
    mark.className = "mark";
    cell.append(photo, overlay, tag, mark);
    this.press(cell, row, at);
    return cell;
  }

  press(cell, row, at) {
    const { person } = row;
    const on = this.marked.has(at);
    cell.setAttribute("aria-pressed", String(on));
    const marks = { accepted: "✓", corrected: "✓", rejected: "✕", deleted: "✕" };
    const state = marks[person.verdict] ?? (person.mask ? "" : "no mask");
    cell.querySelector(".mark").textContent = on ? "wrong" : state;
    const why = person.reasons.map((name) => name.replaceAll("_", " ")).join(", ");
    cell.setAttribute("aria-label", `Point ${person.id}, score ${person.score?.toFixed(2) ?? "none"}${why && `, ${why}`}, ${on ? "marked wrong" : person.verdict}${person.mask ? "" : ", no mask"}`);
    cell.title = why;
  }

  mark(at) {
    if (!this.rows[at]) return;
    if (!this.marked.delete(at)) this.marked.add(at);
    this.press($("cells").children[at], this.rows[at], at);
    this.words();
  }

  words() {
    const { length } = this.queue;
    const from = length ? this.first + 1 : 0;
    const to = Math.min(this.first + this.count, length);
    const marked = this.marked.size ? ` · ${this.marked.size} marked` : "";
    $("grid-words").textContent = `${from.toLocaleString("en")}–${to.toLocaleString("en")} of ${length.toLocaleString("en")}${marked}`;
    const mending = this.page.mending.length;
    $("grid").querySelector('[data-do="mend"]').firstChild.textContent = `Mend list${mending ? ` (${mending})` : ""} `;
  }

  /** Decide the page: all but the marked are accepted; the marked rejected, or left for mending. */
  async decide(reject) {
    if (this.deciding || !this.rows.length) return;
    this.deciding = true;
    try {
      const verdictOf = (row, at) => (this.marked.has(at) ? (reject ? "rejected" : null) : "accepted");
      const chosen = this.rows.map((row, at) => [row, verdictOf(row, at)])
        // What was decided already stays, unless it is marked.
        .filter(([row, verdict]) => verdict && row.person.verdict !== verdict && !(verdict === "accepted" && row.person.verdict !== "open"));
      const items = chosen.map(([row, verdict]) => ({
        split: row.split, image_id: row.image_id, point_id: row.person.id, verdict, expected: row.person.decision,
      }));
      const { results } = items.length ? await api.post("/api/decide_many", { items, source: "grid" }) : { results: [] };
      const written = [];
      const told = [];
      results.forEach((result, k) => {
        const [row] = chosen[k];
        if (result.error) {
          told.push(result.error);
          this.queue.forget(row.rank);
          return;
        }
        written.push(result.decision);
        this.queue.update(keyOf(row), result.people);
        this.page.changed(keyOf(row), result.people);
      });
      if (!reject) this.page.mend([...this.marked].map((at) => this.rows[at].rank));
      const marked = this.marked.size;
      if (written.length) this.undoable.push({ written, first: this.first });
      const left = reject ? (marked ? `, ${marked} rejected` : "") : marked ? `, ${marked} to mend (M)` : "";
      this.page.toast(`${written.length - (reject ? marked : 0)} accepted${left}.`);
      if (told.length) this.page.toast(`${told.length} not decided: ${told[0]}`, true);
      this.page.decided(written.at(-1) ?? null);
      if (this.first + this.count < this.queue.length) await this.go(this.first + this.count);
      else {
        await this.go(this.first);
        this.page.toast("The end of the list.");
      }
    } catch (error) {
      this.page.failed(error);
    } finally {
      this.deciding = false;
    }
  }

  async undo() {
    const last = this.undoable.pop();
    if (!last) {
      this.page.toast("Nothing to undo.");
      return;
    }
    let undone = 0, problem = null;
    for (const decision of last.written) {
      try {
        const { split, image_id, point_id, id } = decision;
        const outcome = await api.post("/api/undo", { split, image_id, point_id, expected: id });
        this.queue.update(`${split}/${image_id}`, outcome.people);
        this.page.changed(`${split}/${image_id}`, outcome.people);
        undone += 1;
      } catch (error) {
        problem = error;
      }
    }
    this.page.toast(`${undone} undone.`);
    if (problem) this.page.failed(problem);
    this.page.decided(null);
    await this.go(last.first);
  }

  act(action) {
    const focused = document.activeElement?.closest?.(".cell");
    const at = focused ? Number(focused.dataset.at) : null;
    const steps = { left: -1, right: 1, up: -this.columns, down: this.columns };
    if (action in steps) {
      const to = at === null ? 0 : at + steps[action];
      $("cells").children[to]?.focus();
    } else if (action === "mark") {
      if (at !== null) this.mark(at);
    } else if (action === "look") {
      if (at !== null) this.page.lookAt(this.first + at);
    } else if (action === "accept") this.decide(false);
    else if (action === "reject") this.decide(true);
    else if (action === "next") this.go(this.first + this.count);
    else if (action === "previous") this.go(this.first - this.count);
    else if (action === "undo") this.undo();
    else if (action === "mend") this.page.openMending();
    else if (action === "masks") $("grid").classList.toggle("no-overlay");
  }
}
