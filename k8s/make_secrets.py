#!/usr/bin/env python3
"""Print the Secrets of a cluster as JSON, or the variables of compose.yaml, with new random passwords and an API key.

    k8s/make_secrets.py | kubectl apply -f -

    k8s/make_secrets.py --compose > .env

Run it once: a server that was initialised with other passwords refuses new ones. `--database HOST:PORT` names a server
that is not in the cluster; then its roles must have the passwords that are printed. Production keeps its secrets in a
store of its own (docs/how-to/deploy-on-kubernetes.md) and needs the same names and keys.
"""

from __future__ import annotations

import argparse
import json
import secrets


def make_variables() -> dict[str, str]:
    """Value by variable of compose.yaml."""
    roles = ("postgres", "owner", "writer", "reader", "mlflow", "prefect", "browser")
    return {
        **{f"{role.upper()}_PASSWORD": secrets.token_urlsafe(24) for role in roles},
        "API_KEY": secrets.token_urlsafe(24),
        "PREFECT_LOGIN": f"candlecast:{secrets.token_urlsafe(24)}",
    }


def make_secrets(database: str) -> dict[str, dict[str, str]]:
    """Value by key, by name of the Secret."""
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
    """Print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", default="postgres:5432", help="HOST:PORT of PostgreSQL")
    parser.add_argument("--namespace", default="candlecast")
    parser.add_argument("--compose", action="store_true", help="print the file .env of compose.yaml instead")
    asked = parser.parse_args()
    if asked.compose:
        print("\n".join(f"{name}={value}" for name, value in make_variables().items()))
        return
    items = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": asked.namespace},
            "type": "Opaque",
            "stringData": values,
        }
        for name, values in make_secrets(asked.database).items()
    ]
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1))


if __name__ == "__main__":
    main()
