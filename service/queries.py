"""The SQL of the read API; every query is about one market, `symbol`, `interval` and `horizon`."""

from __future__ import annotations

_MARKET = "symbol = %(symbol)s and interval = %(interval)s"
_WINDOW = "open_time >= %(start)s and open_time < %(end)s"

CANDLES = f"""
select * from (
    select open_time, open, high, low, close, volume, quote_volume, trades, taker_buy_base, taker_buy_quote
    from candles where {_MARKET} and {_WINDOW}
    order by open_time desc limit %(limit)s
) as newest order by open_time
"""

FORECASTS = f"""
select * from (
    select f.*, f.open_time + candle_length(f.interval) as close_time,
           o.reference_close, o.open as actual_open, o.high as actual_high, o.low as actual_low,
           o.close as actual_close, o.amplitude as actual_amplitude, o.settled_at
    from forecasts f left join outcomes o using (symbol, interval, open_time, horizon)
    where {_MARKET} and horizon = %(horizon)s and {_WINDOW}
      and (%(role)s::text is null or role = %(role)s)
    order by open_time desc, role limit %(limit)s
) as newest order by open_time, role
"""

ROLLING = f"""
select count(*) as n,
       min(open_time) as start,
       max(open_time) as newest,
       100 * avg(close_ape) as close_mape,
       100 * avg(baseline_close_ape) as persistence_mape,
       1 - sum(abs(close_error)) / nullif(sum(abs(baseline_close - actual_close)), 0) as close_skill,
       stddev_samp(abs(close_error) - abs(baseline_close - actual_close)) / sqrt(count(*))
           / nullif(avg(abs(baseline_close - actual_close)), 0) as close_skill_error,
       1 - sum(abs(amplitude - actual_amplitude)) / nullif(sum(abs(baseline_amplitude - actual_amplitude)), 0)
           as amplitude_skill,
       count(direction_hit) as direction_n,
       avg(direction_hit::int)::float8 as direction_accuracy,
       avg((actual_close between close_lower and close_upper)::int)::float8 as close_coverage
from (
    select * from settled_forecasts
    where {_MARKET} and horizon = %(horizon)s and role = 'champion' and model_version = %(version)s
    order by open_time desc limit %(limit)s
) as newest where not abstained
"""

CHECKS = f"""
select checked_at, model_version, verdict, action, reasons, numbers, report
from monitoring_checks where {_MARKET} and horizon = %(horizon)s
order by checked_at desc, id desc limit %(limit)s
"""

PROMOTIONS = """
select version, predecessor, alias, decision, reasons, decided_by, decided_at
from promotions where model_name = %(model_name)s
order by decided_at desc, id desc limit %(limit)s
"""

FRESHNESS = f"""
select (select max(open_time) from candles where {_MARKET}) as newest_candle,
       newest.open_time as newest_forecast, newest.source as forecast_source
from (select 1) as always left join (
    select open_time, source from forecasts where {_MARKET} and horizon = %(horizon)s
    order by open_time desc limit 1
) as newest on true
"""

LAST_JOB_RUNS = f"""
select newest.* from unnest(%(jobs)s::text[]) as wanted (job) cross join lateral (
    select job, status, message, rows, started_at, finished_at from job_runs
    where {_MARKET} and job = wanted.job
    order by started_at desc limit 1
) as newest
"""
