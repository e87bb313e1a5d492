"""Monitoring of live forecasts and the decision to retrain; the only package that imports Evidently.

To change what a check concludes, see verdict.py; its measurements, check.py, performance.py, skill.py, drift.py.
To change the sequential tests, see sequential.py; the losses they read, live_losses.py; what they can prove, power.py.
To change trial or rollback, see trial.py and rollback.py; alerts, alerts.py, webhook.py and heartbeat.py.
To change Evidently's reports, see reports.py, report_pages.py and workspace.py.
May import candlecast.
"""
