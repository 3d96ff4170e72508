// Requests to the page's own server.

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;
const TOKEN = meta("dpmo-token");
const START = meta("dpmo-start");

/** What the server says against a request: `status`, `kind` and its words. */
export class Refusal extends Error {
  constructor(status, body) {
    super(body.error || `the server answered ${status}`);
    this.status = status;
    this.kind = body.kind || "http";
    this.body = body;
  }
}

async function answer(response) {
  if (response.ok) return response;
  let body = {};
  try {
    body = await response.json();
  } catch { /* no JSON: the status alone counts */ }
  throw new Refusal(response.status, body);
}

async function fetched(path, options) {
  try {
    return await answer(await fetch(path, options));
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(0, { error: "the server does not answer; is it still running?", kind: "gone" });
  }
}

/** A JSON answer. */
export async function get(path, query = {}) {
  return (await fetched(`${path}?${new URLSearchParams(query)}`)).json();
}

/** The ranks that a filter lets through, worst first. */
export async function ranks(query) {
  const bytes = await (await fetched(`/api/queue?${new URLSearchParams(query)}`)).arrayBuffer();
  return new Int32Array(bytes);
}

/** Post JSON, get JSON. */
export async function post(path, body) {
  const headers = { "Content-Type": "application/json", "X-Dpmo-Token": TOKEN };
  return (await fetched(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

export const tileUrl = (row, level, column, line) =>
  `/photo/${encodeURIComponent(row.split)}/${row.image_id}/${level}/${column}_${line}.jpg?v=${START}`;

export const cropUrl = (row, { x, y, side }, size) =>
  `/crop/${encodeURIComponent(row.split)}/${row.image_id}.jpg?x=${x}&y=${y}&side=${side}&size=${size}&v=${START}`;
