"""On what a run is computed: said in the config, stored in the spec, handled in one place."""

import functools
import gc
import json

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from autotunenet.adapters.pytorch import TorchRun
from autotunenet_bench import runners
from autotunenet_bench.config import ConfigError, RunSpec, parse_config
from autotunenet_bench.config.compute import Compute
from autotunenet_bench.data import DataSource, TensorBatches
from autotunenet_bench.data.preparing import AugmentAndNormalise
from autotunenet_bench.data.text_batches import TextBatches
from autotunenet_bench.device import CPU, STEPS_AHEAD, Device, Feed, has_cuda
from autotunenet_bench.results import RunFolder
from autotunenet_bench.suite import resolve
from autotunenet_bench.tasks import DigitsMlp

SOURCE = DataSource()


def spec_of(compute=""):
    text = "{task: digits_mlp, regime: stationary, controller: autotunenet, num_epochs: 3, seeds: [0]"
    (spec,) = resolve(parse_config(f"{text}, compute: {{{compute}}}}}", "a.yaml"), SOURCE)
    return spec


def rows(folder):
    return [{key: value for key, value in event.items() if key != "clock"} for event in folder.events()]


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_run_on_the_cpu_keeps_the_id_it_had_before_there_was_a_choice():
    spec = spec_of()
    assert "compute" not in spec.model_dump(mode="json")
    assert spec_of("device: cpu, precision: float32").run_id == spec.run_id


def test_what_a_spec_says_of_it_is_read_back():
    spec = spec_of("precision: bfloat16, compile: true")
    assert spec.model_dump(mode="json")["compute"] == {"precision": "bfloat16", "compile": True}
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec
    assert len({spec_of(one).run_id for one in ("", "precision: bfloat16", "compile: true")}) == 3


def test_auto_is_stored_as_what_it_came_to():
    assert spec_of("device: auto").compute.device == ("cuda" if has_cuda() else "cpu")


@pytest.mark.skipif(has_cuda(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused_before_the_first_run():
    with pytest.raises(ConfigError, match=r"compute.device: cuda is asked for, .* set compute.device to auto or cpu"):
        spec_of("device: cuda")


@pytest.mark.skipif(has_cuda(), reason="there is a GPU here")
def test_a_run_of_a_gpu_is_not_continued_without_one(tmp_path, one_thread):
    stored = json.loads(spec_of().model_dump_json()) | {"compute": {"device": "cuda"}}
    with pytest.raises(ValueError, match="no CUDA GPU"):
        runners.run(RunSpec.model_validate_json(json.dumps(stored)), SOURCE, RunFolder(tmp_path / "run"))


def test_an_unknown_device_is_named_with_those_that_exist():
    with pytest.raises(ConfigError, match="must be one of auto, cpu, cuda"):
        spec_of("device: gpu")


class Spied(DigitsMlp):
    """Takes note of the types that the model's last layer returns."""

    def build_model(self) -> nn.Module:
        model = super().build_model()
        model.seen = set()
        model[-1].register_forward_hook(lambda module, inputs, outputs: model.seen.add(outputs.dtype))
        return model


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_precision_is_that_of_the_passes_and_not_of_the_weights(precision, dtype):
    task = Spied()
    data, info = task.load(SOURCE)
    spec = spec_of().model_copy(update={"task": task, "data": info})
    training = runners.online.Training(spec, data, Device("cpu", precision))
    training.run_epoch()
    model = training._workload.model
    assert model.seen == {dtype}  # in training and in the validation alike
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}


def test_a_run_in_bfloat16_resumes_bit_for_bit(tmp_path, one_thread):
    spec = spec_of("precision: bfloat16")

    def cut(event):
        if event.get("epoch") == 2:
            raise InterruptedError

    whole, parted = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parted")
    runners.run(spec, SOURCE, whole)
    with pytest.raises(InterruptedError):
        runners.run(spec, SOURCE, parted, cut)
    runners.run(spec, SOURCE, parted)
    assert rows(parted) == rows(whole)


@pytest.fixture
def without_code(monkeypatch):
    """Graphs are made and counted, but no code of them, which is torch's own matter: 20 s, with a compiler."""
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="aot_eager"))


def test_a_compiled_model_trains_alike_and_is_compiled_once(one_thread, without_code):
    task = DigitsMlp(batch_size=479)  # 3 batches of one shape
    data, info = task.load(SOURCE)
    spec = spec_of().model_copy(update={"task": task, "data": info})
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    plain, compiled = (runners.online.Training(spec, data, Device(compiles=choice)) for choice in (False, True))
    for _ in range(3):
        expected, found = (training.run_epoch() for training in (plain, compiled))
        assert found[-1].get("losses", found[0].get("losses")) == pytest.approx(
            expected[-1].get("losses", expected[0].get("losses")), rel=1e-4
        )
    assert plain.state_dict()["passes"] == compiled.state_dict()["passes"] == 9
    # One graph for training and one for evaluation; a counter inside of them would have made one for every pass.
    assert 2 <= torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 4
    assert list(plain.state_dict()["model"]) == list(compiled.state_dict()["model"])


def test_running_draws_from_its_own_seed_and_leaves_all_as_it_was():
    before = torch.get_rng_state(), torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    with CPU.running(7):
        first = torch.rand(3)
        state = CPU.random_state()
        expected = torch.rand(3)
        CPU.set_random_state({**state, "epoch": 3})
        assert torch.equal(torch.rand(3), expected)
    with CPU.running(7):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert before[1:] == (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)


META = Device("meta")  # type: ignore[arg-type]  # a device that every torch has

PIXELS = torch.arange(5 * 12, dtype=torch.uint8).view(5, 3, 2, 2)
WORDS = torch.tensor([[5, 6, 7, 8], [8, 0, 0, 0], [3, 4, 0, 0], [1, 1, 1, 0], [2, 0, 0, 0]])

STREAMS = {
    "in order": TensorBatches(torch.arange(5.0), torch.arange(5), batch_size=2),
    "shuffled": TensorBatches(torch.arange(5.0), torch.arange(5), batch_size=2, seed=3),
    "augmented": TensorBatches(
        PIXELS,
        torch.arange(5),
        batch_size=2,
        seed=3,
        preparation=AugmentAndNormalise((0.5,) * 3, (0.2,) * 3, padding=1),
    ),
    "texts": TextBatches(WORDS, torch.arange(5), batch_size=2, seed=3),
}


class TooLarge(Device):
    def free_memory(self):
        return 4 * 8.0  # a quarter of it is less than any of the streams


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("device", [META, TooLarge("meta")], ids=["resident", "moved"])
def test_every_batch_goes_to_the_device_and_the_data_stay(name, device):
    batches = STREAMS[name]
    moved = Feed(device)(batches)
    assert {part.device.type for batch in moved.epoch(1) for part in batch} == {"meta"}
    shapes = [[part.shape for part in batch] for batch in moved.epoch(1)]
    assert shapes == [[part.shape for part in batch] for batch in batches.epoch(1)]
    assert len(moved) == len(batches) == 3
    assert batches.inputs.device.type == "cpu"
    assert Feed(CPU)(batches) is batches


@pytest.mark.parametrize("name", STREAMS)
def test_batches_cut_from_copies_are_the_same(name):
    batches = STREAMS[name]
    placed = batches.placed(torch.clone)
    for epoch in (1, 2):
        for ours, theirs in zip(placed.epoch(epoch), batches.epoch(epoch), strict=True):
            assert all(map(torch.equal, ours, theirs))


class Arrivals(TorchDispatchMode):
    """Counts what comes from the host to the device that is none."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default and result.device.type == "meta" != args[0].device.type:
            self.sizes.append(args[0].numel())
        return result


def test_data_are_copied_to_the_device_once_and_what_a_regime_replaces_when_it_comes():
    batches = TensorBatches(torch.arange(60.0).view(20, 3), torch.arange(20), batch_size=2, seed=3)
    shifted = batches.with_tensors(targets=batches.targets + 1)
    feed = Feed(META)
    with Arrivals() as arrivals:
        for stream in (batches, shifted, batches):
            for epoch in (1, 2):
                list(feed(stream).epoch(epoch))
    order = 20  # of each epoch
    assert arrivals.sizes == [60, 20, order, order, 20, order, order, order, order]
    with Arrivals() as arrivals:
        list(Feed(TooLarge("meta"))(batches).epoch(1))
    assert len(arrivals.sizes) == 2 * len(batches)


def test_copies_go_with_the_data_they_are_of():
    feed = Feed(META)
    feed(TensorBatches(torch.zeros(4), torch.zeros(4), batch_size=2))
    gc.collect()
    assert len(feed._copies) == 0


class Far(Device):
    """A CPU whose losses are left where they are, as those of a GPU are."""

    loss_of = Device("cuda").loss_of
    numbers = Device("cuda").numbers


@pytest.mark.parametrize("controller", ["autotunenet", "fixed", "greedy_lr", "lr_range_test", "sigma_skip"])
def test_losses_that_are_not_read_at_every_step_train_alike(controller, one_thread):
    text = (
        f"{{task: digits_mlp, regime: {{name: loss_noise, kind: outliers, severity: 0.5}}, controller: {controller}, "
        "num_epochs: 2, seeds: [0]}"
    )
    (spec,) = resolve(parse_config(text, "a.yaml"), SOURCE)
    data, _ = spec.task.load(SOURCE)

    def rows_on(device):
        with device.running(0):
            training = runners.online.Training(spec, data, device)
            events = [event for _ in range(2) for event in training.run_epoch()]
        return [{key: value for key, value in event.items() if key != "clock"} for event in events]

    near, far = rows_on(CPU), rows_on(Far())
    assert repr(far) == repr(near)
    assert all(isinstance(loss, float) for event in far if event["event"] == "epoch" for loss in event["losses"])


class Arrived:
    """A loss that was sent for."""

    def __init__(self, loss):
        self._loss = loss

    def value(self):
        return self._loss.item()


class Event:
    """What the device has done so far; it counts who waits for it."""

    num_waited = 0

    def synchronize(self):
        Event.num_waited += 1


@pytest.mark.parametrize("controller", ["autotunenet", "heuristic"])
def test_a_run_whose_tuner_hears_of_losses_late_resumes_bit_for_bit(controller, tmp_path, monkeypatch, one_thread):
    sent = []

    def send_for(loss):
        sent.append(loss)
        return Arrived(loss)

    class FarAndPaced(Far):
        def record_event(self):
            return Event()

    monkeypatch.setattr(TorchRun, "send_for", staticmethod(send_for))
    monkeypatch.setattr(Compute, "live", lambda compute: FarAndPaced())
    (spec,) = resolve(
        parse_config(
            f"{{task: digits_mlp, regime: stationary, controller: {controller}, num_epochs: 6, seeds: [0]}}", "a.yaml"
        ),
        SOURCE,
    )

    def cut(event):
        if event.get("epoch") == 4:
            raise InterruptedError

    whole, parted = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parted")
    Event.num_waited = 0
    runners.run(spec, SOURCE, whole)
    num_steps = [event for event in whole.events() if event["event"] == "epoch"][-1]["step"]
    assert Event.num_waited == num_steps - 6 * STEPS_AHEAD
    assert len(sent) > num_steps // 3  # those of a launch are read at once
    with pytest.raises(InterruptedError):
        runners.run(spec, SOURCE, parted, cut)
    runners.run(spec, SOURCE, parted)
    assert rows(parted) == rows(whole)


@pytest.mark.skipif(not has_cuda(), reason="needs a GPU")
@pytest.mark.parametrize("name", STREAMS)
def test_batches_on_a_gpu_are_those_of_the_host(name):
    batches = STREAMS[name]
    for ours, theirs in zip(Feed(Device("cuda"))(batches).epoch(1), batches.epoch(1), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert torch.allclose(one.cpu(), other)


def test_placing_keeps_the_parameters_that_an_optimizer_has():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    Device().place(model)
    assert optimizer.param_groups[0]["params"][0] is model.weight


@pytest.mark.skipif(not has_cuda(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_on_a_gpu_resumes_and_says_what_it_ran_on(precision, tmp_path, one_thread):
    spec = spec_of(f"device: cuda, precision: {precision}")
    folder = RunFolder(tmp_path / "run")

    def cut(event):
        if event.get("epoch") == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        runners.run(spec, SOURCE, folder, cut)
    runners.run(spec, SOURCE, folder)
    events = list(folder.events())
    assert events[0]["device"]["name"] == torch.cuda.get_device_name()
    assert events[-1]["clock"]["peak_device_memory_bytes"] > 0
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2, 3]


def test_compute_in_words_of_the_schema():
    assert Compute().model_dump() == {}
    assert Compute(device="auto").resolved().device in ("cpu", "cuda")
