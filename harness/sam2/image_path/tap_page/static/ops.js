// Which ops break the chosen decoder on the chosen back end: what is known already, and the button that asks.
import { by } from "./told.js";
import { begin, followed, get } from "./wire.js";

export class Ops {
  constructor(page) {
    this.page = page;       // {place, tap, alert, again, chosen_is_empty}
    this.offered = false;
    this.known = new Map(); // by decoder and back end: what was found, or null for nothing yet
    this.running = null;    // {key, work}
    by("ops").addEventListener("click", () => this.find());
  }

  key() {
    const { decoder, back_end } = this.page.place();
    return `${decoder} ${back_end} ${this.tokens()}`;
  }

  // How long the prompt is: each length has a decoder of its own.
  tokens() {
    const { positive, negative, box } = this.page.tap();
    return Math.max(positive.length + negative.length + (box ? 2 : 0), 1) + 1;
  }

  async look() {
    const key = this.key(), { decoder, back_end } = this.page.place();
    this.known.set(key, null);
    const found = await get(`ops?decoder=${encodeURIComponent(decoder)}&back_end=${encodeURIComponent(back_end)}&tokens=${this.tokens()}`).catch(() => null);
    if (found?.found) this.known.set(key, found.found);
    this.show();
  }

  show() {
    by("ops-part").hidden = !this.offered;
    if (!this.offered) return;
    const key = this.key();
    if (!this.known.has(key)) { this.look(); return; }
    const found = this.known.get(key), here = this.running?.key === key;
    by("ops").disabled = Boolean(this.running) || this.page.chosen_is_empty();
    by("ops").textContent = here ? "Looking …" : found ? "Find them anew, for this tap" : "Find the ops";
    by("ops-lead").textContent = here
      ? `${this.running.work.stage || "beginning"}, ${this.running.work.seconds.toFixed(0)} s. The device takes no taps meanwhile.`
      : found ? "" : "Every op is run again on the device's own inputs; those whose error rounding does not explain are named. Minutes, while the device takes no taps.";
    by("ops-lead").hidden = !by("ops-lead").textContent;
    by("ops-found").replaceChildren(...(found ? this.table(found) : []));
  }

  table(found) {
    const verdict = document.createElement("p");
    verdict.className = `verdict ${found.status === "pass" ? "good" : found.status === "culprits" ? "bad" : "open"}`;
    verdict.textContent = found.sentence;
    const link = document.createElement("a");
    link.href = found.report;
    link.target = "_blank";
    link.rel = "noopener";
    link.textContent = "The report";
    const links = document.createElement("p");
    links.className = "lead";
    links.append(link, `, ${found.run}`);
    if (!found.culprits.length) return [verdict, links];
    const table = document.createElement("table");
    table.className = "culprits";
    const head = table.createTHead().insertRow();
    for (const word of ["Op", "Cause", "Error"]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = word;
      head.append(cell);
    }
    const body = table.createTBody();
    for (const culprit of found.culprits) {
      const row = body.insertRow(), name = document.createElement("th");
      name.scope = "row";
      name.textContent = culprit.op;
      row.append(name);
      for (const word of [culprit.cause, culprit.error]) row.insertCell().textContent = word;
    }
    return [verdict, table, links];
  }

  async find() {
    const key = this.key();
    this.page.alert("");
    try {
      const body = { ...this.page.place(), tap: this.page.tap() };
      let found;
      do { // what has to be made first comes first
        const work = await begin("ops", body);
        this.running = { key, work };
        this.show();
        found = await followed(work, (now) => { this.running.work = now; this.show(); });
      } while (!found?.culprits);
      this.known.set(key, found);
    } catch (error) {
      this.page.alert(error.message);
    }
    this.running = null;
    this.page.again();
  }
}
