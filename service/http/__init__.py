"""What all routes share: bodies, refusals, limits, the access log, the listening socket, database reads.

To change a refusal, see problems.py and body_errors.py; what a body may be, see body.py.
To change who may ask, see limits.py; query parameters, see parameters.py and times.py; reads, see reading.py.
To change how handlers find what they need, see resources.py; what OpenAPI says of them, see documented.py.
May import candlecast.
"""
