-- The best bid and ask right after a forecast was recorded: what an order at that moment would have met.
-- docs/decisions/0025-quotes-beside-forecasts.md

create table quotes (
    symbol text not null,
    interval text not null,
    open_time timestamptz not null,         -- of the forecast's target candle
    horizon int not null,
    role text not null check (role in ('champion', 'challenger')),
    bid float8 not null,
    bid_quantity float8 not null,           -- base currency
    ask float8 not null,
    ask_quantity float8 not null,           -- base currency
    known_at timestamptz not null,          -- the exchange's clock, read after the exchange had answered the quote
    recorded_at timestamptz not null,       -- the database's clock, set by the trigger
    primary key (symbol, interval, open_time, horizon, role),
    constraint known_interval check (candle_length(interval) is not null),
    constraint sound check (
        bid > 0 and bid <= ask and ask < 'infinity'
        and bid_quantity >= 0 and bid_quantity < 'infinity' and ask_quantity >= 0 and ask_quantity < 'infinity'
    ),
    constraint known_before_outcome check (known_at < open_time + candle_length(interval))
) partition by range (open_time);

-- A month of a table that is kept by month; see ensure_forecast_month.
create function begin_month(kept text, first timestamptz) returns void
language plpgsql set timezone = 'UTC' set datestyle = 'ISO' as $$
declare
    month text := kept || to_char(first, '"_"YYYY"_"MM');
begin
    if to_regclass(month) is not null then
        return;
    end if;
    execute format('lock table %I in share update exclusive mode', kept);  -- as attaching does; others go on
    if to_regclass(month) is not null then  -- another was faster
        return;
    end if;
    execute format('create table %I (like %I including constraints including generated)', month, kept);
    -- Attached, not created as a part: that would wait for everyone who reads the table, and they for it.
    execute format('alter table %I attach partition %I for values from (%L) to (%L)',
                   kept, month, first, first + make_interval(months => 1));
    -- Triggers of rows come with the parent, those of statements do not.
    execute format('create trigger append_only_truncate before truncate on %I '
                   'for each statement execute function refuse_change()', month);
end $$;

-- The months of a target candle, of forecasts and of quotes. As the owner, so that a writer may begin them.
create or replace function ensure_forecast_month(moment timestamptz) returns void
language plpgsql security definer set timezone = 'UTC' set datestyle = 'ISO' as $$
begin
    if moment > clock_timestamp() + interval '10 years' then
        raise exception 'no forecast is of %', moment using errcode = 'check_violation';
    end if;
    perform begin_month('forecasts', date_trunc('month', moment));
    perform begin_month('quotes', date_trunc('month', moment));
end $$;

create function stamp_quote() returns trigger language plpgsql as $$
declare
    wrong text;
begin
    new.recorded_at := clock_timestamp();
    wrong := case
        when current_setting('transaction_isolation') <> 'read committed'
            then 'its transaction may look at an older state than that of now; use read committed'
        when exists (select from candles c where c.symbol = new.symbol and c.interval = new.interval
                     and c.open_time >= new.open_time)
            then 'that candle, or a later one, is stored already'
        when not exists (select from forecasts f
                         where (f.symbol, f.interval, f.open_time, f.horizon, f.role)
                             = (new.symbol, new.interval, new.open_time, new.horizon, new.role)
                           and f.issued_at <= new.known_at)
            then format('no forecast was issued before %s', new.known_at)
    end;
    if wrong is not null then
        raise exception 'quote of the % forecast of % % % refused: %',
            new.role, new.symbol, new.interval, new.open_time, wrong
            using errcode = 'check_violation', constraint = 'known_at_its_forecast', table = 'quotes';
    end if;
    return new;
end $$;

create trigger stamp_quote before insert on quotes for each row execute function stamp_quote();
create trigger append_only before update or delete on quotes for each row execute function refuse_change();
create trigger append_only_truncate before truncate on quotes for each statement execute function refuse_change();

revoke all on function begin_month(text, timestamptz) from public;

do $$
declare
    function_name text;
begin
    -- No temporary table of a caller may stand for one of these.
    foreach function_name in array array[
        'begin_month(text, timestamptz)', 'ensure_forecast_month(timestamptz)', 'stamp_quote()'
    ] loop
        execute format('alter function %s set search_path = %I, pg_temp', function_name, current_schema());
    end loop;
    if exists (select from pg_roles where rolname = 'candlecast_writer') then
        grant select, insert on quotes to candlecast_writer;
    end if;
    if exists (select from pg_roles where rolname = 'candlecast_reader') then
        grant select on quotes to candlecast_reader;
    end if;
end $$;
