"""Plans that are fed interval means, and losses that answer to lr."""

import math

from autotunenet.controllers import Cruise

NAN, INF = math.nan, math.inf
RISING = [1 + 1e-6 * i for i in range(400)]  # stalled without a doubt, and no lr helps


def cruise(lr=0.4, **kwargs):
    controller = Cruise(**kwargs)
    assert controller.start({"lr": lr}) == {"lr": lr}
    return controller


def play(controller, metrics, every=1, first=1):
    """Feed interval means; return the lr after each."""
    lrs = []
    for i, metric in enumerate(metrics, start=first):
        controller.observe(metric, i * every)
        lrs.append(controller.propose({"lr": lrs[-1] if lrs else 0.4})["lr"])
    return lrs


def respond(controller, loss, num, first=1):
    """Let `loss` answer to the lr in force and to the interval; return the lr after each."""
    lrs = [controller.planned_lr]
    for i in range(first, first + num):
        controller.observe(loss(lrs[-1], i), i)
        lrs.append(controller.propose({"lr": lrs[-1]})["lr"])
    return lrs[1:]


def floor(lr, i):
    """Stalled at a noise floor that comes down with lr, so that every cut pays."""
    return RISING[i] + lr
