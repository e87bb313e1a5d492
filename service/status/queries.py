"""SQL of what is stored beside candles and forecasts: decisions about versions, runs of jobs, quality of candles."""

from __future__ import annotations

_MARKET = "symbol = %(symbol)s and interval = %(interval)s"

DECISIONS = """
select version, run_id, predecessor, predecessor_run_id, alias, decision, reasons, numbers, decided_by, decided_at,
       as_of
from promotions where model_name = %(model_name)s
order by id desc limit %(limit)s
"""

NEWEST_TRIAL = f"""
select numbers -> 'trial' as trial from monitoring_checks where {_MARKET} and horizon = %(horizon)s
order by checked_at desc, id desc limit 1
"""

JOB_RUNS = f"""
select newest.* from unnest(%(jobs)s::text[]) with ordinality as wanted (job, place) cross join lateral (
    select job, status, message, rows, started_at, finished_at from job_runs
    where {_MARKET} and horizon = %(horizon)s and job = wanted.job
    order by started_at desc limit %(limit)s
) as newest
order by place, started_at desc
"""

GAPS = f"""
select start_time as start, end_time as end, state, found_at, changed_at from candle_gaps where {_MARKET}
order by (state = 'open') desc, start_time desc limit %(limit)s
"""

DOUBTFUL = f"""
select open_time, reasons, found_at from candle_suspicions where {_MARKET}
order by open_time desc limit %(limit)s
"""

REVISIONS = f"""
select open_time, close, volume, source, replaced_at from candle_revisions where {_MARKET}
order by open_time desc, id desc limit %(limit)s
"""

QUALITY_COUNTS = f"""
select (select count(*) from candle_gaps where {_MARKET} and state = 'open') as gaps_open,
       (select count(*) from candle_gaps where {_MARKET} and state = 'outage') as outages,
       (select count(*) from candle_gaps where {_MARKET} and state = 'repaired') as gaps_repaired,
       (select count(*) from candle_suspicions where {_MARKET}) as doubtful,
       (select count(*) from candle_revisions where {_MARKET}) as revisions
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
select checked_at, model_version, run_id, verdict, action, reasons, numbers, reports
from monitoring_checks where {_MARKET} and horizon = %(horizon)s
order by checked_at desc, id desc limit %(limit)s
"""

PROMOTIONS = """
select version, run_id, predecessor, predecessor_run_id, alias, decision, reasons, decided_by, decided_at, as_of
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

# Steps from market to market by the primary key, without reading years of candles.
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
