-- Checks: a model that lost what it had, and several pages of reports.

alter table monitoring_checks
    add column reports text[] not null default '{}',  -- names of the pages that were newest then
    drop constraint monitoring_checks_verdict_check,
    add constraint monitoring_checks_verdict_check
        check (verdict in ('healthy', 'drift', 'decay', 'data fault', 'too early'));

update monitoring_checks set reports = array[regexp_replace(report, '.*[/\\]', '')] where report is not null;

alter table monitoring_checks drop column report;
