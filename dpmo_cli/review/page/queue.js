// The rows that a filter let through, as ranks, with the details of those that were looked at.

import * as api from "./api.js";

const BATCH = 50;

export const keyOf = (row) => `${row.split}/${row.image_id}`;

/** A list of rows that stays as it is while it is worked on, until it is loaded again. */
export class Queue {
  constructor(ranks = new Int32Array(0)) {
    this.ranks = ranks;
    this.rows = new Map();
    this.coming = new Map();
  }

  get length() {
    return this.ranks.length;
  }

  /** The row at a place, if it is known already. */
  known(place) {
    return this.rows.get(this.ranks[place]);
  }

  /** Some rows from a place on; those that are not known are asked for, in one request. */
  async slice(from, count) {
    const wanted = Array.from(this.ranks.subarray(from, from + count));
    const missing = wanted.filter((rank) => !this.rows.has(rank) && !this.coming.has(rank));
    for (let at = 0; at < missing.length; at += BATCH) this.#ask(missing.slice(at, at + BATCH));
    await Promise.all(wanted.map((rank) => this.coming.get(rank)));
    return wanted.map((rank) => this.rows.get(rank)).filter(Boolean);
  }

  #ask(ranks) {
    const asked = api.get("/api/rows", { ranks: ranks.join(",") }).then(({ rows }) => {
      for (const row of rows) this.rows.set(row.rank, row);
    });
    const done = asked.finally(() => ranks.forEach((rank) => this.coming.delete(rank)));
    for (const rank of ranks) this.coming.set(rank, done);
  }

  /** Take in persons of an image that changed. */
  update(image, people) {
    const changed = new Map(people.map((person) => [person.id, person]));
    for (const row of this.rows.values()) {
      if (keyOf(row) === image && changed.has(row.person.id)) row.person = changed.get(row.person.id);
    }
  }

  /** Forget what is known of a row, to ask again. */
  forget(rank) {
    this.rows.delete(rank);
  }
}
