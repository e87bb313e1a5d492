// Asks the service every few seconds and hands what it says to the panels; each says itself what it is missing.

import { address, now, read } from "./api.js";
import { isForecastHere, offerChoices, offerMarkets, zoneOf } from "./choices.js";
import { byId } from "./dom.js";
import { ago, fullTime, useZone, zoneName } from "./format.js";
import { Panel } from "./panel.js";
import { CandleChart } from "./panels/candles.js";
import { drawDirection } from "./panels/direction.js";
import { drawDrift } from "./panels/drift.js";
import { ErrorPanel } from "./panels/errors.js";
import { ForecastTable } from "./panels/ledger.js";
import { drawModels } from "./panels/models.js";
import { drawNow } from "./panels/now.js";
import { offerTrial } from "./panels/try.js";
import { hold, onZoom, showSteps, zoom } from "./time_chart.js";
import { View } from "./view.js";

const BADGES = { live: "LIVE · exchange", replay: "REPLAY · recorded candles", unknown: "source unknown" };
const NOT_FORECAST = { models: {}, problems: {}, not_ready: "Not forecast here: only candles of this market are stored." };
const AGAIN_MS = 3000; // while the service is away
const DURATIONS = { m: 60, h: 3600, d: 86400, w: 604800 };

let shownMarket = null;
const choices = offerChoices(byId("choices"), () => {
  useZone(zoneOf(choices.zone));
  view.reset();
  if (marketName() !== shownMarket) forgetAll();
  refresh();
});
const marketName = () => `${choices.symbol} ${choices.interval}`;
useZone(zoneOf(choices.zone));
const view = new View(choices, () => refreshCharts());
const panels = Object.fromEntries(["candles", "errors", "direction", "models", "drift", "ledger"].map((id) => [id, new Panel(byId(id))]));
const forecastTable = new ForecastTable(byId("download"));
offerTrial(byId("try").querySelector(".panel-body"), () => view.market);
let mlflow = null;
let candleChart = null;
let errorPanel = null;
let lowConfidence = 0;
let moments = { from: null, to: null, marks: [] };
let turn = 0; // answers of an earlier turn are too late

const value = (settled) => (settled.status === "fulfilled" ? settled.value : null);
const seconds = (moment) => Date.parse(moment) / 1000;

function showStatus(status) {
  const name = `${status.symbol} ${status.interval}`;
  document.title = `${name} · Candlecast`;
  offerMarkets(byId("choices"), status);
  const badge = byId("source");
  badge.dataset.source = status.source;
  badge.textContent = BADGES[status.source];
  byId("replay-notice").hidden = status.source !== "replay";
  const newest = status.newest_candle;
  const since = newest && status.source === "live" ? ` (${ago(newest, now())})` : "";
  byId("freshness").textContent = newest ? `newest candle ${fullTime(newest)} ${zoneName()}${since}` : "no candle stored yet";
  for (const [there, link] of Object.entries(status.links)) showLink(byId(`link-${there}`), link);
}

/** Other user interfaces listen on this machine: seen from another one, their host is this page's. */
function showLink(anchor, link) {
  const url = new URL(link);
  if (["127.0.0.1", "localhost"].includes(url.hostname)) url.hostname = location.hostname;
  if (anchor.id === "link-mlflow") mlflow = url.href.replace(/\/$/, "");
  anchor.href = url.href;
  anchor.hidden = false;
}

/** Charts over time, of what is in sight. */
async function refreshCharts() {
  const mine = turn;
  const { closer } = view;
  const [chart, errors] = await Promise.allSettled([read(view.ofSight("/chart")), read(view.ofSight("/errors"))]);
  if (mine !== turn || closer !== view.closer) return;
  if (view.isMoving) {
    view.isOwing = true; // it is asked for again as soon as all stands still
    return;
  }
  hold();
  panels.candles.show(chart, (told, body) => {
    if (!told.open_time.length) {
      candleChart = forget(candleChart);
      return "No candle is stored for this period yet: the backfill is on its way, or has not been started.";
    }
    candleChart ??= new CandleChart(body);
    candleChart.mark(moments);
    const times = told.open_time.map(seconds);
    view.shows(times, told.step_s, parseInt(told.interval, 10) * DURATIONS[told.interval.at(-1)]);
    candleChart.show(told, times, lowConfidence);
    return null;
  });
  panels.errors.show(errors, (told, body) => {
    if (!told.n) {
      errorPanel = forget(errorPanel);
      return "No forecast of this period is settled yet: figures appear when the first target candle has closed.";
    }
    errorPanel ??= new ErrorPanel(body, told);
    if (!closer) errorPanel.showFigures(told);
    errorPanel.showSteps(told, view.times);
    return null;
  });
  hold();
  if (value(chart)) showSteps(...view.steps);
}

function forget(shown) {
  shown?.remove();
  return null;
}

/** Another market: nothing of the last one may stay, not even while the service is away. */
function forgetAll() {
  shownMarket = marketName();
  candleChart = forget(candleChart);
  errorPanel = forget(errorPanel);
  for (const panel of Object.values(panels)) panel.wait();
  for (const tile of byId("now").querySelectorAll("article")) tile.remove();
}

async function refreshDirection() {
  const mine = turn;
  const [told] = await Promise.allSettled([read(view.ofPeriod("/direction"))]);
  if (mine !== turn) return;
  panels.direction.show(told, drawDirection);
  lowConfidence = value(told)?.confidence[0]?.most ?? 0;
  candleChart?.doubt(lowConfidence);
}

async function refreshNow() {
  const mine = turn;
  const { market, hours } = view;
  const of = (path, more = {}) => read(address(path, { ...market, ...more }));
  const asking = of("/status");
  const served = asking.catch(() => null).then((told) => (told && !isForecastHere(told) ? NOT_FORECAST : of("/model")));
  const asked = [asking, of("/price/stats", { hours }), of("/forecasts", { role: "champion", limit: 60 }), of("/monitoring"), served];
  const slower = refreshRecords(of, asked[2], asked[3], served);
  const [status, stats, ledger, monitoring, model] = await Promise.allSettled(asked);
  if (mine !== turn) return false;
  if (value(status)) showStatus(status.value);
  const away = status.status === "rejected";
  byId("lost-notice").hidden = !away;
  byId("lost-notice").textContent = away ? status.reason.message : "";
  byId("now").setAttribute("aria-busy", "false");
  const told = { status: value(status), stats: value(stats), ledger: value(ledger), monitoring: value(monitoring), model: value(model) };
  if (!away || !byId("now").querySelector("article")) drawNow(byId("now"), told);
  moments = momentsOf(told);
  candleChart?.mark(moments);
  await slower;
  return !away;
}

/** What is kept beside candles: forecasts one by one, versions, runs, quality. */
async function refreshRecords(of, forecasts, monitoring, model) {
  const mine = turn;
  const together = async (parts) => Object.fromEntries(await Promise.all(Object.entries(parts).map(async ([name, part]) => [name, await part])));
  const [ledger, models, drift] = await Promise.allSettled([
    forecasts,
    together({ versions: of("/versions"), importance: of("/importance").catch(() => null), model: model.catch(() => null) }),
    together({ monitoring, jobs: of("/jobs"), quality: of("/quality") }),
  ]);
  if (mine !== turn) return;
  panels.ledger.show(ledger, (told, body) => forecastTable.show(told, body));
  panels.models.show(models, (told, body) => drawModels({ ...told, mlflow }, body));
  panels.drift.show(drift, drawDrift);
}

/** The slice that the champion's figures are of, and when champions changed. */
function momentsOf({ model, monitoring }) {
  const champion = model?.models.champion;
  const marks = (monitoring?.promotions ?? [])
    .filter((one) => one.decision === "promoted")
    .map((one) => ({ time: seconds(one.as_of ?? one.decided_at), label: `v${one.version}` }));
  const known = champion?.trained_until ?? null;
  return { from: known && seconds(champion.validation_start), to: known && seconds(known), marks };
}

let timer = null;
shownMarket = marketName();

async function refresh() {
  clearTimeout(timer);
  turn += 1;
  const mine = turn;
  const [isThere] = await Promise.all([refreshNow(), refreshDirection(), refreshCharts()]);
  if (mine === turn) timer = setTimeout(refresh, isThere ? choices.refresh * 1000 : AGAIN_MS);
}

onZoom((range) => view.zoomed(range));
for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => zoom(button.dataset.zoom));
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refresh()));
refresh();
