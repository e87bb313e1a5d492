-- Forecasts name the digest of the bundle that made them; rows of before have none.

alter table forecasts
    add column bundle_sha256 text check (bundle_sha256 ~ '^[0-9a-f]{64}$');  -- of `bundle.json`; null in older rows
