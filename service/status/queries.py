"""The SQL of what is kept beside candles and forecasts: decisions about versions, runs of jobs, quality of candles."""

from __future__ import annotations

_MARKET = "symbol = %(symbol)s and interval = %(interval)s"

DECISIONS = """
select version, predecessor, alias, decision, reasons, numbers, decided_by, decided_at, as_of
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
    where {_MARKET} and job = wanted.job
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
