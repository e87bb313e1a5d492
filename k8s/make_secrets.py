#!/usr/bin/env python3
"""Print the Secrets of a cluster as JSON, or the variables of compose.yaml, with new random passwords and an API key.

    k8s/make_secrets.py | kubectl apply -f -

    k8s/make_secrets.py --compose > .env

Run it once, because a server keeps the passwords it was initialised with. `--database HOST:PORT` names a server outside
the cluster, whose roles must have the printed passwords. In production, use your secret store with the same names and
keys (docs/how-to/deploy-on-kubernetes.md).
"""

from __future__ import annotations

import argparse
import json
import secrets


def make_variables() -> dict[str, str]:
    """Make a value for each variable of compose.yaml."""
    roles = ("postgres", "owner", "writer", "reader", "mlflow", "prefect", "browser")
    return {
        **{f"{role.upper()}_PASSWORD": secrets.token_urlsafe(24) for role in roles},
        "API_KEY": secrets.token_urlsafe(24),
        "PREFECT_LOGIN": f"candlecast:{secrets.token_urlsafe(24)}",
    }


def make_secrets(database: str) -> dict[str, dict[str, str]]:
    """Make the values of each Secret, by key."""
    passwords = {
        role: secrets.token_urlsafe(24) for role in ("postgres", "owner", "writer", "reader", "mlflow", "prefect")
    }
    api_key, prefect_login = secrets.token_urlsafe(24), f"candlecast:{secrets.token_urlsafe(24)}"

    def url(role: str, name: str, scheme: str = "postgresql") -> str:
        password = passwords[role.removeprefix("candlecast_")]
        return f"{scheme}://{role}:{password}@{database}/{name}"

    owner_url = url("candlecast_owner", "candlecast")
    mlflow_url = url("mlflow", "mlflow", "postgresql+psycopg")
    prefect_url = url("prefect", "prefect", "postgresql+asyncpg")
    return {
        "candlecast-postgres": {
            "POSTGRES_USER": "postgres",
            **{f"{role.upper()}_PASSWORD": password for role, password in passwords.items()},
        },
        "candlecast-migrations": {"CANDLECAST_DATABASE_OWNER_URL": owner_url},
        "candlecast-flows": {
            "CANDLECAST_DATABASE_URL": url("candlecast_writer", "candlecast"),
            "CANDLECAST_API_KEYS": api_key,
            "PREFECT_API_AUTH_STRING": prefect_login,
        },
        "candlecast-service": {
            "CANDLECAST_DATABASE_READER_URL": url("candlecast_reader", "candlecast"),
            "CANDLECAST_API_KEYS": api_key,
        },
        "candlecast-worker": {"PREFECT_API_AUTH_STRING": prefect_login},
        "candlecast-mlflow": {"MLFLOW_BACKEND_STORE_URI": mlflow_url},
        "candlecast-prefect": {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": prefect_url,
            "PREFECT_SERVER_API_AUTH_STRING": prefect_login,
        },
        "candlecast-backup": {
            "CANDLECAST_DATABASE_OWNER_URL": owner_url,
            "MLFLOW_BACKEND_STORE_URI": mlflow_url,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": prefect_url,
        },
    }


def main() -> None:
    """Print secrets or variables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", default="postgres:5432", help="HOST:PORT of PostgreSQL")
    parser.add_argument("--namespace", default="candlecast")
    parser.add_argument("--compose", action="store_true", help="print the file .env of compose.yaml instead")
    arguments = parser.parse_args()
    if arguments.compose:
        print("\n".join(f"{name}={value}" for name, value in make_variables().items()))
        return
    items = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": arguments.namespace},
            "type": "Opaque",
            "stringData": values,
        }
        for name, values in make_secrets(arguments.database).items()
    ]
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1))


if __name__ == "__main__":
    main()
