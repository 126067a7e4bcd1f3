"""The tools that sinks write to: where a sink of each kind writes in a test, and how to read it back."""

from __future__ import annotations

import json
import struct


def read_scalars(folder):
    """Return TensorBoard's scalars by tag: pairs of step and value."""
    events = accumulator(folder)
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def read_texts(folder):
    """Return TensorBoard's texts by tag: pairs of step and text."""
    events = accumulator(folder)
    return {
        tag.removesuffix("/text_summary"): [
            (e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }


def accumulator(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    return events.Reload()


def wandb_records(folder):
    """Yield the records of the offline run below `folder`: LevelDB's log format behind a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    data, position, message = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # no header crosses the end of a block
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        message += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            record = Record()
            record.ParseFromString(message)
            message = b""
            yield record


def wandb_history(folder):
    """Return the rows of the offline run below `folder`, as W&B's server will see them."""
    rows = [record.history for record in wandb_records(folder) if record.HasField("history")]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row.item} for row in rows]


def wandb_summary(folder):
    """Return the last value under each key of the summary."""
    updates = [item for record in wandb_records(folder) if record.HasField("summary") for item in record.summary.update]
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in updates}


def quiet_wandb(folder, monkeypatch):
    """Keep W&B offline, and its files below `folder`; return settings of a run that says nothing."""
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(folder / name.lower()))
    return wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)


def make_wandb_run(folder, monkeypatch):
    """Start an offline run below `folder`."""
    import wandb

    return wandb.init(project="tests", dir=str(folder), settings=quiet_wandb(folder, monkeypatch))


def end_wandb_run(run):
    """Finish a run, and wait until the process that writes its files has ended."""
    import wandb

    run.finish()
    wandb.teardown()


def make_mlflow_store(folder, monkeypatch):
    """Have MLflow keep its runs below `folder`; return the client that reads them."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", folder.as_uri())
    return mlflow.MlflowClient()


def read_mlflow(client, run_id):
    """Return the metrics of a run by name: pairs of step and value."""
    names = client.get_run(run_id).data.metrics
    return {name: [(m.step, m.value) for m in client.get_metric_history(run_id, name)] for name in names}
