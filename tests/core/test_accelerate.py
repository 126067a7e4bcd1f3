"""AutoTuneNet beside what Accelerate has prepared: real accelerators, tiny models."""

import pytest
import torch

from autotunenet import Action, AutoTuneNet
from autotunenet.adapters.accelerate import prepare_tuner

pytestmark = [pytest.mark.xdist_group("accelerate"), pytest.mark.slow]

NUM_EPOCHS = 12


@pytest.fixture(autouse=True)
def _fresh_state():
    """An accelerator keeps its settings for the whole process."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def accelerator_of(**options):
    from accelerate import Accelerator

    return Accelerator(cpu=True, **options)


def make_model(seed=0):
    model = torch.nn.Linear(8, 1, bias=False)
    model.weight.data.normal_(generator=torch.Generator().manual_seed(seed)).mul_(0.1)
    return model


def make_loader(num=10, size=32):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(num * size, 8, generator=generator)
    targets = inputs.sum(1, keepdim=True) + 0.1 * torch.randn(num * size, 1, generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=size)


def loss_of(model, batch):
    inputs, targets = batch
    return torch.nn.functional.mse_loss(model(inputs), targets)


def error(model):
    return (model.weight.detach() - 1).abs().max().item()


class Run:
    """A training as users of Accelerate write it."""

    def __init__(self, accelerator, *, lr=30.0, seed=0, factor=None, num_steps=None, **options):
        self.accelerator, model = accelerator, make_model(seed)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.5)
        schedulers = [torch.optim.lr_scheduler.LambdaLR(optimizer, factor)] if factor else []
        prepared = accelerator.prepare(model, optimizer, make_loader(), *schedulers)
        self.model, self.optimizer, self.loader, *self.schedulers = prepared
        self.tuner = prepare_tuner(accelerator, self.model, self.optimizer, num_steps, **options)
        accelerator.register_for_checkpointing(self.tuner)

    def train(self, first_epoch=0, num_epochs=NUM_EPOCHS):
        for _ in range(first_epoch, num_epochs):
            for batch in self.loader:
                with self.accelerator.accumulate(self.model):
                    loss = loss_of(self.model, batch)
                    self.accelerator.backward(loss)
                    self.optimizer.step()
                    for scheduler in self.schedulers:
                        scheduler.step()
                    self.optimizer.zero_grad()
                    self.tuner.step(loss)
        return self


def train_by_hand(num_epochs, accumulate):
    """The same without Accelerate; the last micro-batches of an epoch are fewer."""
    model, losses = make_model(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0, momentum=0.5)
    loader = make_loader()
    tuner = AutoTuneNet(model, optimizer, num_epochs * -(-len(loader) // accumulate))
    for _ in range(num_epochs):
        for i, batch in enumerate(loader, start=1):
            loss = loss_of(model, batch)
            (loss / accumulate).backward()
            losses.append(loss.detach())
            if len(losses) == accumulate or i == len(loader):
                optimizer.step()
                optimizer.zero_grad()
                tuner.step(sum(losses) / len(losses))
                losses.clear()
    return model, tuner


@pytest.mark.parametrize(("accumulate", "num_epochs"), [(1, 12), (4, 30)])
def test_a_training_is_the_plain_loop_with_a_tuner_bit_for_bit(accumulate, num_epochs):
    num_steps = num_epochs * -(-10 // accumulate)
    run = Run(accelerator_of(gradient_accumulation_steps=accumulate), num_steps=num_steps).train(0, num_epochs)
    model, tuner = train_by_hand(num_epochs, accumulate)
    assert torch.equal(run.model.weight, model.weight)
    assert list(run.tuner.history) == list(tuner.history)
    assert any("launch ends" in decision.reason for decision in tuner.history)
    assert error(model) < 0.05


def test_a_prepared_scheduler_goes_on_as_if_nobody_were_there_and_is_scaled():
    run = Run(accelerator_of(), factor=lambda step: 1 / (1 + 0.05 * step)).train()
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(30.0 / 7)
    assert run.schedulers[0].get_last_lr() == [pytest.approx(30.0 / 7)]
    assert run.tuner.metrics()["autotunenet/multiplier"] < 0.1
    assert not any("Landing" in decision.reason for decision in run.tuner.history)
    assert error(run.model) < 0.1


def test_steps_that_the_gradient_scaler_skips_are_none():
    from accelerate.optimizer import AcceleratedOptimizer

    accelerator, model, scaler = accelerator_of(), make_model(), torch.amp.GradScaler("cpu", init_scale=2.0**126)
    inner = torch.optim.SGD(model.parameters(), lr=0.05)
    optimizer = AcceleratedOptimizer(inner, scaler=scaler)  # an accelerator makes one with a scaler on a GPU alone
    tuner = prepare_tuner(accelerator, model, optimizer, launch=False, interval=1)
    num_skipped = num_batches = 0
    for _ in range(2):
        for batch in make_loader():
            loss = loss_of(model, batch)
            scaler.scale(loss).backward()
            optimizer.step()
            optimizer.zero_grad()
            num_skipped += optimizer.step_was_skipped
            num_batches += 1
            assert (tuner.step(loss) is None) == (optimizer.step_was_skipped and num_batches > 1)
    assert 0 < num_skipped < num_batches
    assert tuner.history[-1].observation.step == num_batches - num_skipped + 1  # the first call counts in any case


def test_mixed_precision():
    run = Run(accelerator_of(mixed_precision="bf16"), num_steps=120).train()
    assert error(run.model) < 0.1


def test_weights_that_are_lost_come_back():
    run = Run(accelerator_of(), lr=0.02, num_steps=120).train(0, 9)
    run.model.weight.data.fill_(torch.nan)
    run.train(9)
    assert Action.ROLLBACK in [decision.action for decision in run.tuner.history]
    assert error(run.model) < 0.05


@pytest.mark.parametrize("epoch", [1, 4, 15], ids=["calibration", "launch", "cruise"])
@pytest.mark.parametrize("factor", [None, lambda step: 1 / (1 + 0.05 * step)], ids=["alone", "scheduler"])
def test_a_saved_state_goes_on_bit_for_bit(tmp_path, epoch, factor):
    options = {"factor": factor, "num_steps": 100}
    whole = Run(accelerator_of(gradient_accumulation_steps=2), **options)
    whole.train(0, epoch)
    whole.accelerator.save_state(tmp_path)
    whole.train(epoch, 20)
    resumed = Run(accelerator_of(gradient_accumulation_steps=2), lr=1e-3, seed=9, **options)
    resumed.accelerator.load_state(tmp_path)
    resumed.train(epoch, 20)
    assert torch.equal(whole.model.weight, resumed.model.weight)
    assert list(whole.tuner.history) == list(resumed.tuner.history)
    assert torch.load(tmp_path / "custom_checkpoint_0.pkl", weights_only=True)["_num_steps"] == 5 * epoch


def test_a_validation_metric_is_observed_and_the_tuner_lets_go():
    run = Run(accelerator_of(), num_steps=100)
    run.tuner.observe(torch.tensor(0.5))
    assert run.tuner.metrics()["autotunenet/validation"] == 0.5
    run.tuner.close()
    prepare_tuner(run.accelerator, run.model, run.optimizer).close()


def test_several_optimizers_for_one_loss_have_one_tuner():
    accelerator, model = accelerator_of(), torch.nn.Linear(8, 1)
    optimizers = [torch.optim.SGD([param], lr=lr) for param, lr in zip(model.parameters(), (0.2, 0.1), strict=True)]
    model, *optimizers = accelerator.prepare(model, *optimizers)
    tuner = prepare_tuner(accelerator, model, optimizers, launch=False)
    tuner.run.set_hyperparams({"lr": 0.4})
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [0.4, 0.2]


def test_what_cannot_be_is_an_error():
    from accelerate.utils import DistributedType

    accelerator = accelerator_of(gradient_accumulation_steps=2)
    model = make_model()
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=1.0))
    with pytest.raises(ValueError, match="accumulates the gradients of 2"):
        prepare_tuner(accelerator, model, optimizer, replay=print)
    tuner = prepare_tuner(accelerator, model, optimizer)
    with pytest.raises(TypeError, match=r"loss must be one number.*shape \(2,\)"):
        tuner.step(torch.ones(2))
    with pytest.raises(ValueError, match="has a tuner already"):
        prepare_tuner(accelerator, model, optimizer)
    accelerator.state.distributed_type = DistributedType.FSDP
    with pytest.raises(ValueError, match="training is FSDP"):
        prepare_tuner(accelerator, model, optimizer)


def train_and_tell(folder):
    """Of each of two processes."""
    run = Run(accelerator_of(), num_steps=120).train(0, 24)
    told = {"reasons": [decision.reason for decision in run.tuner.history]}
    told["weight"] = run.accelerator.unwrap_model(run.model).weight.detach()
    torch.save(told, folder / f"{run.accelerator.process_index}.pt")


def test_processes_decide_alike(tmp_path):
    from accelerate import debug_launcher

    debug_launcher(train_and_tell, (tmp_path,), num_processes=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["reasons"] == second["reasons"] != []
    assert torch.equal(first["weight"], second["weight"])
