// One or more lines over time, linked with all other charts over time.

import { element, legend } from "./dom.js";
import { axisFormat, dayTime } from "./format.js";
import { colours, onScheme } from "./palette.js";
import { link, timeChart, unlink } from "./time_chart.js";

/** Lines over the steps that all charts share. */
export class LineChart {
  #chart; #lines; #times = []; #columns = []; #limits = []; #shown;

  /**
   * @param lines [{name, colour, dashed, key}]: colour a name of the style sheet, key a class of the legend
   * @param options {limits: [{value, name}], zero, layers, shown: value => text}
   */
  constructor(title, lines, { limits = [], zero = false, layers = [], shown }) {
    const place = element("div", { class: "plot", role: "group", "aria-label": `Chart: ${title}. Keys: plus and minus zoom, arrows move, 0 shows the whole period.` });
    const caption = element("figcaption", { class: "reading" });
    this.legend = legend(...lines.map(({ name, key }) => [key, name]));
    this.figure = element("figure", { class: "broad" }, element("h3", {}, title), this.legend, place, caption);
    this.#shown = shown;
    this.#chart = timeChart(place, caption, (at) => this.#describe(at), { localization: { priceFormatter: shown, timeFormatter: (time) => dayTime(time * 1000), locale: "en-US" } });
    const look = (line) => ({ lineWidth: 2, lineStyle: line.dashed ? 2 : 0, priceLineVisible: false, lastValueVisible: !line.dashed, crosshairMarkerRadius: 3 });
    // The last series made is drawn on top: the first line.
    this.#lines = lines.toReversed().map((line) => ({ ...line, series: this.#chart.addLineSeries(look(line)) })).toReversed();
    const [{ series }] = this.#lines;
    this.#limits = limits.map(({ value, name }) => series.createPriceLine({ price: value, title: name, lineStyle: 2, lineWidth: 1 }));
    for (const layer of layers) series.attachPrimitive(layer);
    if (zero) this.#limits.push(series.createPriceLine({ price: 0, lineWidth: 1, lineStyle: 0, axisLabelVisible: false }));
    this.#paint();
    onScheme(() => this.#paint());
  }

  /** @param times of the steps; @param columns one for each line, null where there is no value */
  show(times, columns) {
    [this.#times, this.#columns] = [times, columns];
    const priceFormat = axisFormat(columns.flat().reduce((most, value) => Math.max(most, Math.abs(value ?? 0)), 0));
    for (const { series } of this.#lines) series.applyOptions({ priceFormat });
    this.#lines.forEach(({ series }, at) =>
      series.setData(times.map((time, step) => (columns[at][step] === null ? { time } : { time, value: columns[at][step] }))));
    link(this.#chart, this.#lines[0].series, times, columns[0]);
  }

  /** Remove it from the charts that are zoomed together. */
  remove() {
    unlink(this.#chart);
  }

  #paint() {
    const c = colours();
    for (const { series, colour } of this.#lines) series.applyOptions({ color: c[colour] });
    for (const limit of this.#limits) limit.applyOptions({ color: limit.options().price === 0 ? c.quiet : c.down });
  }

  #describe(at) {
    const own = this.#columns[0] ?? [];
    const step = at === null ? own.findLastIndex((value) => value !== null) : at;
    if (!(step >= 0 && step < this.#times.length)) return "";
    const parts = this.#lines.map(({ name }, line) => {
      const value = this.#columns[line][step];
      return `${name} ${value === null ? "–" : this.#shown(value)}`;
    });
    return `${dayTime(this.#times[step] * 1000)}  ·  ${parts.join("  ·  ")}`;
  }
}
