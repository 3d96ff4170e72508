// The mouse, pen or finger on the photo: it zooms and moves it, or uses the tool.

/** How far a press may move and still be a click, CSS px. */
const STILL = 4;

/**
 * Listen on a canvas for a view, which has: canvas (the photo), row, tool, use(at, how), hover(at).
 */
export function listenTo(element, view) {
  let drag = null;
  const placeOf = (event) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (view.row) view.canvas.zoom(Math.exp(-event.deltaY * 0.0015), placeOf(event));
  }, { passive: false });
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("pointerdown", (event) => {
    if (!view.row) return;
    element.setPointerCapture(event.pointerId);
    const at = placeOf(event);
    const pans = event.button === 1 || view.tool === "select";
    drag = { at, from: at, pans, opposite: event.shiftKey || event.button === 2 };
    view.hover(view.canvas.toPhoto(at));
    if (!pans) view.use(view.canvas.toPhoto(at), { opposite: drag.opposite });
  });
  element.addEventListener("pointermove", (event) => {
    const at = placeOf(event);
    if (view.row) view.hover(view.canvas.toPhoto(at));
    if (!drag) return;
    if (drag.pans) view.canvas.pan(at.x - drag.at.x, at.y - drag.at.y);
    else if (view.tool === "brush" || view.tool === "eraser") {
      view.use(view.canvas.toPhoto(at), { first: false, opposite: drag.opposite });
    }
    drag.at = at;
  });
  element.addEventListener("pointerup", (event) => {
    const at = placeOf(event);
    if (drag?.pans && view.tool === "select" && Math.hypot(at.x - drag.from.x, at.y - drag.from.y) < STILL) {
      view.use(view.canvas.toPhoto(at));
    }
    drag = null;
  });
  // A drag that the browser ends (another window, a gesture) draws no more.
  element.addEventListener("pointercancel", () => { drag = null; });
}
