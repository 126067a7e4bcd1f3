"""Plain PyTorch: a module and a `torch.optim.Optimizer` as a `TrainingRun`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from autotunenet.adapters._copying import (
    TreeCopier,
    are_finite,
    check_built,
    check_same,
    live_tree,
    restore_shared,
    restore_state,
)
from autotunenet.adapters._late import send_for
from autotunenet.adapters._optimizers import members_of
from autotunenet.adapters._ranks import ranks_of
from autotunenet.adapters._values import GroupValues
from autotunenet.state import check_keys
from autotunenet.types import Stateful

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

# Entries of a param group that belong to the user or to the user's scheduler. A restore leaves alone those of them
# that are not tuned. All else in a group is the optimizer's own memory (Prodigy's d, schedule-free's k) and goes back.
_USER_ENTRIES = frozenset({"lr", "initial_lr", "momentum", "betas", "weight_decay", "dampening", "eps"})


_PARTS = ("model", "others", "optimizer", "shared", "groups", "train_modes", "extras")


class TorchRun(GroupValues):
    """A model and its optimizer, or its optimizers, seen through a few named hyperparameters.

    Only the entries of the param groups that `names` asks for are ever written. ``"momentum"`` is the entry of that
    name or, where there is none, ``betas[0]``; any other name must be a numeric entry of every group. Where groups
    differ, the first group with a value above zero speaks for all and the others keep their ratio to it: of the values
    themselves, for momentum of ``1 - momentum``. A tensor value is filled in place and never rebound.

    **With an LR scheduler** lr is modulated: the scheduler goes on as if nobody were there, and every optimizer step
    runs at its lr times a factor. ``"lr"`` then is the *base* that the schedule is scaled to, what the step uses where
    the schedule's factor is 1; `schedule_factor` is that factor now, `effective_lr` what the next step will use. Before
    and after a step, and inside its closure, the groups hold the scheduler's values, bit for bit. Momentum that
    OneCycleLR or CyclicLR cycles is modulated in the same way: its base is ``max_momentum``, and ``1 - momentum`` is
    scaled.

    The base of a schedule is ``initial_lr``. OneCycleLR and CyclicLR have their lowest lr there, not their peak, so
    what a launch finds is put at the peak, where it is known (`schedule_top`): OneCycleLR leaves it in the groups,
    CyclicLR does not. Give a CyclicLR in `extras`, or else its cycle begins at the lr that was found and goes up from
    there, by as much as ``max_lr`` is above ``base_lr``.

    A scheduler that is made later takes what is in the groups then as its ``initial_lr``, and the factor begins at 1.
    While a launch tries learning rates, that is still the user's lr: only steps see the one that is tried.

    Schedule-free optimizers: a snapshot may be taken in either mode; a restore keeps the mode that the optimizer is in.

    Args:
        model: Its parameters and buffers are what a snapshot holds. All have values: lazy modules have been run once,
            and nothing is on the meta device.
        optimizer: Any optimizer with param groups; or a list of several that train different parameters of the model.
            Their groups count as one row: the first speaks for all, whichever optimizer is its.
        names: Names of the hyperparameters, for example a `SearchSpace`.
        extras: Further objects with ``state_dict`` and ``load_state_dict`` that a snapshot holds as well: an LR
            scheduler, a gradient scaler, an averaged model. Without a scheduler among them the user's goes on after a
            rollback as if there had been none.
        modulate: Whether a scheduler owns lr. None: as soon as there is one, by the traces it leaves
            (``initial_lr`` in the groups, a wrapped ``optimizer.step``) or because it is in `extras`. ReduceLROnPlateau
            and schedulers of your own that only write ``group["lr"]`` leave none: say True, or else their writes are
            taken over. True without any scheduler: the groups keep your lr and only steps see the tuned one. False:
            values are always written into the groups.
        process_group: Which processes train the model together, as in `autotunenet.AutoTuneNet`.
        snapshots_in_host_memory: Whether snapshots lie there and not beside the weights, for a model that does not fit
            twice into its device. The host waits for the copies then. Shards of a DTensor stay where they are.

    Raises:
        ValueError: If a group has no entry for one of the names, or if lr has to be modulated and cannot be: the
            optimizer has no step hooks, or another run modulates it. Where a scheduler is made later, this comes from
            the first method called after that, as it does where the scheduler has taken an lr that a launch tries.
            If two of several optimizers train the same parameter.
        TypeError: If one of `extras` has no state, or if `model` or `optimizer` is none.

    >>> import torch
    >>> model = torch.nn.Linear(2, 1)
    >>> run = TorchRun(model, torch.optim.Adam(model.parameters(), lr=0.1), names=("lr", "momentum"))
    >>> run.set_hyperparams({"lr": 0.05})
    >>> run.get_hyperparams()
    {'lr': 0.05, 'momentum': 0.9}

    Under a scheduler:

    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    >>> scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.25)
    >>> run = TorchRun(model, optimizer)
    >>> run.set_hyperparams({"lr": 2.0})
    >>> run.get_hyperparams(), run.schedule_factor, run.effective_lr, scheduler.get_last_lr()
    ({'lr': 2.0}, 0.25, 0.5, [0.125])
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        names: Iterable[str] = ("lr",),
        extras: Sequence[Stateful] = (),
        modulate: bool | None = None,
        *,
        process_group: Any = "auto",
        snapshots_in_host_memory: bool = False,
    ) -> None:
        self._snapshots_into: Literal["host", "beside"] = "host" if snapshots_in_host_memory else "beside"
        self.optimizers = members_of(model, optimizer)
        self.model = model
        params = [param for member in self.optimizers for group in member.param_groups for param in group["params"]]
        self._ranks = ranks_of(model, params, process_group)
        self._extras = tuple(extras)
        for extra in self._extras:
            if not isinstance(extra, Stateful):
                raise TypeError(f"extras need state_dict() and load_state_dict(); {type(extra).__name__} lacks them")
        # Not all are of torch's class: transformers' GreedyLR is not.
        schedulers = [extra for extra in self._extras if callable(getattr(extra, "get_last_lr", None))]
        super().__init__(self.optimizers, names, schedulers, modulate)

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer; the first one of several."""
        return self.optimizers[0]

    def params(self) -> list[Tensor]:
        """Return the parameters that are trained, in the order of the param groups."""
        return self._optimizers.params()

    def live_tree(self) -> dict[str, Any]:
        """Return all that a snapshot may hold, extras excepted, as nested dicts and lists of the live tensors."""
        return live_tree(self.model, self._optimizers, lambda entry: entry != "params")

    def shared_with(self, other: TorchRun) -> str | None:
        """Name a parameter that one of the two runs trains and a snapshot of the other one holds; None: there is none.

        Going back, one would undo the other's work.
        """
        ours, theirs = self._held(), other._held()
        for this, that in ((self, theirs), (other, ours)):
            for param in this.params():
                if id(param) in that:
                    return ours[id(param)]
        return None

    def _held(self) -> dict[int, str]:
        """Return the name of every parameter that a snapshot holds, by its identity."""
        others = {id(param): "a parameter outside of the model" for param in self.params()}
        return {**others, **{id(param): name for name, param in self.model.named_parameters()}}

    send_for = staticmethod(send_for)

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def copy_into(self, buffers: dict[str, Any] | None) -> dict[str, Any]:
        """Copy weights, module buffers, optimizer state, group entries and extras into `buffers`.

        Tensors of the same shape and dtype are copied in place, others are allocated anew. Returned are plain dicts,
        lists and tuples of tensors and values.

        A scheduler's values are not part of it, unless the scheduler is one of the extras; nor is the factor of a
        modulation, which is put back by `set_hyperparams`.

        Raises:
            ValueError: If parameters or buffers of the model have no values yet.
        """
        copier = TreeCopier(into=self._snapshots_into)
        copied = copier.copy(self._tree(), buffers)
        copier.run()
        return {
            **copied,
            "train_modes": self._optimizers.train_modes(),
            "extras": TreeCopier.cloned([extra.state_dict() for extra in self._extras], into=self._snapshots_into),
        }

    def copy_from(self, buffers: dict[str, Any]) -> None:
        """Copy `buffers` over the live state, in place: no tensor of the model, the optimizer or a group is replaced.

        Optimizer state that did not exist yet when the copy was made is removed, which is what makes the next step
        start it afresh. A schedule-free optimizer stays in the mode it is in: where the copy is of the other one, it
        moves there and back by its own means.

        Raises:
            ValueError: If `buffers` are of another model or optimizer; nothing is changed then.
        """
        tree = self.check_buffers(buffers)
        modes = self._optimizers.train_modes()
        self._optimizers.set_train_modes(buffers["train_modes"])
        copier = TreeCopier()
        copier.copy(buffers["model"], tree["model"])
        copier.copy(buffers["others"], tree["others"])
        # Parameters and groups that joined after the copy was made have nothing saved: theirs starts afresh too.
        saved_states: list[dict[str, Any]] = buffers["optimizer"]
        for i, (owner, group, param) in enumerate(self._optimizers.owned_params()):
            restore_state(owner, group, param, saved_states[i] if i < len(saved_states) else {}, copier)
        for member, shared in zip(self.optimizers, buffers["shared"], strict=True):
            restore_shared(member, shared, copier)
        for group, saved in zip(self._groups, buffers["groups"], strict=False):
            # Not what a scheduler has come to own since.
            group.update(copier.copy({k: v for k, v in saved.items() if self._is_restored(k)}, group))
        copier.run()
        self._optimizers.set_train_modes(modes)
        for extra, saved in zip(self._extras, buffers["extras"], strict=True):
            extra.load_state_dict(TreeCopier.cloned(saved))

    def check_buffers(self, buffers: dict[str, Any]) -> dict[str, Any]:
        """Refuse buffers that `copy_from` could not copy here; return the live tree that they fit.

        Raises:
            ValueError: If they are of another model, of another optimizer, or of other extras.
        """
        check_keys(type(self).__name__, buffers, _PARTS)
        check_built(buffers, num_optimizers=len(self.optimizers))
        if len(buffers["extras"]) != len(self._extras):
            raise ValueError(
                f"this snapshot is of {len(buffers['extras'])} extras, and this run has {len(self._extras)}; make it "
                "with the same extras"
            )
        tree = self._tree()
        check_same(buffers, tree)
        return tree

    def has_finite_weights(self) -> bool:
        """Whether every parameter that is trained is a finite number, as far as this process holds it."""
        return are_finite(self.params())

    # -- other processes ---------------------------------------------------------------------------------------------

    @property
    def ranks(self) -> tuple[int, ...]:
        """Global ranks of the processes that decide together."""
        return self._ranks.numbers

    @property
    def process_group(self) -> ProcessGroup | None:
        """Theirs; None where this one is alone."""
        return self._ranks.group

    def exchange(self, values: Sequence[float]) -> list[list[float]]:
        """Return what each process has given, in the order of `ranks`. Every process has to call it."""
        return self._ranks.exchange(values)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _tree(self) -> dict[str, Any]:
        self._settled()
        return live_tree(self.model, self._optimizers, self._is_restored)

    def _is_restored(self, entry: str) -> bool:
        if entry == "params":
            return False
        if entry not in _USER_ENTRIES or self._schedulers:
            return True
        return self._is_written(entry) or (entry == "betas" and self._is_written("momentum"))
