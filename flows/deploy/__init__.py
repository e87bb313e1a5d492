"""Prefect deployments, automations, and Kubernetes.

To change schedules, see prefect.yaml and deployment.py; what becomes of alerts, see automations.py.
To change how flow runs start on Kubernetes, see cluster.py.
May import jobs.
"""
