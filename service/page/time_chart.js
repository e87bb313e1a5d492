// A chart over time, zoomed and moved together with all others by pointer, wheel, touch or keys.

import { date, dayTime, hhmm, month } from "./format.js";
import { colours, onScheme } from "./palette.js";

const charts = new Map(); // chart => {say, series, times, values}: caption, and values under the crosshair
const HANDS_OFF_MS = 1200; // after the last touch; a later change of range is not the user's
const SETTLING_MS = 200; // for charts with new steps to settle their range
let heldUntil = 0;
let pointing = false; // whether the pointer is on a step; captions then follow it
let shared = null; // the range that all show
const watchers = new Set();

/** Call `watcher` with the range of steps in sight after every zoom or move. */
export const onZoom = (watcher) => watchers.add(watcher);

/** The library cuts days in UTC: where that is not midnight in the chosen zone, the label has the time too. */
function tick(time, kind) {
  const at = time * 1000;
  const clock = hhmm(at);
  if (clock !== "00:00") return kind <= 2 ? `${date(at)} ${clock}` : clock;
  return kind === 0 ? month(at) : date(at);
}

function look() {
  const c = colours();
  return {
    layout: { background: { type: "solid", color: "transparent" }, textColor: c.quiet, fontSize: 11 },
    grid: { vertLines: { color: c.line }, horzLines: { color: c.line } },
    crosshair: { vertLine: { color: c.quiet, labelBackgroundColor: c.accent }, horzLine: { color: c.quiet, labelBackgroundColor: c.accent } },
    rightPriceScale: { borderVisible: false },
    timeScale: { borderColor: c.line },
  };
}

/**
 * Make a chart in `place`; `options` go to the library.
 * @param describe (index or null) => text for the caption, about the step under the pointer
 */
export function timeChart(place, caption, describe, { wheel = false, ...options } = {}) {
  const chart = LightweightCharts.createChart(place, {
    autoSize: true,
    ...look(),
    crosshair: { ...look().crosshair, mode: 0 },
    rightPriceScale: { borderVisible: false, minimumWidth: 74 },
    timeScale: { borderVisible: false, timeVisible: true, secondsVisible: false, tickMarkFormatter: tick, minBarSpacing: 0.2, rightOffset: 0 },
    localization: { timeFormatter: (time) => dayTime(time * 1000), locale: "en-US" },
    handleScroll: { mouseWheel: wheel, vertTouchDrag: false },
    handleScale: { mouseWheel: wheel, axisPressedMouseMove: { price: false, time: true } },
    ...options,
  });
  onScheme(() => chart.applyOptions(look()));
  const say = (at) => {
    caption.textContent = describe(at);
  };
  charts.set(chart, { say, series: null });
  place.tabIndex = 0;
  place.addEventListener("keydown", onKey);
  let touched = -Infinity;
  for (const kind of ["wheel", "pointermove", "touchmove"]) {
    place.addEventListener(kind, (event) => (kind !== "pointermove" || event.buttons ? (touched = performance.now()) : null), { passive: true, capture: true });
  }
  chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
    const moment = performance.now();
    if (range && moment > heldUntil && moment - touched < HANDS_OFF_MS) follow(chart, range);
  });
  chart.timeScale().subscribeSizeChange(() => shared && chart.timeScale().setVisibleLogicalRange(shared));
  chart.subscribeCrosshairMove(({ logical, sourceEvent }) => {
    if (sourceEvent) point(chart, logical === undefined ? null : Math.round(logical));
  });
  place.addEventListener("pointerleave", () => point(chart, null));
  return chart;
}

/** Set the values under a chart's crosshair: `values` of `series` at `times`, null where there is none. */
export function link(chart, series, times, values) {
  Object.assign(charts.get(chart), { series, times, values });
  if (!pointing) charts.get(chart).say(null);
}

/** Remove a chart. */
export function unlink(chart) {
  charts.delete(chart);
  chart.remove();
}

/** Put the crosshair on step `at` in all charts; with null there is none, and captions show the newest step. */
function point(source, at) {
  pointing = at !== null;
  for (const [chart, { say, series, times, values }] of charts) {
    say(at);
    if (chart === source || !series) continue;
    const value = at === null ? null : values[at];
    if (value === null || value === undefined) chart.clearCrosshairPosition();
    else chart.setCrosshairPosition(value, times[at], series);
  }
}

function follow(source, range) {
  if (shared && Math.abs(range.from - shared.from) + Math.abs(range.to - shared.to) < 1e-6) return;
  shared = range;
  for (const chart of charts.keys()) if (chart !== source) chart.timeScale().setVisibleLogicalRange(range);
  for (const watcher of watchers) watcher(range);
}

/** Ignore changes of range while charts get other steps. */
export function hold() {
  heldUntil = performance.now() + SETTLING_MS;
}

/** Show the same steps everywhere, from step `from` to step `to`. */
export function showSteps(from, to) {
  shared = { from, to };
  for (const chart of charts.keys()) chart.timeScale().setVisibleLogicalRange(shared);
}

/** Zoom or move all charts: "in", "out", "left", "right", "reset". */
export function zoom(how) {
  if (!shared) return;
  const span = shared.to - shared.from;
  const change = { in: [span / 4, -span / 4], out: [-span / 2, span / 2], left: [-span / 4, -span / 4], right: [span / 4, span / 4] }[how];
  if (change) showSteps(shared.from + change[0], shared.to + change[1]);
  for (const watcher of watchers) watcher(change ? shared : null);
}

function onKey(event) {
  const how = { "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right", 0: "reset", Home: "reset" }[event.key];
  if (!how || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  zoom(how);
}
