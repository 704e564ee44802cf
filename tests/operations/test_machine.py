"""Random chains of edits keep every promise."""

import copy

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from skproto._editing import OPERATIONS, EditNotSupported, apply_edit

from .families import CASES, arguments_of

# How long the chains are, and how many: small, since edits of every family are chained.
N_CHAINS, N_STEPS = 2, 6


def machine(case):
    """Return the class of a state machine on a family."""

    class Edits(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.model = copy.deepcopy(case.model)
            self.used = set(self.model.prototype_ids_.tolist())
            self.before = []

        @rule(
            op=st.sampled_from(OPERATIONS),
            pick=st.integers(0, 100),
            repairs=st.booleans(),
            seed=st.integers(0, 3),
        )
        def edit(self, op, pick, repairs, seed):
            model = self.model
            ids, arguments = arguments_of(case, model, op)
            if isinstance(ids, int):
                ids = int(model.prototype_ids_[pick % len(model.prototype_ids_)])
            data = {"X": case.X, "y": case.y, **case.settings} if repairs else {}
            before = model.predict_proba(case.X[:8]), model.prototype_ids_.copy()
            try:
                apply_edit(model, op, ids, random_state=seed, **arguments, **data)
            except (ValueError, EditNotSupported):
                # Refused: locked, the last of its kind, no data. Nothing has changed.
                np.testing.assert_array_equal(
                    model.predict_proba(case.X[:8]), before[0]
                )
                np.testing.assert_array_equal(model.prototype_ids_, before[1])
                return
            self.before.append(before)
            created = set(model.edit_log_[-1]["created"])
            assert not created & self.used
            self.used |= created

        @rule()
        def undo(self):
            if not self.before:
                return
            self.model.undo()
            scores, ids = self.before.pop()
            np.testing.assert_array_equal(self.model.predict_proba(case.X[:8]), scores)
            np.testing.assert_array_equal(self.model.prototype_ids_, ids)

        @invariant()
        def what_is_shown_is_computed(self):
            model, X = self.model, case.X[:8]
            explanation = model.explain(X)
            explanation.verify()
            np.testing.assert_allclose(
                explanation.contributions.sum(axis=1) + explanation.bias,
                model.decision_function(X),
                rtol=1e-5,
                atol=1e-5,
            )
            n_prototypes = len(model.prototype_ids_)
            assert len(set(model.prototype_ids_.tolist())) == n_prototypes
            assert model.transform(X).shape[1] == n_prototypes
            assert len(model.edit_log_) == len(self.before)

    return Edits


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_chains_of_edits(case):
    run_state_machine_as_test(
        machine(case),
        settings=settings(
            max_examples=N_CHAINS,
            stateful_step_count=N_STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
