-- Shadow trials, rollback and alerts.

alter table promotions
    add column as_of timestamptz,           -- the exchange's clock, where whoever decided knew it
    drop constraint promotions_decision_check,
    drop constraint promotions_decided_by_check,
    -- trial: became challenger. undecided: its trial ended without proof. failed: not to be champion again.
    add constraint promotions_decision_check
        check (decision in ('promoted', 'trial', 'rejected', 'undecided', 'failed')),
    add constraint promotions_decided_by_check
        check (decided_by in ('gate', 'trial', 'monitor', 'rollback', 'person'));

create index on promotions (model_name, version, id desc);

-- What somebody should know. A condition is open until it was not seen any more; an event happened, and that is all.
create table alerts (
    id bigint generated always as identity primary key,
    symbol text not null,
    interval text not null,
    horizon int not null,
    kind text not null check (kind in ('data fault', 'missed forecasts', 'drift', 'training failed', 'service down',
                                       'promotion', 'rollback')),
    subject text not null,                  -- what it is about, so that two can be open at once
    state text not null check (state in ('open', 'recovered', 'event')),
    message text not null,
    opened_at timestamptz not null,         -- the exchange's clock, like the two below
    last_seen_at timestamptz not null,
    closed_at timestamptz,
    told_at timestamptz,                    -- the database's clock when the webhook took the notice
    recovery_told_at timestamptz,
    check ((closed_at is not null) = (state = 'recovered'))
);

create unique index one_open_alert on alerts (symbol, interval, horizon, kind, subject) where state = 'open';
create unique index one_alert_of_event on alerts (symbol, interval, horizon, kind, subject) where state = 'event';
create index on alerts (symbol, interval, horizon, opened_at desc);

do $$
begin
    if exists (select from pg_roles where rolname = 'candlecast_writer') then
        grant select, insert, update, delete on alerts to candlecast_writer;
    end if;
    if exists (select from pg_roles where rolname = 'candlecast_reader') then
        grant select on alerts to candlecast_reader;
    end if;
end $$;
