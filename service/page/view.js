// The part of the period that the charts over time show: all of it, or a closer look at what was zoomed into.

import { address } from "./api.js";
import { PERIODS } from "./choices.js";

const POINTS = 600;
const SETTLED_MS = 350; // since the last move, before a closer look is asked for

/** Which steps are to be asked for, and which are shown. Times in seconds, in steps' beginnings. */
export class View {
  #choices; #changed; #timer = null;

  /** @param changed called when other steps are wanted than those shown */
  constructor(choices, changed) {
    this.#choices = choices;
    this.#changed = changed;
    this.closer = null; // {start, end} of a closer look
    this.times = [];
    this.stepS = 0;
    this.candleS = 0;
  }

  /** Parameters that every question about this market has. */
  get market() {
    return { symbol: this.#choices.symbol, interval: this.#choices.interval };
  }

  get hours() {
    return PERIODS[this.#choices.period];
  }

  /** Address of a route for the whole period, of which the figures are. */
  ofPeriod(path, points = POINTS) {
    return address(path, { ...this.market, hours: this.hours, points });
  }

  /** Address of a route for what is in sight. */
  ofSight(path) {
    if (!this.closer) return this.ofPeriod(path);
    const [start, end] = [this.closer.start, this.closer.end].map((time) => new Date(time * 1000).toISOString());
    return address(path, { ...this.market, start, end, points: POINTS });
  }

  /** Take note of the steps that are shown. */
  shows(times, stepS, candleS) {
    [this.times, this.stepS, this.candleS] = [times, stepS, candleS];
  }

  reset() {
    this.closer = null;
    clearTimeout(this.#timer);
  }

  /** Somebody zoomed or moved; null is back to the whole period. */
  zoomed(range) {
    clearTimeout(this.#timer);
    if (range === null) {
      this.closer = null;
      this.#changed();
      return;
    }
    this.#timer = setTimeout(() => this.#look(range), SETTLED_MS);
  }

  #look({ from, to }) {
    if (!this.times.length) return;
    const first = this.times[0] + from * this.stepS;
    const span = (to - from) * this.stepS;
    const outside = from < -1 || to > this.times.length + 1;
    if (span >= 0.9 * this.hours * 3600) {
      if (this.closer) this.zoomed(null);
      return;
    }
    const couldBeFiner = this.stepS > this.candleS && to - from < POINTS / 3;
    if (!couldBeFiner && !(this.closer && outside)) return;
    this.closer = { start: first - span / 2, end: first + 1.5 * span, sight: [first, first + span] };
    this.#changed();
  }
}
