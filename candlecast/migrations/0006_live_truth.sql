-- Forecasts by month, refused once their outcome could be known; and a record of those that were due and never made.
-- docs/decisions/0010-append-only-by-month.md

drop view settled_forecasts;
alter table forecasts rename to unpartitioned_forecasts;
alter index forecasts_pkey rename to unpartitioned_forecasts_pkey;

create table forecasts (
    like unpartitioned_forecasts including constraints,
    -- on the exchange's clock, since the last candle used had closed: with horizon 1, since the target candle opened
    lateness_s float8 not null generated always as (
        extract(epoch from issued_at - last_open_time)::float8 - extract(epoch from candle_length(interval))::float8
    ) stored,
    -- the exchange's clock and the database's; a replay's clock is meant to be another
    clocks_agree boolean not null generated always as (
        source = 'replay' or abs(extract(epoch from recorded_at - issued_at)) <= 30
    ) stored,
    primary key (symbol, interval, open_time, horizon, role)
) partition by range (open_time);

create index on forecasts (symbol, interval, horizon, role, model_version, open_time);

-- The partition of a target candle's month (UTC). As the owner, so that a writer may begin a month and nothing else.
create function ensure_forecast_month(moment timestamptz) returns void
language plpgsql security definer set timezone = 'UTC' set datestyle = 'ISO' as $$
declare
    first timestamptz := date_trunc('month', moment);
    month text := to_char(first, '"forecasts_"YYYY"_"MM');
begin
    if to_regclass(month) is not null then
        return;
    end if;
    lock table forecasts in share update exclusive mode;  -- as attaching does; readers and writers go on
    if to_regclass(month) is not null then  -- another was faster
        return;
    end if;
    execute format('create table %I (like forecasts including constraints including generated)', month);
    -- Attached, not created as a part: that would wait for everyone who reads the ledger, and they for it.
    execute format('alter table forecasts attach partition %I for values from (%L) to (%L)',
                   month, first, first + make_interval(months => 1));
    -- Triggers of rows come with the parent, those of statements do not.
    execute format('create trigger append_only_truncate before truncate on %I '
                   'for each statement execute function refuse_change()', month);
end $$;

select ensure_forecast_month(month)
from (select distinct date_trunc('month', open_time, 'UTC') as month from unpartitioned_forecasts) as months;

insert into forecasts select * from unpartitioned_forecasts;  -- no trigger yet: recorded_at stays
drop table unpartitioned_forecasts;

create table missed_forecasts (
    symbol text not null,
    interval text not null,
    open_time timestamptz not null,         -- of the target candle
    horizon int not null check (horizon >= 1),
    role text not null check (role in ('champion', 'challenger')),
    reason text not null,
    noticed_at timestamptz not null,        -- the exchange's clock
    recorded_at timestamptz not null,       -- the database's clock, set by the trigger
    primary key (symbol, interval, open_time, horizon, role),
    constraint known_interval check (candle_length(interval) is not null),
    constraint missed_once_closed check (noticed_at >= open_time + candle_length(interval))
);

-- A target and role have a forecast or a miss, never both: whoever writes either does so alone.
create function lock_forecasts(symbol text, "interval" text, horizon int, role text) returns void language sql as $$
select pg_advisory_xact_lock(hashtextextended(format('forecasts %s %s %s %s', symbol, "interval", horizon, role), 0));
$$;

create or replace function stamp_forecast() returns trigger language plpgsql as $$
declare
    known_by text;
begin
    perform lock_forecasts(new.symbol, new.interval, new.horizon, new.role);
    new.recorded_at := clock_timestamp();
    known_by := case
        when current_setting('transaction_isolation') <> 'read committed'
            then 'its transaction may look at an older state than that of now; use read committed'
        when exists (select from candles c where c.symbol = new.symbol and c.interval = new.interval
                     and c.open_time >= new.open_time)
            then 'that candle, or a later one, is stored already'
        when exists (select from missed_forecasts m
                     where (m.symbol, m.interval, m.open_time, m.horizon, m.role)
                         = (new.symbol, new.interval, new.open_time, new.horizon, new.role))
            then 'it is recorded as missed'
        when new.source = 'live'
             and new.recorded_at > new.open_time + candle_length(new.interval) + make_interval(secs => 30)
            then format('that candle had closed when the database''s clock said %s', new.recorded_at)
        when new.source <> (select f.source from forecasts f
                            where f.symbol = new.symbol and f.interval = new.interval
                            order by f.open_time desc limit 1)
            then format('the ledger of %s %s is not of source %s', new.symbol, new.interval, new.source)
    end;
    if known_by is not null then
        raise exception '% forecast of % % % refused: %',
            new.role, new.symbol, new.interval, new.open_time, known_by
            using errcode = 'check_violation', constraint = 'recorded_before_outcome', table = 'forecasts';
    end if;
    return new;
end $$;

create function stamp_miss() returns trigger language plpgsql as $$
declare
    wrong text;
begin
    perform lock_forecasts(new.symbol, new.interval, new.horizon, new.role);
    new.recorded_at := clock_timestamp();
    wrong := case
        when not exists (select from candles c
                         where (c.symbol, c.interval, c.open_time) = (new.symbol, new.interval, new.open_time))
            then 'that candle is not stored'
        when exists (select from forecasts f
                     where (f.symbol, f.interval, f.open_time, f.horizon, f.role)
                         = (new.symbol, new.interval, new.open_time, new.horizon, new.role))
            then 'there is a forecast'
    end;
    if wrong is not null then
        raise exception 'missed % forecast of % % % refused: %',
            new.role, new.symbol, new.interval, new.open_time, wrong
            using errcode = 'check_violation', constraint = 'missed_for_good', table = 'missed_forecasts';
    end if;
    return new;
end $$;

create trigger stamp_forecast before insert on forecasts for each row execute function stamp_forecast();
create trigger stamp_miss before insert on missed_forecasts for each row execute function stamp_miss();

create trigger append_only before update or delete on forecasts for each row execute function refuse_change();
create trigger append_only before update or delete on missed_forecasts for each row execute function refuse_change();

create trigger append_only_truncate before truncate on forecasts
for each statement execute function refuse_change();
create trigger append_only_truncate before truncate on missed_forecasts
for each statement execute function refuse_change();

-- As before, and without live forecasts whose two clocks disagree: nobody can say that they came in time. Each outcome
-- is looked up by its key: on a young table, and on a new month's partition, the planner has no statistics, takes a
-- market for a handful of rows, and would read all outcomes for each forecast. `offset 0` keeps it from making a join.
create view settled_forecasts as
select f.*,
       o.reference_close,
       o.open as actual_open,
       o.high as actual_high,
       o.low as actual_low,
       o.close as actual_close,
       o.amplitude as actual_amplitude,
       o.settled_at,
       f.close - o.close as close_error,
       abs(f.close - o.close) / o.close as close_ape,
       abs(f.baseline_close - o.close) / o.close as baseline_close_ape,
       -- null where the market did not move: neither a hit nor a miss
       case when o.close <> o.reference_close
            then (f.probability_up >= 0.5) = (o.close > o.reference_close) end as direction_hit
from forecasts f
cross join lateral (
    select * from outcomes
    where (symbol, interval, open_time, horizon) = (f.symbol, f.interval, f.open_time, f.horizon) offset 0
) o
where f.clocks_agree and not exists (
    select from candle_suspicions s
    where s.symbol = f.symbol and s.interval = f.interval and s.open_time in (f.open_time, f.last_open_time) offset 0
);

revoke all on function ensure_forecast_month(timestamptz) from public;

do $$
declare
    function_name text;
begin
    -- No temporary table of the caller's may stand for one of these.
    foreach function_name in array array[
        'ensure_forecast_month(timestamptz)', 'stamp_forecast()', 'stamp_miss()'
    ] loop
        execute format('alter function %s set search_path = %I, pg_temp', function_name, current_schema());
    end loop;
    if exists (select from pg_roles where rolname = 'candlecast_writer') then
        grant select, insert on forecasts, missed_forecasts to candlecast_writer;
        grant select on settled_forecasts to candlecast_writer;
        grant execute on function ensure_forecast_month(timestamptz) to candlecast_writer;
    end if;
    if exists (select from pg_roles where rolname = 'candlecast_reader') then
        grant select on forecasts, missed_forecasts, settled_forecasts to candlecast_reader;
    end if;
end $$;
