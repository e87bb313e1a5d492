// Elements without markup in strings: text of the service stays text.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export const text = (name, className, content) => element(name, { class: className }, content);

/** A list of names and values. */
export const facts = (rows, className = "facts") =>
  element("dl", { class: className }, ...rows.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));

/** The legend of a drawing. @param keys [class, name] of each entry */
export const legend = (...keys) => element("ul", { class: "legend", "aria-label": "Legend" }, ...keys.map(([key, name]) => element("li", { class: key }, name)));

/** One figure with its name and a note. */
export const figure = (name, value, sub, tone = "") =>
  element("div", {}, element("h3", {}, name), text("p", `figure ${tone}`, value), text("p", "sub", sub));

const TONES = {
  completed: "good", healthy: "good", promoted: "good", repaired: "good", recovered: "good",
  failed: "bad", drift: "bad", decay: "bad", "data fault": "bad", "no champion": "bad", rejected: "bad", open: "bad",
  running: "warn", skipped: "warn", trial: "warn", undecided: "warn", outage: "warn", "too early": "warn",
};

/** The word of a state, in the state's colour. */
export const state = (word) => element("span", { class: "state", "data-tone": TONES[word] ?? "none" }, word);

/** A table. @param head names of columns; @param rows arrays of texts or nodes; @param words columns that hold prose */
export function table(caption, head, rows, words = []) {
  const cell = (name, content, at) => element(name, { class: words.includes(at) ? "words" : null, scope: name === "th" ? "col" : null }, content);
  return element("div", { class: "table", tabindex: 0, role: "region", "aria-label": caption },
    element("table", { class: "rows" },
      element("caption", { class: "unseen" }, caption),
      element("thead", {}, element("tr", {}, ...head.map((name, at) => cell("th", name, at)))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((content, at) => cell("td", content, at)))))));
}
