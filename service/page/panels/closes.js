// The close beside its forecasts, each at its target time, within the mean absolute error of the period.

import { element } from "../dom.js";
import { difference, price } from "../format.js";
import { Layer, drawBand, drawPending } from "../layers.js";
import { LineChart } from "../line_chart.js";
import { colours, onScheme } from "../palette.js";

const LINES = [{ name: "forecast", colour: "accent", key: "key-own" }, { name: "actual", colour: "text", key: "key-actual" }];

export class CloseChart {
  #answer = null; #mae = 0;
  #band = new Layer(drawBand);
  #rings = new Layer(drawPending, "top");
  #chart = new LineChart("Close at its target time", LINES, { shown: price, layers: [this.#band, this.#rings] });
  #width = element("li", { class: "key-band" });

  constructor() {
    this.figure = this.#chart.figure;
    this.figure.className = "whole";
    this.#chart.legend.append(this.#width, element("li", { class: "key-pending" }, "pending"));
    onScheme(() => this.#paint());
  }

  /** @param answer of /chart; @param times its steps, in seconds; @param mae of the settled forecasts of the period */
  show(answer, times, mae) {
    [this.#answer, this.#mae] = [answer, mae];
    this.#chart.show(times, [answer.forecast_close, answer.close]);
    this.#width.textContent = `forecast ± MAE (${difference(mae)})`;
    this.#paint();
  }

  /** Remove it from the charts that are zoomed together. */
  remove() {
    this.#chart.remove();
  }

  #paint() {
    if (!this.#answer) return;
    const { forecast_close: values, pending } = this.#answer;
    const away = (distance) => values.map((value) => (value === null ? null : value + distance));
    const c = colours();
    this.#band.set({ low: away(-this.#mae), high: away(this.#mae), colour: c["accent-soft"] });
    this.#rings.set({ values, pending, colours: c });
  }
}
