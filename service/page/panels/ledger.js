// The last forecasts beside their outcomes, sortable, and as a file.

import { download, toCsv } from "../csv.js";
import { element, state } from "../dom.js";
import { dayTime, percent, price, signedDifference, zoneName } from "../format.js";

const COLUMNS = [
  { name: "target candle", key: (row) => row.open_time, shown: (row) => dayTime(row.open_time) },
  { name: "version", key: (row) => Number(row.model_version), shown: (row) => `v${row.model_version}${row.abstained ? " (abstained)" : ""}` },
  { name: "forecast", key: (row) => row.close, shown: (row) => price(row.close) },
  { name: "actual", key: (row) => row.actual?.close ?? null, shown: (row) => (row.actual ? price(row.actual.close) : state("pending")) },
  { name: "error", key: error, shown: (row) => (row.actual ? signedDifference(error(row)) : "") },
  { name: "error %", key: (row) => row.actual && Math.abs(error(row)) / row.actual.close, shown: (row) => (row.actual ? percent(Math.abs(error(row)) / row.actual.close, 3) : "") },
  { name: "last close's %", key: naive, shown: (row) => (row.actual ? percent(naive(row), 3) : "") },
  { name: "up", key: (row) => row.probability_up, shown: (row) => percent(row.probability_up) },
  { name: "direction", key: direction, shown: direction },
  { name: "amplitude", key: (row) => row.amplitude, shown: (row) => price(row.amplitude, row.close) },
  { name: "actual amplitude", key: (row) => row.actual?.amplitude ?? null, shown: (row) => (row.actual ? price(row.actual.amplitude, row.close) : "") },
];
const CSV = ["open_time", "model_version", "issued_at", "open", "high", "low", "close", "amplitude", "probability_up", "close_lower", "close_upper", "baseline_close", "abstained"];

function error(row) {
  return row.actual && row.close - row.actual.close;
}

function naive(row) {
  return row.actual && Math.abs(row.baseline_close - row.actual.close) / row.actual.close;
}

function direction(row) {
  if (!row.actual) return "";
  if (row.actual.close === row.actual.reference_close) return "flat";
  return (row.probability_up >= 0.5) === (row.actual.close > row.actual.reference_close) ? "right" : "wrong";
}

export class ForecastTable {
  #sorted = { at: 0, up: false };
  #rows = [];
  #body;

  constructor(button) {
    button.addEventListener("click", () => download("forecasts.csv", this.csv()));
  }

  /** @param answer of /forecasts */
  show(answer, body) {
    this.#rows = answer.forecasts;
    this.#body = body;
    if (!this.#rows.length) return "No forecast is recorded yet: ingest records the first once a model is served.";
    this.#draw();
    return null;
  }

  csv() {
    const actual = ["open", "high", "low", "close", "amplitude"];
    return toCsv([...CSV, ...actual.map((name) => `actual_${name}`)],
      this.#rows.map((row) => [...CSV.map((name) => row[name]), ...actual.map((name) => row.actual?.[name])]));
  }

  #draw() {
    const { at, up } = this.#sorted;
    const compare = (a, b) => {
      const [one, other] = [COLUMNS[at].key(a), COLUMNS[at].key(b)];
      if (one === other) return 0;
      if (one === null || other === null) return one === null ? 1 : -1;
      return (one > other ? 1 : -1) * (up ? 1 : -1);
    };
    const head = COLUMNS.map(({ name }, column) => {
      const button = element("button", { type: "button" }, `${name}${column ? "" : `, ${zoneName()}`}${column === at ? (up ? " ▲" : " ▼") : ""}`);
      button.addEventListener("click", () => this.#sortBy(column));
      return element("th", { scope: "col", "aria-sort": column === at ? (up ? "ascending" : "descending") : "none" }, button);
    });
    const rows = this.#rows.toSorted(compare).map((row) => element("tr", {}, ...COLUMNS.map(({ shown, name }) =>
      element("td", { class: name === "direction" ? { right: "better", wrong: "worse" }[direction(row)] ?? null : null }, shown(row)))));
    const scrolled = this.#body.querySelector(".table")?.scrollTop ?? 0;
    const focused = this.#body.contains(document.activeElement) ? document.activeElement.textContent.replace(/ [▲▼]$/, "") : null;
    this.#body.replaceChildren(element("div", { class: "table", tabindex: 0, role: "region", "aria-label": "The last 60 forecasts, sortable" },
      element("table", { class: "rows" },
        element("caption", { class: "unseen" }, "The last 60 forecasts beside their outcomes"),
        element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows))));
    this.#body.querySelector(".table").scrollTop = scrolled;
    if (focused) head.find((cell) => cell.textContent.startsWith(focused))?.firstChild.focus();
  }

  #sortBy(at) {
    this.#sorted = { at, up: this.#sorted.at === at ? !this.#sorted.up : false };
    this.#draw();
  }
}
