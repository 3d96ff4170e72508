// The keys of both views, and the help that lists them.

export const ONE = [
  ["Decide", [
    ["a", "accept", "Accept what is drawn", "A or Enter"],
    ["Enter", "accept"],
    ["r", "reject", "Reject: wrong, and none better", "R"],
    ["x", "remove", "The point is nobody", "X or Delete"],
    ["Delete", "remove"],
    ["u", "undo", "Undo: the last stroke, click or decision", "U or Ctrl Z"],
    ["ctrl+z", "undo"],
    ["Escape", "discard", "Discard what is not saved", "Esc"],
  ]],
  ["Walk", [
    ["j", "next", "Next", "J or →"],
    ["ArrowRight", "next"],
    ["k", "previous", "Previous", "K or ←"],
    ["ArrowLeft", "previous"],
  ]],
  ["Tools", [
    ["1", "tool:select", "Look: drag to move, click a person to go there", "1"],
    ["2", "tool:plus", "Click: this is the person (Shift: it is not)", "2"],
    ["3", "tool:minus", "Click: this is not the person", "3"],
    ["4", "tool:brush", "Brush", "4 or B"],
    ["b", "tool:brush"],
    ["5", "tool:eraser", "Eraser", "5 or E"],
    ["e", "tool:eraser"],
    ["6", "tool:move", "Move the point", "6"],
    ["7", "tool:add", "Add a person", "7"],
    ["[", "smaller", "Smaller or larger brush", "[ and ]"],
    ["]", "larger"],
  ]],
  ["Without a mouse", [
    ["arrows", null, "With a tool: move the cross (Shift: faster)", "← ↑ ↓ →"],
    [" ", "apply", "Use the tool at the cross", "Space"],
  ]],
  ["Show", [
    ["o", "masks", "Masks on or off", "O"],
    ["d", "discs", "Discs on or off", "D"],
    ["+", "closer", "Closer or farther; or the wheel", "+ and −"],
    ["=", "closer"],
    ["-", "farther"],
    ["0", "fit", "Back to the person", "0"],
  ]],
];

export const GRID = [
  ["Grid", [
    ["a", "accept", "Accept all but the marked, which stay open in the mend list", "A"],
    ["shift+R", "reject", "Accept all, but reject the marked", "Shift R"],
    [" ", "mark", "Mark as wrong; or click it", "Space or W"],
    ["w", "mark"],
    ["Enter", "look", "Look at it alone", "Enter"],
    ["ArrowRight", "right", "Move among the crops", "← ↑ ↓ →"],
    ["ArrowLeft", "left"],
    ["ArrowUp", "up"],
    ["ArrowDown", "down"],
    ["j", "next", "Next or previous page", "J and K"],
    ["k", "previous"],
    ["u", "undo", "Undo the page decided last", "U or Ctrl Z"],
    ["ctrl+z", "undo"],
    ["m", "mend", "Go to the mend list", "M"],
    ["o", "masks", "Masks on or off", "O"],
  ]],
];

export const BOTH = [
  ["Everywhere", [
    ["g", "switch", "One mask or grid", "G"],
    ["f", "filter", "Filter", "F"],
    ["?", "help", "This help", "?"],
  ]],
];

const typed = (target) => target.matches?.('select, input:not([type="checkbox"]):not([type="range"]), textarea');

/** The word of a key press, as the tables write it. */
export function wordOf(event) {
  if (event.ctrlKey || event.metaKey) return `ctrl+${event.key.toLowerCase()}`;
  if (event.shiftKey && event.key.length === 1 && event.key !== event.key.toLowerCase()) return `shift+${event.key}`;
  return event.key;
}

/** What a key means in a table; null for nothing. */
export function actionOf(tables, event) {
  if (event.altKey || typed(event.target)) return null;
  const word = wordOf(event);
  for (const [, keys] of tables) {
    for (const [key, action] of keys) if (key === word && action) return action;
  }
  return null;
}

/** Fill the help with the tables. */
export function fillHelp(element) {
  for (const [title, keys] of [...BOTH, ...ONE, ...GRID]) {
    const part = document.createElement("section");
    const heading = document.createElement("h2");
    heading.textContent = title;
    part.append(heading);
    for (const [, , words, shown] of keys) {
      if (!words) continue;
      const line = document.createElement("p");
      const key = document.createElement("kbd");
      key.textContent = shown;
      line.append(words, key);
      part.append(line);
    }
    element.append(part);
  }
}
