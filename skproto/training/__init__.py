"""skorch glue: the net, in-memory batches, phases and callbacks."""

from skproto.training._callbacks import (
    Annealing,
    AtStart,
    ContextBridge,
    Convergence,
    HeldOutStopping,
    OneCycle,
    ProgressLine,
    TermRecorder,
)
from skproto.training._data import (
    BatchDataset,
    BatchLoader,
    TrainingData,
    chunk_rows,
    chunks,
    select_rows,
)
from skproto.training._net import PhaseEndError, PrototypeNet, WeightedTerms
from skproto.training._phases import (
    SOLVERS,
    Phase,
    history_frame,
    make_net,
    run_phases,
)

__all__ = [
    "SOLVERS",
    "Annealing",
    "AtStart",
    "BatchDataset",
    "BatchLoader",
    "ContextBridge",
    "Convergence",
    "HeldOutStopping",
    "OneCycle",
    "Phase",
    "PhaseEndError",
    "ProgressLine",
    "PrototypeNet",
    "TermRecorder",
    "TrainingData",
    "WeightedTerms",
    "chunk_rows",
    "chunks",
    "history_frame",
    "make_net",
    "run_phases",
    "select_rows",
]
