"""SQL of the charts: one market's candles and forecasts, merged by the database into steps of a period.

Every query is about open times in [start, end). A step has the time of its beginning.
"""

from __future__ import annotations

from candlecast.figures import FIGURES, LOSS, RELATIVE_LOSS

_MARKET = "symbol = %(symbol)s and interval = %(interval)s"
_PERIOD = "open_time >= %(start)s and open_time < %(end)s"
_FORECAST = f"{_MARKET} and horizon = %(horizon)s and role = %(role)s"
_STEP = "date_bin(%(step)s, open_time, '1970-01-05 00:00:00+00')"

STORED_SPAN = f"""
select (select min(open_time) from candles where {_MARKET}) as oldest,
       (select max(open_time) from candles where {_MARKET}) as newest
"""


def _last(value: str) -> str:
    return f"(array_agg({value} order by open_time desc))[1]"


_DOUBTFUL = f"from candle_suspicions where {_MARKET}"

# The rows of the view settled_forecasts without abstentions, read at once: the view's lookups are slow for 10,000 rows.
# A full join is never a nested loop, which the planner would choose on a young table; `coalesce` in every condition on
# columns of both sides hides the inner join.
_SETTLED = f"""
settled as materialized (
    select open_time, model_version, run_id, f.close, baseline_close, probability_up, baseline_up, reference_close,
           o.close as actual_close, amplitude as actual_amplitude
    from (
        select true as is_made, open_time, model_version, run_id, close, baseline_close, probability_up, baseline_up
        from forecasts where {_FORECAST} and {_PERIOD} and clocks_agree and not abstained
    ) as f full join (
        select true as has_come, open_time, reference_close, close, amplitude
        from outcomes where {_MARKET} and horizon = %(horizon)s and {_PERIOD}
    ) as o using (open_time)
    where coalesce(is_made, false) and coalesce(has_come, false)
      and coalesce(abs(baseline_close - reference_close) <= 1e-6 * reference_close, false)
      and open_time not in (
        select open_time {_DOUBTFUL}
        union all
        select open_time + %(horizon)s * candle_length(%(interval)s) {_DOUBTFUL}
    )
)"""

# The newest rows of each version before the period, so that its rolling error reaches back to them.
_EARLIER = f"""
earlier as materialized (
    select newest.* from (select distinct model_version, run_id from settled) as one cross join lateral (
        select open_time, model_version, run_id, close, baseline_close, reference_close, actual_close, actual_amplitude
        from settled_forecasts
        where {_FORECAST} and not abstained and open_time < %(start)s
          and model_version = one.model_version and run_id = one.run_id
        order by open_time desc limit %(rolling_n)s
    ) as newest
)"""


_HIT = "(probability_up >= 0.5) = (actual_close > reference_close)"
_MOVED = "actual_close <> reference_close"
_OWN, _NAIVE = ("close", "actual_close"), ("baseline_close", "actual_close")


def _figures(*names: str) -> str:
    """Errors of the close, and for each but the bias that of persistence."""
    return ", ".join(
        f"{FIGURES[name].sql(*columns)} as {forecast}_{name}"
        for name in names
        for forecast, columns in (("close", _OWN), ("persistence", _NAIVE))
        if (forecast, name) != ("persistence", "bias")
    )


def _confusion(up: str) -> str:
    """Counts of the forecast direction `up` and the actual one, as `service.charts.schemas.Confusion`."""
    return f"""json_build_object(
        'up_up', count(*) filter (where {up} and rose), 'up_down', count(*) filter (where {up} and not rose),
        'down_up', count(*) filter (where not {up} and rose),
        'down_down', count(*) filter (where not {up} and not rose))"""


STEPS = f"""
with {_SETTLED}, bars as (
    select {_STEP} as at, (array_agg(open order by open_time))[1] as open, max(high) as high, min(low) as low,
           {_last("close")} as close, sum(volume) as volume
    from candles where {_MARKET} and {_PERIOD} group by 1
), made as (
    select {_STEP} as at, count(*) as forecasts, {_last("close")} as forecast_close, max(high) as forecast_high,
           min(low) as forecast_low, {_last("close_lower")} as close_lower, {_last("close_upper")} as close_upper,
           {_last("probability_up")} as probability_up, count(*) filter (where abstained) as abstained,
           count(*) filter (where open_time > (select max(open_time) from candles where {_MARKET})) as pending
    from forecasts where {_FORECAST} and {_PERIOD} group by 1
), directions as (
    select {_STEP} as at, count(*) filter (where {_HIT}) as hits, count(*) filter (where not ({_HIT})) as misses
    from settled where {_MOVED} group by 1
)
select * from bars full join made using (at) full join directions using (at) order by at
"""

# Rolling errors are over the newest rows of one version, as in candlecast.ledger.performance.measure.
# Running sums less those of the row N before: a moving window of N would read each row N times.
ERRORS = f"""
with {_SETTLED}, {_EARLIER}, counted as (
    select open_time, model_version, run_id, close, baseline_close, actual_close, reference_close,
           {RELATIVE_LOSS.sql(*_OWN)} as ape, {RELATIVE_LOSS.sql(*_NAIVE)} as naive_ape,
           100 * actual_amplitude / actual_close as amplitude_percent,
           1e4 * (close / reference_close - 1) as predicted_bp,
           1e4 * (actual_close / reference_close - 1) as actual_bp
    from (
        select open_time, model_version, run_id, close, baseline_close, reference_close, actual_close, actual_amplitude
        from settled union all table earlier
    ) as all_rows
), summed as (
    select *, row_number() over w as place, sum(ape) over w as apes, sum(naive_ape) over w as naive_apes
    from counted window w as (partition by model_version, run_id order by open_time)
), rolled as (
    select *, 100 * (apes - coalesce(lag(apes, %(rolling_n)s) over w, 0)) / least(place, %(rolling_n)s) as mape,
           100 * (naive_apes - coalesce(lag(naive_apes, %(rolling_n)s) over w, 0)) / least(place, %(rolling_n)s)
               as naive_mape
    from summed window w as (partition by model_version, run_id order by open_time)
), shown as materialized (
    -- No more columns than needed: a season of them fits in work_mem.
    select open_time, close, baseline_close, actual_close, amplitude_percent, predicted_bp, actual_bp, place, mape,
           naive_mape, 1e4 * (close - actual_close) / reference_close as error_bp,
           1e4 * (baseline_close - actual_close) / reference_close as naive_error_bp
    from rolled where open_time >= %(start)s
), steps as (
    select {_STEP} as open_time, count(*) as n, {_figures("mae", "mape", "bias")},
           {_last("mape")} as rolling_mape, {_last("naive_mape")} as rolling_persistence_mape,
           sum({LOSS.sql(*_OWN)}) as losses, sum({LOSS.sql(*_NAIVE)}) as naive_losses
    from shown group by 1
), scale as (
    select greatest(percentile_cont(0.995) within group (order by greatest(abs(error_bp), abs(naive_error_bp))), 1e-6)
           as reach, greatest(count(*) / %(dots)s, 1) as thinning
    from shown
), buckets as (
    select least(greatest(width_bucket(error_bp, -reach, reach, %(buckets)s), 1), %(buckets)s) as own,
           least(greatest(width_bucket(naive_error_bp, -reach, reach, %(buckets)s), 1), %(buckets)s) as naive,
           count(*) as n
    from shown, scale group by 1, 2
)
select
    (select row_to_json(figures) from (
        select count(*) as n, {_figures("mae", "mape", "rmse", "bias")},
               avg(amplitude_percent) as mean_amplitude_percent
        from shown) as figures) as figures,
    (select json_agg(steps order by open_time) from steps) as steps,
    (select reach from scale) as reach,
    (select json_agg(json_build_array(bucket, own, naive)) from (
        select bucket, coalesce(sum(n) filter (where is_own), 0) as own,
               coalesce(sum(n) filter (where not is_own), 0) as naive
        from (select own as bucket, true as is_own, n from buckets union all select naive, false, n from buckets) as one
        group by bucket) as heights) as histogram,
    (select json_agg(json_build_array(predicted_bp, actual_bp) order by open_time)
     from shown, scale where (place - 1) %% thinning = 0) as dots
"""

DIRECTION = f"""
with {_SETTLED}, counted as materialized (
    select open_time, probability_up, baseline_up, {_HIT} as hit, (actual_close > reference_close) as rose,
           (probability_up >= 0.5) as up, abs(actual_close / reference_close - 1) as size,
           abs(probability_up - 0.5) as confidence, (baseline_up >= 0.5) as base_up,
           case when reference_close <> earlier_close then reference_close > earlier_close end as rose_before
    from (
        -- No join, because the planner may choose to pair all rows with all.
        select *, first_value(reference_close) over (
            order by open_time range between %(horizon)s * candle_length(%(interval)s) preceding
                                         and %(horizon)s * candle_length(%(interval)s) preceding) as earlier_close
        from settled) as known
    where {_MOVED}
), bins as (
    -- Equal probabilities share the bin of their middle rank, as in training.reports.breakdown.reliability_of.
    select %(bins)s * (2 * rank() over (order by probability_up) - 2 + count(*) over (partition by probability_up))
           / (2 * (select count(*) from counted)) as bin, probability_up, rose
    from counted
), fifths as (
    select ntile(least(5, (select count(*) from counted))::int) over (order by confidence) as fifth,
           confidence, hit
    from counted
)
select
    (select row_to_json(figures) from (
        select count(*) as n, {FIGURES["accuracy"].sql("hit")} as accuracy,
               {FIGURES["weighted_accuracy"].sql("hit", "size")} as weighted_accuracy,
               {FIGURES["mean_return_on_hits"].sql("hit", "size")} as mean_return_on_hits,
               {FIGURES["mean_return_on_misses"].sql("hit", "size")} as mean_return_on_misses,
               {FIGURES["accuracy"].sql("rose")} as rising,
               {FIGURES["accuracy"].sql("(rose = base_up)")} as base_rate_accuracy,
               {FIGURES["accuracy"].sql("(rose = rose_before)")} as repeat_accuracy,
               {FIGURES["brier"].sql("probability_up", "rose::int")} as brier,
               {FIGURES["brier"].sql("baseline_up", "rose::int")} as base_rate_brier,
               {_confusion("up")} as confusion,
               {_confusion("base_up")} as base_rate_confusion
        from counted) as figures) as figures,
    (select json_agg(json_build_array(hits, n) order by at) from (
        select {_STEP} as at, count(*) filter (where hit) as hits, count(*) as n
        from counted group by 1) as one) as steps,
    (select json_agg(one order by bin) from (
        select bin, count(*) as n, avg(probability_up) as probability, {FIGURES["accuracy"].sql("rose")} as rising
        from bins group by bin) as one) as reliability,
    (select json_agg(one order by fifth) from (
        select fifth, count(*) as n, min(confidence) as least, max(confidence) as most,
               {FIGURES["accuracy"].sql("hit")} as accuracy
        from fifths group by fifth) as one) as confidence
"""
