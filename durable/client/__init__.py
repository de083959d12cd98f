"""The client's side: connecting, instances, waiting for results."""

from durable.client.client import Client, connect
from durable.client.instance import Description, HistoryEvent, Instance, Page, StallReport

__all__ = ["Client", "Description", "HistoryEvent", "Instance", "Page", "StallReport", "connect"]
