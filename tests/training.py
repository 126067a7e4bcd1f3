"""The plain training loop that tests compare with or build on."""


def train_epoch(task, workload, epoch):
    """Train for one epoch without any tuner; return the losses."""
    losses = []
    for batch in workload.data.train.epoch(epoch):
        loss = task.loss(workload.model, batch)
        workload.optimizer.zero_grad()
        loss.backward()
        workload.optimizer.step()
        losses.append(loss.item())
    return losses
