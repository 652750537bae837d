"""A local SES v2 over HTTP, with SES's limits and faults on demand.

``async with serve(Simulator(SimulatorConfig(max_send_rate=50))) as url: …``, and AWS_ENDPOINT_URL_SESV2 set to `url`.
"""

from .app import create_app, serve
from .archive import Archive
from .control import AccountChange, change_account
from .faults import Fault, Kind
from .journal import Accepted, Message
from .operations import Simulator
from .state import SimulatorConfig

__all__ = [
    "Accepted",
    "AccountChange",
    "Archive",
    "Fault",
    "Kind",
    "Message",
    "Simulator",
    "SimulatorConfig",
    "change_account",
    "create_app",
    "serve",
]
