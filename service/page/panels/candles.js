// Candles, the forecasts recorded for them, volume, and whether directions were right.

import { element } from "../dom.js";
import { axisFormat, count, dayTime, percent, price } from "../format.js";
import { Layer, drawBand, drawHits, drawMoments, drawPending } from "../layers.js";
import { colours, onScheme } from "../palette.js";
import { link, timeChart, unlink } from "../time_chart.js";

export class CandleChart {
  #chart; #bars; #line; #volume; #answer = null; #low = 0; #moments = { from: null, to: null, marks: [] };
  #band = new Layer(drawBand);
  #hits = new Layer(drawHits, "top");
  #rings = new Layer(drawPending, "top");
  #shade = new Layer(drawMoments);

  constructor(body) {
    const place = element("div", {
      class: "plot main-chart", role: "group",
      "aria-label": "Chart of candles and forecasts. Keys: plus and minus zoom, arrows move, 0 shows the whole period.",
    });
    const caption = element("figcaption", { class: "reading" });
    body.replaceChildren(element("figure", {}, place, caption));
    this.#chart = timeChart(place, caption, (at) => this.#describe(at), { wheel: true });
    this.#volume = this.#chart.addHistogramSeries({ priceScaleId: "volume", lastValueVisible: false, priceLineVisible: false, priceFormat: { type: "volume" } });
    this.#chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.82, bottom: 0.05 } });
    this.#bars = this.#chart.addCandlestickSeries({ borderVisible: false });
    this.#chart.priceScale("right").applyOptions({ scaleMargins: { top: 0.08, bottom: 0.22 } });
    this.#line = this.#chart.addLineSeries({ lineWidth: 1, lastValueVisible: true, priceLineVisible: false, crosshairMarkerRadius: 4 });
    for (const layer of [this.#shade, this.#band, this.#hits, this.#rings]) this.#bars.attachPrimitive(layer);
    this.#paint();
    onScheme(() => this.#paint());
  }

  /** @param answer of /chart; @param times its steps, in seconds; @param low |probability − 0.5| of low confidence */
  show(answer, times, low) {
    [this.#answer, this.#low] = [answer, low];
    const value = (column) => times.map((time, at) => (column[at] === null ? { time } : { time, value: column[at] }));
    this.#bars.setData(times.map((time, at) => (answer.open[at] === null ? { time }
      : { time, open: answer.open[at], high: answer.high[at], low: answer.low[at], close: answer.close[at] })));
    this.#line.setData(value(answer.forecast_close));
    const priceFormat = axisFormat(answer.close.reduce((most, close) => Math.max(most, close ?? 0), 0));
    for (const series of [this.#bars, this.#line]) series.applyOptions({ priceFormat });
    this.times = times;
    link(this.#chart, this.#line, times, answer.forecast_close.map((close, at) => close ?? answer.close[at]));
    this.#paint();
  }

  /** @param moments {from, to, marks}: the validation period in seconds or null, and promotions */
  mark(moments) {
    this.#moments = moments;
    if (this.#answer) this.#paint();
  }

  /** Draw directions faint whose probability is within `low` of one half. */
  doubt(low) {
    this.#low = low;
    this.#paint();
  }

  /** Remove it from the charts that are zoomed together. */
  remove() {
    unlink(this.#chart);
  }

  #paint() {
    const c = colours();
    this.#bars.applyOptions({ upColor: c.up, downColor: c.down, wickUpColor: c.up, wickDownColor: c.down });
    this.#line.applyOptions({ color: c.accent });
    const answer = this.#answer;
    if (!answer) return;
    this.#volume.setData(this.times.map((time, at) => (answer.volume[at] === null ? { time }
      : { time, value: answer.volume[at], color: `${answer.close[at] >= answer.open[at] ? c.up : c.down}55` })));
    this.#band.set({ low: answer.forecast_low, high: answer.forecast_high, colour: c["accent-soft"] });
    const faint = answer.probability_up.map((up) => up !== null && Math.abs(up - 0.5) <= this.#low);
    this.#hits.set({ hits: answer.hits, misses: answer.misses, faint, colours: c });
    this.#rings.set({ values: answer.forecast_close, pending: answer.pending, colours: c });
    this.#shade.set({ times: this.times, ...this.#moments, colours: c });
  }

  #describe(at) {
    const answer = this.#answer;
    if (!answer) return "";
    const step = at === null ? answer.close.findLastIndex((close) => close !== null) : at;
    if (!(step >= 0 && step < this.times.length)) return "";
    const parts = [dayTime(this.times[step] * 1000)];
    if (answer.close[step] !== null) {
      parts.push(`O ${price(answer.open[step])}  H ${price(answer.high[step])}  L ${price(answer.low[step])}  C ${price(answer.close[step])}`);
      parts.push(`volume ${count(Math.round(answer.volume[step]))}`);
    }
    if (answer.forecast_close[step] !== null) {
      const made = answer.forecasts[step];
      const bounds = `90 %: ${price(answer.close_lower[step])} to ${price(answer.close_upper[step])}`;
      parts.push(`forecast ${price(answer.forecast_close[step])} (${bounds}), up ${percent(answer.probability_up[step])}`);
      const settled = answer.hits[step] + answer.misses[step];
      if (made > 1) parts.push(`${answer.hits[step]} of ${settled} directions right`);
      else if (answer.pending[step]) parts.push("pending");
      else if (settled) parts.push(answer.hits[step] ? "direction right" : "direction wrong");
    }
    return parts.join("  ·  ");
  }
}
