-- The ledger: each forecast written down before its outcome, and never touched again.

create table forecasts (
    symbol text not null,
    interval text not null,
    open_time timestamptz not null,         -- of the target candle
    horizon int not null check (horizon >= 1),
    role text not null check (role in ('champion', 'challenger')),
    model_version text not null,
    run_id text not null,
    issued_at timestamptz not null,         -- the exchange's clock
    recorded_at timestamptz not null,       -- the database's clock, set by the trigger
    open float8 not null,
    high float8 not null,
    low float8 not null,
    close float8 not null,
    amplitude float8 not null,
    probability_up float8 not null check (probability_up between 0 and 1),
    high_lower float8 not null,
    high_upper float8 not null,
    low_lower float8 not null,
    low_upper float8 not null,
    close_lower float8 not null,
    close_upper float8 not null,
    amplitude_lower float8 not null,
    amplitude_upper float8 not null,
    baseline_close float8 not null,
    baseline_amplitude float8 not null,
    baseline_up float8 not null,
    last_open_time timestamptz not null,    -- of the last candle used
    feature_hash text not null,
    abstained boolean not null,
    reason text,
    source text not null check (source in ('live', 'replay')),
    primary key (symbol, interval, open_time, horizon, role),
    constraint known_interval check (candle_length(interval) is not null),
    constraint issued_before_outcome check (issued_at < open_time + candle_length(interval)),
    constraint coherent check (low <= least(open, close) and high >= greatest(open, close)),
    constraint horizon_matches check (open_time = last_open_time + horizon * candle_length(interval)),
    constraint abstention_has_reason check (abstained = (reason is not null))
);

create function stamp_forecast() returns trigger language plpgsql as $$
begin
    new.recorded_at := clock_timestamp();
    return new;
end $$;

create trigger stamp_forecast before insert on forecasts
for each row execute function stamp_forecast();

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'table % is append-only: % refused', tg_table_name, tg_op
        using errcode = 'integrity_constraint_violation';
end $$;

create trigger append_only before update or delete on forecasts
for each row execute function refuse_change();

create trigger append_only_truncate before truncate on forecasts
for each statement execute function refuse_change();

-- What the market did; one row for a target and horizon, shared by all roles. It follows a candle that the
-- exchange corrects, so it is the one part of the ledger that may change.
create table outcomes (
    symbol text not null,
    interval text not null,
    open_time timestamptz not null,
    horizon int not null,
    reference_close float8 not null,        -- last close when the forecast was due
    open float8 not null,
    high float8 not null,
    low float8 not null,
    close float8 not null,
    amplitude float8 not null,
    settled_at timestamptz not null default clock_timestamp(),
    primary key (symbol, interval, open_time, horizon)
);
