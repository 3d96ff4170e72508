// The page: its two views, the filter, the progress, and what other tabs decide.

import * as api from "./api.js";
import { GridView } from "./grid.js";
import { BOTH, GRID, ONE, actionOf, fillHelp } from "./keys.js";
import { OneView } from "./one.js";
import { Queue } from "./queue.js";

const POLL_MS = 3000;
const TOAST_MS = 3500;
/** After the first picture: loading the network must not hold up those that follow. */
const PREPARE_MS = 1000;
const $ = (id) => document.getElementById(id);

/** What the page keeps over a reload, for this tab. */
const kept = {
  read: (name, otherwise) => {
    try {
      return JSON.parse(sessionStorage.getItem(`${run.out}/${name}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  write: (name, value) => sessionStorage.setItem(`${run.out}/${name}`, JSON.stringify(value)),
};

let run = { out: "" };
let view = "one";
let filter = { verdict: "open" };
let queue = new Queue();
let mendingNow = false;
let last = 0;
const mine = new Set();

const page = {
  mending: [],
  get reviewer() {
    return run.reviewer;
  },
  toast(words, bad = false) {
    const toast = document.createElement("p");
    toast.className = bad ? "toast bad" : "toast";
    toast.textContent = words;
    for (const other of [...$("toasts").children]) if (other.textContent === words) other.remove();
    $("toasts").append(toast);
    while ($("toasts").children.length > 3) $("toasts").firstChild.remove();
    setTimeout(() => toast.remove(), bad ? 2 * TOAST_MS : TOAST_MS);
  },
  failed(error) {
    if (error.kind === "gone") $("gone").hidden = false;
    else this.toast(error.message, true);
  },
  reasonWords: (name) => run.reasons.find((reason) => reason.name === name)?.words ?? "",
  emptyWords() {
    if (!$("gone").hidden) return "";
    return mendingNow ? "The mend list is empty." : "No mask fits this filter.\nPress F to change it.";
  },
  /** Where a view stands, to stand there again after a reload. */
  moved(place) {
    kept.write("place", { view, place, mending: mendingNow });
  },
  /** A decision was made here. */
  decided(decision) {
    if (decision) mine.add(decision.id);
    refreshProgress();
  },
  /** Persons of an image changed; the other view is told. */
  changed(image, people) {
    queue.update(image, people);
    one.changed(image, people);
  },
  mend(ranks) {
    this.mending = [...new Set([...this.mending, ...ranks])];
    kept.write("mending", this.mending);
  },
  async openMending() {
    if (!this.mending.length) {
      this.toast("The mend list is empty: mark crops in the grid first.");
      return;
    }
    const open = [];
    const rows = await new Queue(Int32Array.from(this.mending)).slice(0, this.mending.length);
    for (const row of rows) if (row.person.verdict === "open") open.push(row.rank);
    this.mending = open;
    kept.write("mending", open);
    mendingNow = true;
    queue = new Queue(Int32Array.from(open));
    await showView("one", 0);
    describe();
  },
  lookAt: (place) => showView("one", place),
  noClicks(words, asked) {
    for (const tool of ["plus", "minus"]) {
      const button = document.querySelector(`[data-tool="${tool}"]`);
      button.title = words;
      button.classList.add("off");
    }
    if (asked) this.toast(words, true);
  },
};

const one = new OneView(page);
const grid = new GridView(page);

async function showView(name, place = null) {
  const from = view;
  view = name;
  $("one").hidden = name !== "one";
  $("grid").hidden = name !== "grid";
  $("to-one").setAttribute("aria-pressed", String(name === "one"));
  $("to-grid").setAttribute("aria-pressed", String(name === "grid"));
  const at = place ?? (from === "one" ? one.place : grid.first);
  if (name === "grid") {
    grid.layout(false);
    await grid.open(queue, Math.floor(at / grid.count) * grid.count);
  } else {
    await one.open(queue, at);
  }
}

/** The rows that the filter means; the grid shows those that have a mask. */
async function load(place = 0) {
  mendingNow = false;
  try {
    const wanted = view === "grid" && !filter.mask ? { ...filter, mask: "with" } : filter;
    queue = new Queue(await api.ranks(wanted));
  } catch (error) {
    // The list that is there stays, should the server come back.
    page.failed(error);
  }
  describe();
  await showView(view, place);
  refreshProgress();
}

async function switchView() {
  const to = view === "one" ? "grid" : "one";
  const rank = view === "one" ? one.row?.rank : grid.rows[0]?.rank;
  view = to;
  if (mendingNow && to === "one") {
    await showView(to, 0);
    return;
  }
  await load();
  const place = rank === undefined || rank === null ? -1 : queue.ranks.indexOf(rank);
  if (place > 0) await showView(to, place);
}

function describe() {
  const parts = [];
  if (mendingNow) parts.push("mend list");
  else {
    const verdicts = { open: "open", "": "all", "accepted,corrected,rejected,deleted": "decided" };
    parts.push(verdicts[filter.verdict ?? ""] ?? filter.verdict);
    if (filter.reason) parts.push(filter.reason.replaceAll("_", " "));
    if (filter.mask) parts.push(`${filter.mask} a mask`);
    if (filter.split) parts.push(filter.split);
    if (filter.image) parts.push(`image “${filter.image}”`);
    if (filter.score_min || filter.score_max) parts.push(`score ${filter.score_min || 0} to ${filter.score_max || 1}`);
    if (filter.crowd_min || filter.crowd_max) parts.push(`${filter.crowd_min || 0} to ${filter.crowd_max || "any"} people`);
    if (filter.flagged) parts.push("with a reason");
    if (filter.audit) parts.push("audit sample");
  }
  $("filter-words").textContent = `${run.out} · ${parts.join(" · ")}`;
  $("filter-words").title = $("filter-words").textContent;
}

let progressSoon = null;
function refreshProgress() {
  clearTimeout(progressSoon);
  progressSoon = setTimeout(async () => {
    // Done and left of what the filter means, whatever was decided about it.
    const { verdict: _, ...wanted } = filter;
    try {
      const { total, done, left, per_minute } = await api.get("/api/progress", wanted);
      const percent = total ? (100 * done) / total : 0;
      $("progress-bar").setAttribute("aria-valuenow", percent.toFixed(1));
      $("progress-bar").firstElementChild.style.width = `${percent}%`;
      const rate = per_minute ? ` · ${per_minute >= 10 ? Math.round(per_minute) : per_minute} per min` : "";
      $("progress-words").textContent = `${done.toLocaleString("en")} done · ${left.toLocaleString("en")} left${rate}`;
    } catch (error) {
      if (error.kind !== "gone") page.failed(error);
    }
  }, 120);
}

/** Hear of what was decided elsewhere. */
async function poll() {
  try {
    const { events } = await api.get("/api/events", { since: last });
    if (!$("gone").hidden) page.toast("The server answers again.");
    $("gone").hidden = true;
    for (const event of events) {
      last = Math.max(last, event.id);
      if (mine.delete(event.id)) continue;
      if (event.rank !== null) queue.forget(event.rank);
      one.outdated(`${event.split}/${event.image_id}`);
      const looked = one.row && `${event.split}/${event.image_id}/${event.point_id}` === document.body.dataset.person;
      if (view === "one" && looked && !one.deciding && event.id > (one.chosen?.decision ?? 0)) {
        page.toast(`${event.reviewer} decided this person: ${event.verdict}.`);
        if (!one.mending.drafting) await one.reload();
      }
    }
    if (events.length) refreshProgress();
  } catch (error) {
    page.failed(error);
  }
  setTimeout(poll, POLL_MS);
}

function fillFilter() {
  const form = $("filter");
  for (const { name, count } of run.reasons) {
    form.reason.add(new Option(`${name.replaceAll("_", " ")} (${count.toLocaleString("en")})`, name));
  }
  for (const split of run.splits) form.split.add(new Option(split, split));
  $("audit-field").hidden = run.audit === null;
  $("unmarked-field").hidden = !run.unmarked.length;
  run.unmarked.forEach((photo, at) => $("unmarked").add(new Option(photo.image, at)));
  for (const field of form.elements) {
    if (!field.name) continue;
    if (field.type === "checkbox") field.checked = filter[field.name] === field.value;
    else field.value = filter[field.name] ?? "";
  }
}

function toggleFilter(shown = $("filter").hidden) {
  $("filter").hidden = !shown;
  $("filter-button").setAttribute("aria-expanded", String(shown));
  if (shown) $("filter").reason.focus();
  else document.activeElement?.blur();
}

$("filter").addEventListener("submit", async (event) => {
  event.preventDefault();
  const unmarked = $("unmarked").value;
  if (unmarked !== "") {
    $("unmarked").value = "";
    toggleFilter(false);
    if (view === "grid") await switchView();
    one.survey(run.unmarked[unmarked]);
    return;
  }
  filter = Object.fromEntries([...new FormData($("filter"))].filter(([, value]) => value !== ""));
  kept.write("filter", filter);
  toggleFilter(false);
  await load();
});
$("filter").addEventListener("reset", () => setTimeout(() => { $("filter").verdict.value = "open"; }));
$("filter-button").addEventListener("click", () => toggleFilter());
$("filter-close").addEventListener("click", () => toggleFilter(false));
$("to-one").addEventListener("click", () => view !== "one" && switchView());
$("to-grid").addEventListener("click", () => view !== "grid" && switchView());
$("help-button").addEventListener("click", () => $("help").showModal());

document.addEventListener("keydown", (event) => {
  if ($("help").open) return;
  if (!$("filter").hidden && event.key === "Escape") {
    toggleFilter(false);
    return;
  }
  const { target } = event;
  // Buttons are pressed by Enter and Space, unless nobody sees them: the help's keeps the focus until
  // the frame after its end. Crops are marked by Space and opened by Enter.
  const pressed = target.matches?.("button") && !target.matches(".cell") && target.checkVisibility();
  const onButton = pressed && (event.key === "Enter" || event.key === " ");
  if (onButton || $("filter").contains(target)) return;
  if (view === "one" && event.key.startsWith("Arrow") && !target.matches?.("input") && one.moveCross(event)) {
    event.preventDefault();
    return;
  }
  if (target.matches?.('input[type="range"]') && event.key.startsWith("Arrow")) return;
  const action = actionOf([...BOTH, ...(view === "one" ? ONE : GRID)], event);
  if (!action) return;
  event.preventDefault();
  if (event.repeat && ["accept", "reject", "remove", "switch"].includes(action)) return;
  if (action === "switch") switchView();
  else if (action === "filter") toggleFilter();
  else if (action === "help") $("help").showModal();
  else (view === "one" ? one : grid).act(action);
});

async function start() {
  fillHelp($("help-keys"));
  run = await api.get("/api/run");
  last = run.last;
  document.title = `dpmo review: ${run.out}`;
  filter = kept.read("filter", filter);
  page.mending = kept.read("mending", []);
  fillFilter();
  const stood = kept.read("place", { view: "one", place: 0 });
  view = stood.view;
  // What was decided has left the list, so the place before it is the same.
  await load(filter.verdict === "open" ? 0 : stood.place);
  document.body.dataset.ready = "1";
  poll();
  setTimeout(() => one.prepare({ unasked: true }), PREPARE_MS);
}

start().catch((error) => page.failed(error));
