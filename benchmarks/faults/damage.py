"""Files that a crash or a bad disk leaves damaged: a torn line, a corrupted checkpoint."""

from faults.trial import MissedError


def tear_a_row(trial):
    """A row of a cell in its middle was half written when the power failed."""
    trial.interrupt()
    trial.note_finished()
    folder = trial.rng.choice(trial.unfinished())
    row = trial.rng.choice(folder.events_path.read_bytes().splitlines(keepends=True))
    with folder.events_path.open("ab") as file:
        file.write(row[: trial.rng.randrange(1, len(row))])


def corrupt_a_checkpoint(trial):
    """A checkpoint was cut short, or bits of it flipped: it is refused by its name, and removed as the message says."""
    trial.interrupt()
    trial.note_finished()
    folder = trial.rng.choice(trial.unfinished())
    path, content = folder.path / "checkpoint.pt", bytearray((folder.path / "checkpoint.pt").read_bytes())
    place = trial.rng.randrange(len(content))
    if trial.rng.random() < 0.5:
        del content[place:]
    else:
        content[place] ^= 1 << trial.rng.randrange(8)
    path.write_bytes(content)
    failures = trial.run()
    if not failures:  # a bit that nothing depends on, such as one of the padding
        if not trial.is_complete():
            raise AssertionError("neither refused nor done")
        return
    if list(failures) != [folder.path.name] or str(path) not in failures[folder.path.name]:
        raise AssertionError(f"not told: {failures}")
    path.unlink()
    trial.begun_anew.add(folder.path.name)


def go_through_nan(trial):
    """Every loss is NaN from a step on, and a worker is killed on the way."""
    from faults.kills import kill_a_worker

    kill_a_worker(trial)
    rows = [line for folder in trial.done() for line in folder.events_path.read_text().splitlines()]
    if not any('"nan"' in row for row in rows):
        raise MissedError("no loss was NaN")
