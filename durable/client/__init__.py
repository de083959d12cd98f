"""The client's side: connecting, instances, waiting for results."""

from durable.client.client import Client, connect
from durable.client.instance import Description, HistoryEvent, Instance, Page

__all__ = ["Client", "Description", "HistoryEvent", "Instance", "Page", "connect"]
