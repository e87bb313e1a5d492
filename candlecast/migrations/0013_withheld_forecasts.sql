-- Why a forecast that was due was not requested. A forecast that is made in time after all keeps its row.

create table withheld_forecasts (
    symbol text not null,
    interval text not null,
    open_time timestamptz not null,         -- of the target candle
    horizon int not null check (horizon >= 1),
    role text not null check (role in ('champion', 'challenger')),
    cause text not null check (cause in ('doubtful', 'gap', 'still')),
    reason text not null,
    withheld_at timestamptz not null,       -- the exchange's clock
    primary key (symbol, interval, open_time, horizon, role),
    constraint known_interval check (candle_length(interval) is not null)
);

do $$
begin
    if exists (select from pg_roles where rolname = 'candlecast_writer') then
        grant select, insert on withheld_forecasts to candlecast_writer;
    end if;
    if exists (select from pg_roles where rolname = 'candlecast_reader') then
        grant select on withheld_forecasts to candlecast_reader;
    end if;
end $$;
