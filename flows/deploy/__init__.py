"""The deployments on Prefect's server, their schedules, and flow runs on Kubernetes.

To change which deployments exist, see prefect.yaml and deployment.py; their schedules, see schedules.py.
To change what happens with alerts, see automations.py; flow runs on Kubernetes, see cluster.py.
May import candlecast and jobs.
"""
