"""Is a server right on a host with several addresses? It is started on one, and asked at each."""

from udpkit.lab.multihomed.matrix import How, Kind, Matrix, Outcome, Port, Trial, Verdict
from udpkit.lab.multihomed.remedies import remedies
from udpkit.lab.multihomed.serving import NoPort, ServerEnded
from udpkit.lab.multihomed.stage import PLACES, Place, Stage, build
from udpkit.lab.multihomed.trying import Plan, on_stage, run

__all__ = [
    "PLACES",
    "How",
    "Kind",
    "Matrix",
    "NoPort",
    "Outcome",
    "Place",
    "Plan",
    "Port",
    "ServerEnded",
    "Stage",
    "Trial",
    "Verdict",
    "build",
    "on_stage",
    "remedies",
    "run",
]
