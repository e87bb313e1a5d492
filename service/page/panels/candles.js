// Candles, the forecasts recorded for them, volume, and which directions were right.

import { element } from "../dom.js";
import { count, dayTime, percent, price } from "../format.js";
import { Layer, drawBand, drawHits, drawMoments } from "../layers.js";
import { colours, onScheme } from "../palette.js";
import { link, timeChart, unlink } from "../time_chart.js";

export class CandleChart {
  #chart; #bars; #line; #volume; #told = null; #low = 0; #moments = { from: null, to: null, marks: [] };
  #band = new Layer(drawBand);
  #hits = new Layer(drawHits, "top");
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
    for (const layer of [this.#shade, this.#band, this.#hits]) this.#bars.attachPrimitive(layer);
    this.#paint();
    onScheme(() => this.#paint());
  }

  /** @param told answer of /chart; @param times its steps, in seconds; @param low |probability − 0.5| that is little */
  show(told, times, low) {
    [this.#told, this.#low] = [told, low];
    const value = (column) => times.map((time, at) => (column[at] === null ? { time } : { time, value: column[at] }));
    this.#bars.setData(times.map((time, at) => (told.open[at] === null ? { time }
      : { time, open: told.open[at], high: told.high[at], low: told.low[at], close: told.close[at] })));
    this.#line.setData(value(told.forecast_close));
    this.times = times;
    link(this.#chart, this.#line, times, told.forecast_close.map((close, at) => close ?? told.close[at]));
    this.#paint();
  }

  /** @param moments {from, to, marks}: the validation period in seconds or null, and promotions */
  mark(moments) {
    this.#moments = moments;
    if (this.#told) this.#paint();
  }

  /** Mark directions as doubtful whose probability is no further than `low` from one half. */
  doubt(low) {
    this.#low = low;
    this.#paint();
  }

  /** Take it out of the charts that are zoomed together. */
  remove() {
    unlink(this.#chart);
  }

  #paint() {
    const c = colours();
    this.#bars.applyOptions({ upColor: c.up, downColor: c.down, wickUpColor: c.up, wickDownColor: c.down });
    this.#line.applyOptions({ color: c.accent });
    const told = this.#told;
    if (!told) return;
    this.#volume.setData(this.times.map((time, at) => (told.volume[at] === null ? { time }
      : { time, value: told.volume[at], color: `${told.close[at] >= told.open[at] ? c.up : c.down}55` })));
    this.#band.set({ low: told.forecast_low, high: told.forecast_high, colour: c["accent-soft"] });
    const faint = told.probability_up.map((up) => up !== null && Math.abs(up - 0.5) <= this.#low);
    this.#hits.set({ hits: told.hits, misses: told.misses, faint, colours: c });
    this.#shade.set({ times: this.times, ...this.#moments, colours: c });
  }

  #describe(at) {
    const told = this.#told;
    if (!told) return "";
    const step = at === null ? told.close.findLastIndex((close) => close !== null) : at;
    if (!(step >= 0 && step < this.times.length)) return "";
    const parts = [dayTime(this.times[step] * 1000)];
    if (told.close[step] !== null) {
      parts.push(`O ${price(told.open[step])}  H ${price(told.high[step])}  L ${price(told.low[step])}  C ${price(told.close[step])}`);
      parts.push(`volume ${count(Math.round(told.volume[step]))}`);
    }
    if (told.forecast_close[step] !== null) {
      const made = told.forecasts[step];
      const bounds = `90 %: ${price(told.close_lower[step])} to ${price(told.close_upper[step])}`;
      parts.push(`forecast ${price(told.forecast_close[step])} (${bounds}), up ${percent(told.probability_up[step])}`);
      const settled = told.hits[step] + told.misses[step];
      if (made > 1) parts.push(`${told.hits[step]} of ${settled} directions right`);
      else if (settled) parts.push(told.hits[step] ? "direction right" : "direction wrong");
    }
    return parts.join("  ·  ");
  }
}
