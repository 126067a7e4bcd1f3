"""A training with a tuner, saved and loaded as users do it."""

import io

import torch


class Saved:
    """What a training with `model`, `optimizer` and `tuner` puts into a checkpoint file, and takes out again."""

    def state(self):
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "tuner": self.tuner.state_dict(),
        }

    def save(self):
        file = io.BytesIO()
        torch.save(self.state(), file)
        return file

    def load(self, file):
        file.seek(0)
        state = torch.load(file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.tuner.load_state_dict(state["tuner"])
        return state


def plain(tree):
    """Dicts and lists alone, to be compared."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    return [plain(x) for x in tree] if isinstance(tree, list | tuple) else tree
