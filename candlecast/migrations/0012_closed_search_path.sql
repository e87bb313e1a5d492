-- No temporary table of a caller may stand for a table that a function of the owner writes or a trigger reads, only
-- the writer may make temporary tables, and a writer cannot make months without end.

create or replace function ensure_forecast_month(moment timestamptz) returns void
language plpgsql security definer set timezone = 'UTC' set datestyle = 'ISO' as $$
declare
    first timestamptz := date_trunc('month', moment);
    month text := to_char(first, '"forecasts_"YYYY"_"MM');
begin
    if to_regclass(month) is not null then
        return;
    end if;
    if moment > clock_timestamp() + interval '10 years' then
        raise exception 'no forecast is of %', moment using errcode = 'check_violation';
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

do $$
declare
    function_name text;
begin
    for function_name in
        select p.oid::regprocedure from pg_proc p join pg_language l on l.oid = prolang
        where pronamespace = current_schema()::regnamespace and lanname = 'plpgsql' and proowner = current_user::regrole
    loop
        execute format('alter function %s set search_path = %I, pg_temp', function_name, current_schema());
    end loop;
    execute format('revoke temporary on database %I from public', current_database());
    if exists (select from pg_roles where rolname = 'candlecast_writer') then
        execute format('grant temporary on database %I to candlecast_writer', current_database());
    end if;
end $$;
