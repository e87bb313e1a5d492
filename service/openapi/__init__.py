"""The OpenAPI document of all routes.

To change the document, see document.py; how types become schemas, see schemas.py; examples, see examples.py.
May import all other rooms of the service.
"""
