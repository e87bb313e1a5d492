"""What all routes share: bodies, refusals, limits, the access log, the listening socket, database reads.

To change a refusal, see problems.py and body_errors.py; what a body may be, see body.py.
To change who may ask, see limits.py; query parameters, see parameters.py; reads, see reading.py.
May import telemetry and candlecast.
"""
