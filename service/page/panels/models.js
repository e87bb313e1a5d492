// Versions with their figures, the decisions about them with reasons, and the running trial.

import { element, facts, state, table, text } from "../dom.js";
import { count, dayTime, difference, fixed, fullTime, percent, signed } from "../format.js";
import { lyingBars } from "../svg_charts.js";

/** @param answers {versions, importance, model} of these routes, and the address of MLflow */
export function drawModels({ versions: { versions, trial }, importance, model, mlflow }, body) {
  const champion = model?.models.champion;
  if (!versions.length && !champion) return "No version is registered yet: training registers the first, and its gate decides about it.";
  const open = new Set([...body.querySelectorAll("details[open]")].map((one) => one.dataset.version));
  body.replaceChildren(
    ...figuresOf(versions, mlflow),
    ...cardOf(champion),
    ...(trial ? [trialOf(trial)] : []),
    ...decisionsOf(versions, open),
    ...importanceOf(importance));
  return null;
}

function figuresOf(versions, mlflow) {
  if (!versions.length) return [];
  return [table("Versions beside their baselines", ["version", "live skill of close", "MAPE / last close", "amplitude", "direction", "gate: close", "gate: amplitude", "learning curves"],
    versions.map((version) => row(version, mlflow)))];
}

const ofGate = (gate, name) => (gate?.[name] === undefined ? "–" : signed(100 * gate[name], 2, "%"));

function row({ version, aliases, run_id: run, gate, live }, mlflow) {
  const curves = mlflow && run ? element("a", { href: `${mlflow}/#/runs/${run}` }, "in MLflow") : "–";
  return [
    element("span", {}, `v${version} `, ...aliases.map(state)),
    live ? `${signed(100 * live.close_skill, 2, "%")} of ${live.n}` : "–",
    live ? `${fixed(live.close_mape, 4)} / ${fixed(live.persistence_mape, 4)} %` : "–",
    live ? signed(100 * live.amplitude_skill, 1, "%") : "–",
    live ? percent(live.direction_accuracy) : "–",
    ofGate(gate, "close_vs_persistence_skill"),
    ofGate(gate, "amplitude_vs_ewma_skill"),
    curves,
  ];
}

function cardOf(champion) {
  if (!champion) return [];
  const { metrics } = champion;
  const beside = (name) => `${difference(metrics[name])} / ${difference(metrics[`${name}_baseline`])}`;
  const { start, end } = champion.spans.report ?? { start: champion.validation_start, end: champion.trained_until };
  return [
    element("h3", { class: "apart" }, `Card of version ${champion.version}, the champion`),
    element("div", { class: "columns" },
      facts([
        ["trained", fullTime(champion.created_at)],
        ["epochs, best loss", `${champion.epochs ?? "–"}, ${fixed(champion.val_loss, 4)}`],
        ["target candles", count(champion.samples ?? 0)],
        ["expires", fullTime(champion.expires_at)],
      ]),
      facts([
        ["reported on", `${dayTime(start)} to ${dayTime(end)}`],
        ["MAE / last close", beside("close_mae")],
        ["RMSE / last close", beside("close_rmse")],
        ["direction right / base rate", `${percent(metrics.direction_accuracy)} / ${percent(metrics.direction_accuracy_baseline)}`],
      ])),
  ];
}

function trialOf(trial) {
  const numbers = Object.entries(trial).filter(([, value]) => typeof value === "number").slice(0, 6);
  return element("section", {},
    element("h3", { class: "apart" }, `Trial: v${trial.challenger} beside champion v${trial.champion} `, state(trial.outcome)),
    element("ul", { class: "reasons" }, ...(trial.reasons ?? []).map((reason) => element("li", {}, reason))),
    facts(numbers.map(([name, value]) => [name.replaceAll("_", " "), fixed(value, 3)])));
}

function decisionsOf(versions, open) {
  if (!versions.length) return [];
  const listed = versions.slice(0, 6).flatMap(({ version, decisions }) => decisions.map((one, at) => decisionOf(version, one, at, open)));
  return [element("h3", { class: "apart" }, "Decisions"), element("ul", { class: "list" }, ...listed)];
}

function decisionOf(version, { run_id: run, decision, decided_by: by, as_of: asOf, decided_at: at, predecessor, reasons }, place, open) {
  const name = `${version} ${run} ${place}`;
  const folded = element("details", { "data-version": name },
    element("summary", {}, `${dayTime(asOf ?? at)} · v${version} `, state(decision), ` by ${by}${predecessor ? `, champion then v${predecessor}` : ""}`),
    element("ul", { class: "reasons" }, ...reasons.map((reason) => element("li", {}, reason))));
  folded.open = open.has(name);
  return element("li", {}, folded);
}

function importanceOf(importance) {
  if (!importance?.inputs.length) return [];
  const rows = importance.inputs.slice(0, 15).map(({ name, amplitude_loss: value }) => ({ name, value }));
  return [
    element("h3", { class: "apart" }, `Top ${rows.length} inputs of version ${importance.version}, by ${importance.method}`),
    lyingBars(`Permutation importance: ${rows.map(({ name, value }) => `${name} ${percent(value)}`).join(", ")}.`, rows, (value) => signed(100 * value, 1, "%")),
    text("p", "quiet", `Permutation importance: the rise of its amplitude error when an input is shuffled, over ${importance.n} candles.`),
  ];
}
