"""The forecast service and its page. The only package that imports BentoML."""
