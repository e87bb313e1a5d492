// Accuracy of the direction, also weighted, and calibration of its probabilities.

import { element, figure } from "../dom.js";
import { count, fixed, percent } from "../format.js";
import { bars, reliability } from "../svg_charts.js";

/** @param answer of /direction */
export function drawDirection(answer, body) {
  if (!answer.n) return "No direction of this period is settled yet: the first target candle has to close first.";
  const interval = answer.accuracy_interval;
  const tone = !interval || (interval[0] < 0.5 && interval[1] > 0.5) ? "" : answer.accuracy > 0.5 ? "better" : "worse";
  const sure = interval ? `95 %: ${percent(interval[0])} to ${percent(interval[1])}` : "too few for an interval";
  const basis = (mean) => (mean === null ? "–" : `${fixed(1e4 * mean, 2)} bp`);
  body.replaceChildren(
    element("div", { class: "figures" },
      figure("Accuracy", percent(answer.accuracy), `${sure}; of ${count(answer.n)} that moved`, tone),
      figure("Weighted accuracy", percent(answer.weighted_accuracy), `each weighted by |return|; its complement ${percent(1 - answer.weighted_accuracy)}`),
      figure("Mean |return|", basis(answer.mean_return_on_hits), `on hits; on misses ${basis(answer.mean_return_on_misses)}`),
      figure("Baselines", percent(answer.base_rate_accuracy), `always the more frequent; the last one repeated ${percent(answer.repeat_accuracy)}`),
      figure("Brier", fixed(answer.brier, 4), `base rate ${fixed(answer.base_rate_brier, 4)}`),
      figure("Calibration error", percent(answer.calibration_error, 2), "mean gap between forecast and actual")),
    element("div", { class: "charts" }, reliabilityFigure(answer), confusionFigure(answer), confidenceFigure(answer)));
  return null;
}

function reliabilityFigure({ reliability: bins }) {
  const words = `Reliability: ${bins.map(({ probability, rising }) => `${percent(probability)} forecast, ${percent(rising)} rose`).join("; ")}.`;
  return element("figure", {}, element("h3", {}, "Reliability"), reliability(words, bins),
    element("figcaption", {}, "Groups of equal size with two standard errors; a point on the dashed line is calibrated."));
}

function confusionFigure({ confusion, base_rate_confusion: base, n, accuracy, base_rate_accuracy: baseAccuracy }) {
  const cell = (name, value) => element("td", { class: name }, element("strong", {}, count(value)), percent(value / n));
  const row = (name, up, rose, fell) => element("tr", {}, element("th", { scope: "row" }, name), cell(up ? "hit" : "miss", rose), cell(up ? "miss" : "hit", fell));
  const rows = [
    row("forecast up", true, confusion.up_up, confusion.up_down),
    row("forecast down", false, confusion.down_up, confusion.down_down),
    ...(base.up_up + base.up_down ? [row("base rate up", true, base.up_up, base.up_down)] : []),
    ...(base.down_up + base.down_down ? [row("base rate down", false, base.down_up, base.down_down)] : []),
  ];
  return element("figure", {}, element("h3", {}, "Confusion, beside the base rate"),
    element("table", { class: "matrix" },
      element("caption", { class: "unseen" }, "Forecast and actual directions"),
      element("thead", {}, element("tr", {}, element("td", {}), element("th", { scope: "col" }, "rose"), element("th", { scope: "col" }, "fell"))),
      element("tbody", {}, ...rows)),
    element("figcaption", {}, `Right: ${percent(accuracy)} of the forecasts, ${percent(baseAccuracy)} of the base rate, which always says what was more frequent in training.`));
}

function confidenceFigure({ confidence }) {
  const rows = confidence.map(({ accuracy }, at) => ({ name: at === 0 ? "least" : at === confidence.length - 1 ? "most" : "", value: accuracy, isFaint: at === 0 }));
  const words = `Accuracy by confidence, least first: ${rows.map(({ value }) => percent(value)).join(", ")}.`;
  return element("figure", {}, element("h3", {}, "Accuracy by confidence"), bars(words, rows, 0.5, "fifths by confidence"),
    element("figcaption", {}, `Low confidence, faint here and in the chart of candles: within ${percent(confidence[0].most, 2)} of 50 %.`));
}
