"""Reports on trainings and models.

To change the report, see html_report.py and report.html.j2; its plots, see plots.py.
To change what a run logs, see run_report.py; the table of docs/models.md, see model_table.py.
May import candlecast, dataset, evaluation, export, families, gate, metrics and splits.
"""
