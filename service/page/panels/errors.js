// Errors of the close, beside those of the last close repeated.

import { element, figure, legend, text } from "../dom.js";
import { between, count, difference, fixed, percent, signed } from "../format.js";
import { LineChart } from "../line_chart.js";
import { histogram, scatter } from "../svg_charts.js";
import { CloseChart } from "./closes.js";

const FEWEST = 30;
const OWN = { colour: "accent", key: "key-own" };
const RIVAL = { colour: "rival", key: "key-rival" };

export class ErrorPanel {
  #figures = element("div", { class: "figures" });
  #residuals = element("figure", { class: "broad" });
  #scatter = element("figure", { class: "broad" });
  #note = text("p", "quiet", "");
  #closes = new CloseChart();
  #mae = 0;

  constructor(body, answer) {
    const mape = (value) => `${value.toFixed(4)} %`;
    const lines = [{ name: "forecast", ...OWN }, { name: "last close", ...RIVAL }];
    const ratio = answer.mape_ratio_threshold;
    this.absolute = new LineChart("Absolute error, quote currency", lines, { shown: difference });
    this.relative = new LineChart("Error in percent (MAPE of each step)", lines, { shown: mape });
    this.rolling = new LineChart(`Rolling MAPE over ${answer.rolling_n} forecasts, and the limits of drift`,
      [...lines, { name: `limit: ${ratio} × last close`, colour: "down", key: "key-limit", dashed: true }],
      { shown: mape, limits: [{ value: answer.mape_threshold, name: "limit" }] });
    this.skill = new LineChart("Cumulative skill since the first step", [{ name: "skill over the last close", ...OWN }], { zero: true, shown: (value) => signed(100 * value, 3, "%") });
    const charts = [this.absolute, this.relative, this.rolling, this.skill].map((chart) => chart.figure);
    body.replaceChildren(this.#figures, element("div", { class: "charts" }, this.#closes.figure, ...charts, this.#residuals, this.#scatter), this.#note);
  }

  /** Show the figures of the whole period. @param answer of /errors */
  showFigures(answer) {
    this.#mae = answer.close_mae;
    const skill = answer.close_skill;
    const interval = answer.close_skill_interval;
    const tone = !interval || (interval[0] < 0 && interval[1] > 0) ? "" : skill > 0 ? "better" : "worse";
    const verdict = tone === "" ? "not clearly different from the last close" : tone === "better" ? "better than the last close" : "worse than the last close";
    this.#figures.replaceChildren(
      figure("Skill of the close", signed(100 * skill, 2, "%"), `${verdict}; 95 %: ${between(interval)}`, tone),
      figure("MAE", difference(answer.close_mae), `last close ${difference(answer.persistence_mae)}`),
      figure("Against the range", percent(answer.close_mape / answer.mean_amplitude_percent, 0), `MAPE as a share of the mean amplitude, ${fixed(answer.mean_amplitude_percent, 3)} %`),
      figure("MAPE", `${fixed(answer.close_mape, 4)} %`, `last close ${fixed(answer.persistence_mape, 4)} %`),
      figure("RMSE", difference(answer.close_rmse), `last close ${difference(answer.persistence_rmse)}`),
      figure("Bias", difference(answer.close_bias), "forecast less actual close"),
      figure("Settled forecasts", count(answer.n), "abstentions left out"));
    const { residuals, scatter: dots } = answer;
    const words = `Histogram of ${count(answer.n)} residuals between ${fixed(residuals.edges[0], 1)} and ${fixed(residuals.edges.at(-1), 1)} basis points, the outermost bars hold all beyond.`;
    this.#residuals.replaceChildren(
      element("h3", {}, "Residuals"),
      histogram(words, residuals.edges, residuals.close, residuals.persistence, "forecast − actual, basis points"),
      element("figcaption", {}, "Filled: the forecast. Line: the last close."));
    this.#scatter.replaceChildren(
      element("h3", {}, "Forecast against outcome"),
      legend(["key-ideal", "forecast = outcome"], ["key-persistence", "persistence: the last close"], ["key-up", "direction right"], ["key-down", "wrong"]),
      scatter(`Scatter of ${dots.predicted.length} forecast and actual returns from the last close, with the diagonal, where both are equal, and the vertical line of persistence, which forecasts 0.`, dots.predicted, dots.actual, "forecast return, basis points", "actual return"),
      element("figcaption", {}, `Returns, because levels of prices always agree; ${dots.predicted.length} forecasts evenly spread, the farthest at the edge.`));
    const high = Math.max(...answer.steps.rolling_mape);
    this.#note.textContent = answer.mape_threshold > 1.5 * high
      ? `The limit of ${Number(answer.mape_threshold.toPrecision(4))} % on the rolling MAPE lies above its chart: the highest here is ${fixed(high, 4)} %.` : "";
  }

  /** Remove its charts from those that are zoomed together. */
  remove() {
    for (const chart of [this.#closes, this.absolute, this.relative, this.rolling, this.skill]) chart.remove();
  }

  /** @param answer of /errors for the part in sight; @param times the steps of all charts over time; @param candles answer of /chart, or null */
  showSteps(answer, times, candles) {
    if (candles) this.#closes.show(candles, times, this.#mae);
    const at = new Map(answer.steps.open_time.map((moment, step) => [Date.parse(moment) / 1000, step]));
    const column = (values) => times.map((time) => (at.has(time) ? values[at.get(time)] : null));
    const { steps } = answer;
    this.absolute.show(times, [column(steps.close_mae), column(steps.persistence_mae)]);
    this.relative.show(times, [column(steps.close_mape), column(steps.persistence_mape)]);
    this.rolling.show(times, [column(steps.rolling_mape), column(steps.rolling_persistence_mape),
      column(steps.rolling_persistence_mape.map((mape) => answer.mape_ratio_threshold * mape))]);
    let settled = 0; // the skill of a few forecasts is noise, and would compress the rest
    this.skill.show(times, [column(steps.cumulative_skill.map((skill, step) => ((settled += steps.n[step]) < FEWEST && answer.n > 2 * FEWEST ? null : skill)))]);
  }
}
