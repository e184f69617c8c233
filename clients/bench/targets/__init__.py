"""What is measured: how to reach it, the requests it gets, and how to tell a right answer."""

from clients.bench.targets.connection import CallFailedError, Connection, TargetError, WrongAnswerError, connect
from clients.bench.targets.grpc_transport import DIRECT_METHOD, SERVICE_METHOD, STREAM_METHOD, channel_options
from clients.bench.targets.requests import Request, direct_request
from clients.bench.targets.target import GoldenRow, Target, golden_rows

__all__ = [
    "DIRECT_METHOD",
    "SERVICE_METHOD",
    "STREAM_METHOD",
    "CallFailedError",
    "Connection",
    "GoldenRow",
    "Request",
    "Target",
    "TargetError",
    "WrongAnswerError",
    "channel_options",
    "connect",
    "direct_request",
    "golden_rows",
]
