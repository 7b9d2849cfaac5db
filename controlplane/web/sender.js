// Which node sends what a viewer receives, as the nodes themselves say: addresses do not tell, since
// a node that takes over sends from the other's. Each node that holds the session is asked, when it
// looks as if the sender had changed, and now and then, since a planned move gives no sign; not all
// viewers at the same moment.

import { askWhoServes } from './signalling.js';

const PERIOD_MS = 15000; // and a quarter more or less
const SPREAD_MS = 4000; // over which viewers ask after something that all of them saw
const CHECK_MS = 5000; // after which a change is asked for once more: the nodes may not have agreed yet

export class Sender {
  /** `resource`: the session's URL. */
  constructor(resource, { ask = askWhoServes, random = Math.random } = {}) {
    Object.assign(this, { ask, random });
    this.urls = [resource];
    this.node = null; // its name, null while nobody says
    this.signs = null;
    this.due = 0;
    this.asked = -Infinity;
    this.check = true;
  }

  /** To be called often. `signs`: what changes, perhaps, when the sender does. */
  async look(now, ...signs) {
    const seen = signs.join('|');
    if (this.signs !== null && seen !== this.signs) {
      this.due = Math.min(this.due, Math.max(this.asked + CHECK_MS, now + SPREAD_MS * this.random()));
      this.check = true;
    }
    this.signs = seen;
    if (now < this.due) return;
    this.asked = now;
    this.due = now + (this.check ? CHECK_MS : PERIOD_MS * (0.75 + 0.5 * this.random()));
    this.check = false;
    await this.inquire();
  }

  async inquire() {
    const answers = (await Promise.all(this.urls.map((url) => this.ask(url)))).filter(Boolean);
    for (const { other } of answers) if (other && !this.urls.includes(other)) this.urls.push(other);
    // Both do while they cannot see each other. One that does not can only say what it believes.
    const serving = answers.filter(({ node, serves }) => node === serves).map(({ node }) => node);
    this.node = serving.sort().join(' and ') || (answers[0]?.serves ?? null);
  }
}
