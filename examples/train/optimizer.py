"""Muon for the ternary matrices, Adam for everything else.

Muon replaces a matrix's momentum by its nearest orthogonal matrix, found with five Newton-Schulz steps in bf16. The state
lies in shared memory and each parameter has an owner, so several processes can each update their own.
"""

import torch


def orthogonal(m, steps=5):
    """The orthogonal factor of each matrix of a stack, roughly: singular values land near 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = m.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return (x.mT if tall else x).float()


class Optimizer:
    """Both optimizers behind one `step(grads, rate, ...)`, where `rate` runs from 0 to 1."""

    def __init__(self, model, muon_rate, adam_rate, decay, momentum=0.95, betas=(0.9, 0.95)):
        self.params = list(model.parameters())
        matrices = {id(p) for b in model.blocks for p in (b.q, b.k, b.v, b.o, b.gate, b.up, b.down)}
        self.is_matrix = [id(p) in matrices for p in self.params]
        self.muon_rate, self.adam_rate, self.decay, self.momentum, self.betas = muon_rate, adam_rate, decay, momentum, betas
        shared = lambda p: torch.zeros_like(p, requires_grad=False).share_memory_()
        #: Momentum, and for Adam the mean square as well.
        self.first = [shared(p) for p in self.params]
        self.second = [None if m else shared(p) for p, m in zip(self.params, self.is_matrix)]

    def owned(self, owner, owners):
        """The parameters of one owner: matrices of a shape are dealt out in turn, so each gets like work."""
        matrices = sorted((i for i, m in enumerate(self.is_matrix) if m), key=lambda i: self.params[i].shape)
        others = [i for i, m in enumerate(self.is_matrix) if not m]
        return matrices[owner::owners], others[owner::owners]

    @torch.no_grad()
    def step(self, grads, rate, count, owner=0, owners=1):
        """Updates the owner's parameters; `grads(i)` gives parameter i's gradient, `count` is this step's number from 1."""
        matrices, others = self.owned(owner, owners)
        by_shape = {}
        for i in matrices:
            by_shape.setdefault(tuple(self.params[i].shape), []).append(i)
        lr = self.muon_rate * rate
        for (rows, cols), members in by_shape.items():
            updates = []
            for i in members:
                grad = grads(i)
                self.first[i].lerp_(grad, 1 - self.momentum)
                updates.append(grad.lerp(self.first[i], self.momentum))
            updates = orthogonal(torch.stack(updates)) * max(1, rows / cols) ** 0.5
            for i, update in zip(members, updates):
                self.params[i].mul_(1 - lr * self.decay).add_(update, alpha=-lr)
        b1, b2 = self.betas
        for i in others:
            grad = grads(i)
            self.first[i].lerp_(grad, 1 - b1)
            self.second[i].lerp_(grad.square(), 1 - b2)
            size = (self.second[i] / (1 - b2**count)).sqrt_().add_(1e-10)
            self.params[i].addcdiv_(self.first[i], size, value=-self.adam_rate * rate / (1 - b1**count))

    def state(self):
        return {"first": self.first, "second": self.second}

    @torch.no_grad()
    def restore(self, state):
        for key in ("first", "second"):
            for mine, saved in zip(getattr(self, key), state[key]):
                if mine is not None:
                    mine.copy_(saved)
