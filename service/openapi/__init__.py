"""The OpenAPI document of all routes.

To change the document, see document.py; how types become schemas, see schemas.py.
To change the example of a posted history, see examples.py.
To change what the document says of a route, see its handler and service/http/documented.py.
May import candlecast, http, models, predict and telemetry.
"""
