"""The sentences of the history: what a decision saw and did, with its numbers, for a person."""

from __future__ import annotations

import math

from autotunenet.snapshots import Scope, Snapshot
from autotunenet.types import Hyperparams, is_finite

_LIKE_A_PLATEAU = (
    " If it was a scheduler like ReduceLROnPlateau, which leaves no trace before it writes, make the tuner with "
    "modulate=True: what it writes is scaled then, and not written over."
)


def adaptation(
    current: Hyperparams, proposed: Hyperparams, applied: Hyperparams, known: Hyperparams | None = None
) -> str:
    """Say what a controller asked for, and what became of it.

    Args:
        current: In force before.
        proposed: Asked for.
        applied: In force after.
        known: What the tuner had put in force; where `current` is another, somebody else has changed it since. None:
            the same.

    >>> adaptation({"lr": 0.1}, {"lr": 0.4}, {"lr": 0.15})
    'Asked for lr 0.1 -> 0.4; bounded to lr 0.1 -> 0.15.'
    """
    if known is not None and (foreign := changes(known, current)):
        end = "that stands" if applied == current else "that was changed again"
        is_cut = current.get("lr", math.inf) < known.get("lr", 0.0)
        return (
            adaptation(current, proposed, applied)
            + f" Somebody else had changed {foreign} since the last decision; {end}."
            + (_LIKE_A_PLATEAU if is_cut else "")
        )
    if not is_finite(proposed):
        values = ", ".join(f"{name} = {value:.4g}" for name, value in proposed.items())
        return f"The controller asked for {values}, which is not finite: refused."
    wish, change = changes(current, proposed), changes(current, applied)
    if not wish:
        return f"Nothing was asked for; the guard changed {change}." if change else "Nothing was asked for."
    if all(math.isclose(applied[name], value, rel_tol=1e-6) for name, value in proposed.items()):  # float32, perhaps
        return f"Changed {change}."
    return f"Asked for {wish}; " + (f"bounded to {change}." if change else "the guard allowed no change.")


def interrupted_launch(foreign: str) -> str:
    """Say why a launch ends before it has found anything."""
    return (
        f"Somebody else had changed {foreign} in the middle of the launch, which cannot try an lr that is written "
        "over: it ends, and lr stays theirs. Leave lr alone, or make the tuner with launch=False or modulate=True."
    )


def rollback(loss: float, snapshot: Snapshot, applied: Hyperparams, scope: Scope, num_in_row: int) -> str:
    """Say why and where the tuner went back, and what it changed so that it does not meet the same wall."""
    kept = "" if scope == "full" else " (hyperparameters only: the weights stay as they are)"
    cut = changes(snapshot.hyperparams, applied) or "the same values, which already are at their bounds"
    return (
        f"The loss became {loss:.4g}; after step {snapshot.step} it was {snapshot.loss:.4g}. "
        f"Went back there{kept} with {cut}, rollback {num_in_row} in a row."
    )


def alarm(loss: float, snapshot: Snapshot) -> str:
    """Say what set a trial off."""
    return (
        f"The loss became {loss:.4g}; after step {snapshot.step} it was {snapshot.loss:.4g}. Went back there to see "
        "whether the data or the hyperparameters did it; the suspect state is kept."
    )


def stayed_back(verdict: str, snapshot: Snapshot, applied: Hyperparams, num_in_row: int) -> str:
    """Say why the tuner goes on from the good state, and with what."""
    cut = changes(snapshot.hyperparams, applied) or "the values it had there"
    return f"{verdict}. Goes on from step {snapshot.step} with {cut}, rollback {num_in_row} in a row."


def broken_data(loss: float, snapshot: Snapshot, in_force: Hyperparams, applied: Hyperparams) -> str:
    """Say that a state which had given a number gives none on the new data."""
    change = changes(in_force, applied)
    return (
        f"The state of step {snapshot.step}, which had given {snapshot.loss:.4g}, gives {loss:.4g} before any update: "
        "it is the data, look at them. Undone, as is whatever they break from here on; "
        + (f"{change}, as it was there." if change else "the values stay as they are.")
    )


def returned(verdict: str) -> str:
    """Say why the tuner goes on from the suspect state."""
    return f"{verdict}. Went back to where the alarm was, and judge from that level on."


def rewarmed(before: Hyperparams, applied: Hyperparams) -> str:
    """Say, after another sentence, that what is in force warms up again; empty where nothing was changed.

    >>> rewarmed({"lr": 0.1}, {"lr": 0.025})
    ' Warms up again on the new data: lr 0.1 -> 0.025.'
    """
    change = changes(before, applied)
    return f" Warms up again on the new data: {change}." if change else ""


def standstill(loss: float, in_force: Hyperparams, num_rollbacks: int) -> str:
    """Say that nothing has helped, and what is held."""
    values = ", ".join(f"{name} = {value:.4g}" for name, value in in_force.items())
    return (
        f"The loss is {loss:.4g} again after {num_rollbacks} rollbacks in a row: look at the data. Holds {values}, the "
        "most careful values so far, and undoes every such step without another word until a state has been proven."
    )


def acceptance(
    loss: float, snapshot: Snapshot, scope: Scope, *, num_rollbacks: int, num_futile: int, exhausted: bool
) -> str:
    """Say why the tuner stays at a bad loss instead of going back once more."""
    if exhausted:
        why = (
            f"{num_rollbacks} rollbacks in a row have not helped. Stayed, with the most careful values of them, which "
            "nobody may raise before a state has been proven"
        )
    elif scope == "full":
        why = (
            f"the state of step {snapshot.step}, which had given {snapshot.loss:.4g}, gave as bad a loss at once, "
            f"{num_futile} times in a row: the data have changed, not the weights. Stayed, with the last good values"
        )
    elif num_rollbacks:
        why = f"{num_rollbacks} rollbacks of the hyperparameters have not brought it back. Stayed"
    else:
        why = "no value is left to be cut. Stayed"
    return f"The loss is {loss:.4g}; {why}, and judge from this level on."


def changes(old: Hyperparams, new: Hyperparams) -> str:
    """List the values that differ; empty if none does.

    >>> changes({"lr": 0.1, "momentum": 0.9}, {"lr": 0.05, "momentum": 0.9})
    'lr 0.1 -> 0.05'
    """
    return ", ".join(f"{name} {old[name]:.4g} -> {new[name]:.4g}" for name in new if new[name] != old[name])
