// The words and buttons beside the photo: who is looked at, how it stands, what can be done.

const HINTS = {
  select: "",
  plus: "Click on the person. Shift or right button: this is not the person.",
  minus: "Click on what is not the person.",
  brush: "Paint. Shift erases.",
  eraser: "Erase. Shift paints.",
  move: "Click where the point belongs.",
  add: "Click on the head of a person whom nobody has marked.",
};
const VERDICTS = { accepted: "accepted", corrected: "corrected", rejected: "rejected", deleted: "nobody", added: "added", open: "open" };
const $ = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString("en");

/** What a verdict is called. */
export const verdictWords = (verdict) => VERDICTS[verdict] ?? verdict;

/**
 * Write all but the hint.
 *
 * `one` is the view: row (null for none), chosen, place, queue, surveying, mending; `page` has
 * reviewer, reasonWords(name), emptyWords().
 */
export function showPanel(one, page) {
  const { row, chosen, surveying, mending } = one;
  $("empty-one").hidden = Boolean(row);
  $("empty-one").textContent = row ? "" : page.emptyWords();
  document.body.dataset.person = !row || surveying ? "" : `${row.split}/${row.image_id}/${chosen.id}`;
  showButtons(one);
  if (!row) {
    for (const id of ["place", "image-name", "facts", "verdict"]) $(id).textContent = "";
    $("reasons").replaceChildren();
    return;
  }
  $("place").textContent = surveying ? "A photo without points" : row.rank === null ? "Beside the list" : `${count(one.place + 1)} of ${count(one.queue.length)}`;
  // A mark of direction: long names are cut at their beginning.
  $("image-name").textContent = `\u200e${row.image}`;
  $("image-name").title = row.image;
  const score = chosen.score === null ? "no score" : `score ${chosen.score.toFixed(2)}`;
  $("facts").textContent = surveying ? "Click on heads to add people." : `Point ${chosen.id} · ${score} · ${count(row.crowd)} ${row.crowd === 1 ? "person" : "people"}`;
  const verdict = mending.drafting ? "draft" : surveying ? "" : chosen.verdict;
  const by = chosen.reviewer && verdict !== "open" && chosen.reviewer !== page.reviewer ? ` by ${chosen.reviewer}` : "";
  $("verdict").className = `pill ${verdict}`;
  $("verdict").textContent = verdict === "draft" ? "not saved" : verdictWords(verdict) + by;
  showReasons(surveying ? [] : reasonsOf(chosen, page));
  const state = chosen.mask ? "has a mask" : "has no mask";
  $("canvas").setAttribute("aria-label", surveying ? `${row.image}, without a point` : `Point ${chosen.id} of ${row.image}, ${score}, ${state}, ${verdictWords(chosen.verdict)}`);
}

/** Write what the tool does, or what is to be known of the draft. */
export function showHint({ row, tool, mending }) {
  const first = !document.body.dataset.click;
  const working = first ? "The network is drawing; the first time it takes some seconds …" : "The network is drawing …";
  $("hint").textContent = !row ? "" : mending.busy ? working : mending.note || HINTS[tool];
  $("hint").classList.toggle("bad", mending.bad && Boolean(mending.note) && !mending.busy);
}

/** Show which tool is chosen. */
export function showTool(tool) {
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  }
  $("canvas").style.cursor = tool === "select" ? "grab" : "crosshair";
}

/** Show the size of the brush. */
export function showBrush(radius) {
  $("size").value = radius;
  $("size-words").value = `${2 * radius + 1} px`;
}

function showButtons({ row, chosen, surveying, mending }) {
  for (const button of $("one").querySelectorAll("[data-do], [data-tool]")) {
    const action = button.dataset.do;
    const nobody = surveying && (action === "reject" || action === "remove" || (action === "accept" && !mending.adding));
    button.disabled = action === "undo" ? false : action === "discard" ? !mending.drafting : !row || nobody;
    if (action === "accept") {
      const right = !row || chosen.mask || chosen.lost;
      button.firstChild.textContent = mending.drafting || surveying ? "Save " : right ? "Accept " : "Right: none ";
    }
  }
}

/** Why a person should be looked at, each with what it means. */
function reasonsOf(person, page) {
  const none = person.mask || person.lost ? [] : [["no mask", `status: ${person.status}`]];
  return [...none, ...person.reasons.map((name) => [name.replaceAll("_", " "), page.reasonWords(name)])];
}

function showReasons(reasons) {
  $("reasons").replaceChildren(...reasons.map(([name, words]) => {
    const item = document.createElement("li");
    item.textContent = name;
    item.title = words;
    return item;
  }));
}
