"""Durable workflows for asyncio: plain ``async def`` functions that survive crashes and deployments."""

from durable.backends.records import Finding, ParentClose, Stats
from durable.client import Client, Description, HistoryEvent, Instance, Page, StallReport, connect
from durable.core.hooks import Hooks
from durable.core.payload import Codec
from durable.core.release import RELEASE
from durable.core.retry import Retry
from durable.errors import (
    ActivityTimeout,
    BackendError,
    DurableError,
    ForbiddenInWorkflow,
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFound,
    NonDeterminismError,
    NonRetryable,
    PayloadError,
    PayloadTooLarge,
    QueryFailed,
    RemoteError,
    RetryAfter,
    UpdateRejected,
    WorkerLost,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowTerminated,
)
from durable.primitives.activity import Activity, activity
from durable.primitives.attempt import ActivityInfo, activity_info, complete_later, heartbeat, transaction
from durable.primitives.child import ChildInstance, get_instance
from durable.primitives.condition import wait_condition
from durable.primitives.handler import query, update
from durable.primitives.info import WorkflowInfo, info, logger, now, random, uuid4
from durable.primitives.patched import patched
from durable.primitives.record import publish, set_status, set_var
from durable.primitives.side_effect import side_effect
from durable.primitives.signal import Signal
from durable.primitives.timer import sleep, sleep_until
from durable.primitives.workflow import Workflow, continue_as_new, start, workflow
from durable.worker.worker import Worker

__version__ = RELEASE

__all__ = [
    "Activity",
    "ActivityInfo",
    "ActivityTimeout",
    "BackendError",
    "ChildInstance",
    "Client",
    "Codec",
    "Description",
    "DurableError",
    "Finding",
    "ForbiddenInWorkflow",
    "HistoryEvent",
    "Hooks",
    "Instance",
    "InstanceAlreadyExists",
    "InstanceFinished",
    "InstanceNotFound",
    "NonDeterminismError",
    "NonRetryable",
    "Page",
    "ParentClose",
    "PayloadError",
    "PayloadTooLarge",
    "QueryFailed",
    "RemoteError",
    "Retry",
    "RetryAfter",
    "Signal",
    "StallReport",
    "Stats",
    "UpdateRejected",
    "Worker",
    "WorkerLost",
    "Workflow",
    "WorkflowCancelled",
    "WorkflowFailed",
    "WorkflowInfo",
    "WorkflowTerminated",
    "activity",
    "activity_info",
    "complete_later",
    "connect",
    "continue_as_new",
    "get_instance",
    "heartbeat",
    "info",
    "logger",
    "now",
    "patched",
    "publish",
    "query",
    "random",
    "set_status",
    "set_var",
    "side_effect",
    "sleep",
    "sleep_until",
    "start",
    "transaction",
    "update",
    "uuid4",
    "wait_condition",
    "workflow",
]
