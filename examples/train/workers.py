"""One process a core, together computing a step: gradients of small pieces, then the update.

A shared core stalls now and then, and threads that meet at every matrix product all wait for the one that stalled. Here
each process computes with one thread and takes the next piece when it is free; they meet twice a step. Each piece has its
own gradient buffer and the buffers are added in their order, so the result does not depend on who took which.
"""

import ctypes
import os
import signal
import sys

import torch
import torch.multiprocessing as mp

from optimizer import Optimizer

#: Rows of the batch computed at once hold this many tokens.
PIECE_TOKENS = 2048


class Workers:
    """The processes and what they share. The one that makes it is worker 0."""

    def __init__(self, model, optimizer: Optimizer, count, rows, length):
        context = mp.get_context("spawn")
        piece_rows = max(1, PIECE_TOKENS // length)
        self.count, self.pieces, self.piece_rows = count, rows // piece_rows, piece_rows
        assert self.pieces * piece_rows == rows
        self.model, self.optimizer = model.share_memory(), optimizer
        shared = lambda *shape, kind: torch.zeros(shape, dtype=kind).share_memory_()
        self.tokens, self.targets = (shared(rows, length, kind=torch.int64) for _ in range(2))
        self.mask, self.losses = shared(rows, length, kind=torch.float32), shared(self.pieces, kind=torch.float64)
        self.grads = [[shared(*p.shape, kind=torch.float32) for p in model.parameters()] for _ in range(self.pieces)]
        #: Share of the peak rate, number of the step, number of scored targets; a negative number of the step ends the work.
        self.order = shared(3, kind=torch.float64)
        self.next, self.meet = context.Value("i", 0), context.Barrier(count)
        shares = dict(self.__dict__)
        self.helpers = [context.Process(target=help, args=(shares, i), daemon=True) for i in range(1, count)]
        for helper in self.helpers:
            helper.start()
        self.prepare()

    def prepare(self):
        torch.set_num_threads(1)
        self.loss = torch.compile(self.model.loss, dynamic=False)

    def step(self, tokens, targets, mask, rate, number):
        """One step on this batch; gives its mean loss."""
        self.tokens.copy_(torch.from_numpy(tokens))
        self.targets.copy_(torch.from_numpy(targets))
        self.mask.copy_(torch.from_numpy(mask))
        self.order[:] = torch.tensor([rate, number, max(1.0, float(mask.sum()))])
        self.next.value = 0
        self.meet.wait()
        self.work(0)
        return self.losses.sum().item()

    def work(self, me):
        rate, number, scored = self.order.tolist()
        while (piece := self.take()) < self.pieces:
            rows = slice(piece * self.piece_rows, (piece + 1) * self.piece_rows)
            loss = self.loss(self.tokens[rows], self.targets[rows], self.mask[rows]) / scored
            loss.backward()
            self.losses[piece] = loss.item()
            for param, grad in zip(self.model.parameters(), self.grads[piece]):
                grad.copy_(param.grad)
                param.grad = None
        self.meet.wait()
        summed = lambda i: sum(piece[i] for piece in self.grads[1:]) + self.grads[0][i]
        self.optimizer.step(summed, rate, int(number), me, self.count)
        self.meet.wait()

    def take(self):
        with self.next.get_lock():
            self.next.value += 1
            return self.next.value - 1

    def end(self):
        self.order[1] = -1
        self.meet.wait()
        for helper in self.helpers:
            helper.join()


def help(shared, me):
    """The life of workers 1 and up."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # end with the parent
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    workers = Workers.__new__(Workers)
    workers.__dict__.update(shared)
    workers.prepare()
    while True:
        workers.meet.wait()
        if workers.order[1] < 0:
            os._exit(0)
        workers.work(me)
