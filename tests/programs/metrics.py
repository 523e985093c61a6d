"""Reads a page of metrics as Prometheus' own Python client does, in both formats: metrics.py URL

Prints JSON: {"open": […], "older": […]}, each a list of families with name, type, help, unit and samples.
"""

import json
import sys
import urllib.request

from prometheus_client import parser as older
from prometheus_client.openmetrics import parser as openmetrics

# What Prometheus sends (scrape protocols without protobuf), and what a browser or curl does.
OPEN = "application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.2"


def fetch(accept, expected):
    request = urllib.request.Request(sys.argv[1], headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        kind = answer.headers["Content-Type"]
        assert kind.startswith(expected), kind
        return answer.read().decode()


def told(families):
    return [
        {
            "name": family.name,
            "type": family.type,
            "help": family.documentation,
            "unit": family.unit,
            "samples": [{"name": s.name, "labels": s.labels, "value": s.value} for s in family.samples],
        }
        for family in families
    ]


print(
    json.dumps(
        {
            "open": told(openmetrics.text_string_to_metric_families(fetch(OPEN, "application/openmetrics-text; version=1.0.0"))),
            "older": told(older.text_string_to_metric_families(fetch("*/*", "text/plain; version=0.0.4"))),
        }
    )
)
