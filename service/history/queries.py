"""The SQL of the read API; every query is about one market, `symbol`, `interval` and `horizon`."""

from __future__ import annotations

_MARKET = "symbol = %(symbol)s and interval = %(interval)s"
_WINDOW = "open_time >= %(start)s and open_time < %(end)s"
_CANDLE = "open_time, open, high, low, close, volume, quote_volume, trades, taker_buy_base, taker_buy_quote"

CANDLES = f"""
select * from (
    select {_CANDLE} from candles where {_MARKET} and {_WINDOW}
    order by open_time desc limit %(limit)s
) as newest order by open_time
"""

# The newest candle is the clock here: candles of a replay lie in the past.
_LAST_HOURS = f"""
{_MARKET} and open_time > (
    select max(open_time) from candles where {_MARKET}
) - make_interval(hours => %(hours)s)
"""

CANDLES_OF_HOURS = f"""
select * from (
    select {_CANDLE} from candles where {_LAST_HOURS}
    order by open_time desc limit %(limit)s
) as newest order by open_time
"""

PRICE_STATS = f"""
select count(*) as n,
       min(open_time) as start,
       max(open_time) + candle_length(%(interval)s) as end,
       (array_agg(open order by open_time))[1] as open,
       max(high) as max,
       min(low) as min,
       (array_agg(close order by open_time desc))[1] as close,
       avg(close) as average,
       stddev_samp(close) as deviation,
       avg(high - low) as average_amplitude,
       sum(volume) as volume,
       case when count(quote_volume) = count(*) then sum(quote_volume) end as quote_volume,
       case when count(trades) = count(*) then sum(trades) end as trades
from candles where {_LAST_HOURS}
"""

# In both queries first the newest open times are found, by an index, and then what stands at each of them, by the
# primary key. Left to itself, and without statistics on a young table, the planner reads years, or pairs all with all.
_FORECASTS_WANTED = f"{_MARKET} and horizon = %(horizon)s and (%(role)s::text is null or role = %(role)s)"
_AT_MOMENT = f"{_MARKET} and open_time = m.open_time"

# `limit` counts target candles, so that a page never ends between the forecasts of two roles for one of them.
FORECASTS = f"""
with moments as materialized (
    select distinct open_time from forecasts where {_FORECASTS_WANTED} and {_WINDOW}
    order by open_time desc limit %(limit)s
)
select f.*, f.open_time + candle_length(f.interval) as close_time,
       o.reference_close, o.open as actual_open, o.high as actual_high, o.low as actual_low,
       o.close as actual_close, o.amplitude as actual_amplitude, o.settled_at
from moments m
cross join lateral (select * from forecasts where {_FORECASTS_WANTED} and open_time = m.open_time offset 0) f
left join lateral (
    select * from outcomes where {_AT_MOMENT} and horizon = %(horizon)s offset 0
) o on true
order by f.open_time, f.role
"""

SERIES = f"""
with moments as materialized (
    (select open_time from candles where {_MARKET} and {_WINDOW} order by open_time desc limit %(limit)s)
    union
    (select open_time from forecasts
     where {_MARKET} and horizon = %(horizon)s and role = %(role)s and {_WINDOW}
     order by open_time desc limit %(limit)s)
    order by open_time desc limit %(limit)s
)
select m.open_time,
       c.open, c.high, c.low, c.close, c.volume,
       exists (select from candle_suspicions where {_AT_MOMENT}) as doubtful,
       f.open as forecast_open, f.high as forecast_high, f.low as forecast_low, f.close as forecast_close,
       f.amplitude as forecast_amplitude, f.probability_up, f.model_version, f.issued_at, f.abstained,
       reference.close as reference_close
from moments m
left join lateral (select * from candles where {_AT_MOMENT} offset 0) c on true
left join lateral (
    select * from forecasts where {_AT_MOMENT} and horizon = %(horizon)s and role = %(role)s offset 0
) f on true
left join lateral (
    select close from candles where {_MARKET} and open_time = f.last_open_time offset 0
) reference on true
order by m.open_time
"""

ISSUING = f"""
with newest as materialized (
    select open_time, lateness_s, clocks_agree from forecasts
    where {_MARKET} and horizon = %(horizon)s and role = %(role)s
    order by open_time desc limit %(limit)s
)
select count(*) as n,
       min(open_time) as since,
       (
           select count(*) from missed_forecasts
           where {_MARKET} and horizon = %(horizon)s and role = %(role)s
             and open_time >= (select min(open_time) from newest)
       ) as missed,
       count(*) filter (where not clocks_agree) as clocks_disagree,
       percentile_cont(0.5) within group (order by lateness_s) filter (where clocks_agree) as lateness_p50_s,
       percentile_cont(0.95) within group (order by lateness_s) filter (where clocks_agree) as lateness_p95_s,
       max(lateness_s) filter (where clocks_agree) as lateness_max_s
from newest
"""

MISSES = f"""
select open_time, role, reason, noticed_at from missed_forecasts where {_MARKET} and horizon = %(horizon)s
order by open_time desc, role limit %(limit)s
"""

ALERTS = f"""
select kind, subject, state, message, opened_at, last_seen_at, closed_at
from alerts where {_MARKET} and horizon = %(horizon)s
order by (state = 'open') desc, opened_at desc, id desc limit %(limit)s
"""

CHECKS = f"""
select checked_at, model_version, verdict, action, reasons, numbers, reports
from monitoring_checks where {_MARKET} and horizon = %(horizon)s
order by checked_at desc, id desc limit %(limit)s
"""

PROMOTIONS = """
select version, predecessor, alias, decision, reasons, decided_by, decided_at, as_of
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

STORED_SPAN = f"""
select (select min(open_time) from candles where {_MARKET}) as oldest,
       (select max(open_time) from candles where {_MARKET}) as newest
"""

# From one market to the next by the primary key: years of candles are not read.
MARKETS = """
with recursive stored as (
    (select symbol, interval from candles order by symbol, interval limit 1)
    union all
    select following.* from stored cross join lateral (
        select symbol, interval from candles
        where (candles.symbol, candles.interval) > (stored.symbol, stored.interval)
        order by symbol, interval limit 1
    ) as following
)
select symbol, interval from stored
"""
