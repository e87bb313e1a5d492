"""Reference pages of the docs site, written from the code by `make docs`.

To change the pages of settings, commands, errors or the client, see code.py.
To change the pages of routes, metrics and alerts, see interfaces.py.
To change the page of tables, see tables.py; the pictures of imports, see imports.py.
To add a page, see pages.py.
May import candlecast, cli and service.
"""
