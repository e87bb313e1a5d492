"""Reports on trainings and models.

To change the report, see html_report.py and report.html.j2; its plots, see plots.py.
To change what a run logs, see run_report.py; the table of docs/models.md, see model_table.py.
May import families, gate, export, evaluation, metrics, splits, dataset and candlecast.
"""
