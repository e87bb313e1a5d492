// Polls the service every few seconds and passes its answers to the panels; each panel shows what it lacks.

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
const AGAIN_MS = 3000; // while the service does not answer
const DURATIONS = { m: 60, h: 3600, d: 86400, w: 604800 };

let shownMarket = null;
const choices = offerChoices(byId("choices"), () => {
  useZone(zoneOf(choices.zone));
  view.reset();
  if (marketName() !== shownMarket) forgetAll();
  refresh();
});
const marketName = () => `${choices.market} ${choices.symbol} ${choices.interval}`;
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
let turn = 0; // answers of an earlier turn are dropped

const value = (settled) => (settled.status === "fulfilled" ? settled.value : null);
const seconds = (moment) => Date.parse(moment) / 1000;

function showStatus(status) {
  document.title = `${status.market} · Candlecast`;
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

/** Other user interfaces listen on this machine; for a browser elsewhere their host is this page's. */
function showLink(anchor, link) {
  const url = new URL(link);
  if (["127.0.0.1", "localhost"].includes(url.hostname)) url.hostname = location.hostname;
  if (anchor.id === "link-mlflow") mlflow = url.href.replace(/\/$/, "");
  anchor.href = url.href;
  anchor.hidden = false;
}

/** Refresh the charts over time, for the part in sight. */
async function refreshCharts() {
  const mine = turn;
  const { closer } = view;
  const [chart, errors] = await Promise.allSettled([read(view.ofSight("/chart")), read(view.ofSight("/errors"))]);
  if (mine !== turn || closer !== view.closer) return;
  if (view.isMoving) {
    view.isOwing = true; // it is requested again when the zoom has ended
    return;
  }
  hold();
  panels.candles.show(chart, (answer, body) => {
    if (!answer.open_time.length) {
      candleChart = forget(candleChart);
      return "No candle is stored for this period yet: a backfill is running or has to be started.";
    }
    candleChart ??= new CandleChart(body);
    candleChart.mark(moments);
    const times = answer.open_time.map(seconds);
    view.shows(times, answer.step_s, parseInt(answer.interval, 10) * DURATIONS[answer.interval.at(-1)]);
    candleChart.show(answer, times, lowConfidence);
    return null;
  });
  panels.errors.show(errors, (answer, body) => {
    if (!answer.n) {
      errorPanel = forget(errorPanel);
      return "No forecast of this period is settled yet: figures appear when the first target candle has closed.";
    }
    errorPanel ??= new ErrorPanel(body, answer);
    if (!closer) errorPanel.showFigures(answer);
    errorPanel.showSteps(answer, view.times, value(chart));
    return null;
  });
  hold();
  if (value(chart)) showSteps(...view.steps);
}

function forget(shown) {
  shown?.remove();
  return null;
}

/** Clear everything of the last market, also while the service does not answer. */
function forgetAll() {
  shownMarket = marketName();
  candleChart = forget(candleChart);
  errorPanel = forget(errorPanel);
  for (const panel of Object.values(panels)) panel.wait();
  for (const tile of byId("now").querySelectorAll("article")) tile.remove();
}

async function refreshDirection() {
  const mine = turn;
  const [settled] = await Promise.allSettled([read(view.ofPeriod("/direction"))]);
  if (mine !== turn) return;
  panels.direction.show(settled, drawDirection);
  lowConfidence = value(settled)?.confidence[0]?.most ?? 0;
  candleChart?.doubt(lowConfidence);
}

async function refreshNow() {
  const mine = turn;
  const { market, hours } = view;
  const of = (path, more = {}) => read(address(path, { ...market, ...more }));
  const asking = of("/status");
  const served = asking.catch(() => null).then((status) => (status && !isForecastHere(status) ? NOT_FORECAST : of("/model")));
  const asked = [asking, of("/price/stats", { hours }), of("/forecasts", { role: "champion", limit: 60 }), of("/monitoring"), served];
  const slower = refreshRecords(of, asked[2], asked[3], served);
  const [status, stats, ledger, monitoring, model] = await Promise.allSettled(asked);
  if (mine !== turn) return false;
  if (value(status)) showStatus(status.value);
  const away = status.status === "rejected";
  byId("lost-notice").hidden = !away;
  byId("lost-notice").textContent = away ? status.reason.message : "";
  byId("now").setAttribute("aria-busy", "false");
  const answers = { status: value(status), stats: value(stats), ledger: value(ledger), monitoring: value(monitoring), model: value(model) };
  if (!away || !byId("now").querySelector("article")) drawNow(byId("now"), answers);
  moments = momentsOf(answers);
  candleChart?.mark(moments);
  await slower;
  return !away;
}

/** Refresh the panels of single forecasts, versions, runs and quality. */
async function refreshRecords(of, forecasts, monitoring, model) {
  const mine = turn;
  const together = async (parts) => Object.fromEntries(await Promise.all(Object.entries(parts).map(async ([name, part]) => [name, await part])));
  const [ledger, models, drift] = await Promise.allSettled([
    forecasts,
    together({ versions: of("/versions"), importance: of("/importance").catch(() => null), model: model.catch(() => null) }),
    together({ monitoring, jobs: of("/jobs"), quality: of("/quality") }),
  ]);
  if (mine !== turn) return;
  panels.ledger.show(ledger, (answer, body) => forecastTable.show(answer, body));
  panels.models.show(models, (answer, body) => drawModels({ ...answer, mlflow }, body));
  panels.drift.show(drift, drawDrift);
}

/** The champion's report slice, and when champions changed. */
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
